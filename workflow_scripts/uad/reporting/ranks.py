"""Rank of every arm on every cohort."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from uad.reporting import style
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.reporting.volume_scores import DETECTION, Place, VolumeScores, label_of

_EQUAL = 9  # decimals to which two means are the same


def rank_table(scores: VolumeScores, places: Sequence[Place], metric: str) -> pd.DataFrame:
    """Rank of each arm's main reading by its mean over test volumes, 1 is the best; ties share their mean rank.

    Returns:
        A row per arm, a column per place; NaN where the arm has no defined score.
    """
    names = [arm["arm"] for arm, _ in scores.main]
    means = [[scores.of(place, line)[metric].mean() for line in scores.main] for place in places]
    return pd.DataFrame(means, columns=names, dtype=float).T.round(_EQUAL).rank(ascending=False)


def ranks_figure(scores: VolumeScores, places: Sequence[Place]) -> Figure:
    """Rank over the places (cohort, modality), a panel for Dice and one for AUPRC, a line per arm's main reading."""
    looks = style.looks(scores.arms)
    with style.context():
        figure = style.new_figure(style.DOUBLE_CM, 0.32 * max(len(scores.main), 8) + 4.2)
        for panel, metric in zip(style.panels(figure, 2, 2, sharey=True), DETECTION, strict=True):
            _draw(panel, rank_table(scores, places, metric), looks)
            panel.set_title(METRICS[metric].title, loc="left")
            panel.set_xticks(range(len(places)), [cohort_title(*place).replace(" (", "\n(") for place in places])
            panel.set_xlim(-0.3, len(places) - 0.7)
            panel.set_yticks(range(1, len(scores.main) + 1))
            panel.set_ylim(len(scores.main) + 0.5, 0.5)
        figure.axes[0].set_ylabel("rank (1 is the best)")
        handles = [style.handle(looks[arm["arm"]], label_of((arm, ens))) for arm, ens in scores.main]
        style.legend(figure, handles, 2, scores.missing(places))
    return figure


def _draw(panel: Axes, ranks: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    for arm, row in ranks.iterrows():
        look = looks[str(arm)]
        panel.plot(range(len(row)), row, color=look.colour, marker=look.marker, markersize=5)

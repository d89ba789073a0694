"""Dice and AUPRC of every test volume: points over a box, a line per arm and reading."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from uad.reporting import style
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.reporting.volume_scores import DETECTION, Line, Place, VolumeScores, label_of

_GOLDEN = (math.sqrt(5) - 1) / 2
_HIGH = 0.6  # of a box, and of the points over it, in lines


def volumes_figure(scores: VolumeScores, places: Sequence[Place]) -> Figure:
    """Dice and AUPRC (%) of every test volume, a panel per (cohort, modality) and metric.

    A point is a volume's mean over folds; boxes show quartiles, whiskers the 5th and 95th percentile. A grey line is
    the mean of the ceiling. An arm without rows, or without a defined score, keeps its line, which says so.
    """
    shown = [(place, metric) for place in places for metric in DETECTION]
    columns = min(len(shown), 4)
    height = math.ceil(len(shown) / columns)
    with style.context():
        figure = style.new_figure(style.DOUBLE_CM, height * (0.38 * max(len(scores.lines), 3) + 1.6) + 1.0)
        panels = style.panels(figure, len(shown), columns, sharey=True)
        for panel, (place, metric) in zip(panels, shown, strict=True):
            _draw(panel, scores, place, metric)
            style.name_lines(panel, [label_of(line) for line in scores.lines])
            panel.set_title(cohort_title(*place), loc="left")
            panel.set_xlabel(METRICS[metric].heading)
        handles = [] if all(scores.ceiling(place).empty for place in places) else [style.ceiling_handle()]
        style.legend(figure, handles, columns, scores.missing(places))
    return figure


def _draw(panel: Axes, scores: VolumeScores, place: Place, metric: str) -> None:
    looks = style.looks(scores.arms)
    values = [_defined(scores, place, line, metric) for line in scores.lines]
    data = pd.concat(values, keys=range(len(values)), names=["line", "subject"]).rename("score").reset_index()
    if len(data):
        colours = {line: looks[arm["arm"]].colour for line, (arm, _) in enumerate(scores.lines)}
        data["height"] = data["line"] + _HIGH * data.groupby("line")["score"].transform(_spread)
        many = len(data) > style.MOST_VECTOR_POINTS
        seaborn.scatterplot(
            data=data, x="score", y="height", hue="line", palette=colours, legend=False, ax=panel,
            s=4, linewidth=0, alpha=0.4 if many else 0.8, rasterized=many,
        )  # fmt: skip
        seaborn.boxplot(
            data=data, x="score", y="line", orient="y", native_scale=True, width=_HIGH, ax=panel, color="#222222",
            fill=False, linewidth=0.6, whis=(5, 95), showfliers=False, zorder=3,
        )  # fmt: skip
    for line, found in enumerate(values):
        if found.empty:
            word = "missing" if scores.of(place, scores.lines[line]).empty else "undefined"
            style.say_in_line(panel, word, line)
    ceiling = scores.ceiling(place)[metric].mean()
    if not math.isnan(ceiling):
        panel.axvline(ceiling, zorder=2.5, **style.CEILING)
    top = np.nanmax([1.0, data["score"].max(), ceiling])
    panel.set_xlim(-0.03 * top, top * style.HEADROOM)
    panel.xaxis.set_major_locator(MaxNLocator(4))


def _defined(scores: VolumeScores, place: Place, line: Line, metric: str) -> pd.Series:
    return scores.of(place, line)[metric].dropna()


def _spread(scores: pd.Series) -> np.ndarray:
    """Heights in -0.5 to 0.5 that keep points of like scores apart: multiples of the golden ratio, by rank."""
    ranks = scores.rank(method="first").to_numpy() - 1
    return (ranks * _GOLDEN + 0.5) % 1 - 0.5

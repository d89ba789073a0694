"""Every arm against the best on the same test volumes: mean paired differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from uad.reporting import style
from uad.reporting.cells import Cell
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.reporting.significance import p_value
from uad.reporting.statistics import ALPHA, bootstrap_interval
from uad.reporting.volume_scores import DETECTION, Line, Place, VolumeScores, label_of


@dataclass(frozen=True)
class Difference:
    """An arm minus the best arm over the `n` volumes that both have a score of, in points of the metric.

    `low` and `high`: 95 % bootstrap interval, NaN with fewer than two volumes; `p`: of the paired permutation test,
    NaN likewise.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int


def paired_differences(
    scores: VolumeScores, place: Place, metric: str, rounds: int, seed: int
) -> tuple[Line | None, dict[str, Difference]]:
    """The line with the highest mean over volumes, and arm -> its difference to it, of main readings.

    rounds, seed: of the permutations and the bootstrap. Arms without a defined score are left out; None: all are.
    """
    values = {arm["arm"]: scores.of(place, (arm, ens))[metric].dropna() for arm, ens in scores.main}
    scored = [line for line in scores.main if len(values[line[0]["arm"]])]
    if not scored:
        return None, {}
    best = max(scored, key=lambda line: values[line[0]["arm"]].mean())
    top = values[best[0]["arm"]]
    found = {}
    for arm, _ in scored:
        own = values[arm["arm"]]
        paired = (own - top).dropna()
        if arm is not best[0] and len(paired):
            p = p_value(Cell(scores=own), Cell(scores=top), rounds, seed, "volumes")
            interval = bootstrap_interval(paired.to_numpy(), seed, rounds=rounds)
            found[arm["arm"]] = Difference(float(paired.mean()), *interval, p, len(paired))
    return best, found


def can_reach_significance(n: int) -> bool:
    """Whether a two-sided sign-flip test of `n` pairs can give p below 5 %: 2 of its 2^n patterns are as extreme."""
    return 2 / 2**n < ALPHA


def differences_figure(scores: VolumeScores, places: Sequence[Place], rounds: int, seed: int) -> Figure:
    """Forest plot, a panel per (cohort, modality) and metric: mean paired difference to the best arm (points), with
    95 % bootstrap interval; filled where the paired test gives p < 5 %.

    The best arm is a hollow marker at 0 without interval. Where the volumes are too few for any test, the panel says
    so. `rounds` and `seed` as in `paired_differences`.
    """
    shown = [(place, metric) for place in places for metric in DETECTION]
    columns = min(len(shown), 4)
    height = math.ceil(len(shown) / columns)
    with style.context():
        figure = style.new_figure(style.DOUBLE_CM, height * (0.38 * max(len(scores.main), 3) + 2.2) + 1.0)
        panels = style.panels(figure, len(shown), columns, sharey=True)
        for panel, (place, metric) in zip(panels, shown, strict=True):
            best, found = paired_differences(scores, place, metric, rounds, seed)
            _draw(panel, scores, best, found)
            style.name_lines(panel, [label_of(line) for line in scores.main])
            n = max((difference.n for difference in found.values()), default=0)
            panel.set_title(f"{cohort_title(*place)}, n = {n}", loc="left")
            untested = f"\nn = {n}: no test can reach {ALPHA:.0%}".replace("%", " %")
            panel.set_xlabel(f"{METRICS[metric].title} minus best (points){untested * (not can_reach_significance(n))}")
        style.legend(figure, _handles(), columns, scores.missing(places))
    return figure


def _draw(panel: Axes, scores: VolumeScores, best: Line | None, found: dict[str, Difference]) -> None:
    looks = style.looks(scores.arms)
    panel.axvline(0, color="#999999", linewidth=0.8, zorder=1)
    for height, (arm, _) in enumerate(scores.main):
        look = looks[arm["arm"]]
        point: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markeredgewidth": 0.9, "zorder": 3}
        difference = found.get(arm["arm"])
        if difference is not None:
            panel.plot([difference.low, difference.high], [height, height], color=look.colour, linewidth=1.0)
            filled = difference.p < ALPHA
            panel.plot([difference.mean], [height], markerfacecolor=look.colour if filled else "white", **point)
        elif best is not None and arm is best[0]:
            panel.plot([0], [height], markerfacecolor="white", **point)
            panel.annotate("best", (0, height), (-4, 0), textcoords="offset points", ha="right", va="center",
                           fontsize=6, color=style.WORD_GREY)  # fmt: skip
        else:
            style.say_in_line(panel, "undefined", height)
    ends = [end for difference in found.values() for end in (difference.mean, difference.low, difference.high)]
    low, high = np.nanmin([*ends, -0.5]), np.nanmax([*ends, 0.0])
    margin = 0.06 * (high - low)
    panel.set_xlim(low - margin, high + margin)
    panel.xaxis.set_major_locator(MaxNLocator(4))


def _handles() -> list[Line2D]:
    point: dict[str, Any] = {"color": "#444444", "marker": "o", "linestyle": "", "markeredgewidth": 0.9}
    return [
        Line2D([], [], label="p < 5 % (paired test)", **point),
        Line2D([], [], label="not significant", markerfacecolor="white", **point),
        Line2D([], [], color="#444444", linewidth=1.0, label="95 % interval of the mean"),
    ]

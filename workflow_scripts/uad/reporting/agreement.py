"""Predicted against true lesion volume (Bland and Altman 1986): how much too much, or too little, an arm finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

from uad.reporting import style
from uad.reporting.paper_numbers import cohort_title
from uad.reporting.volume_scores import Place, VolumeScores, label_of

_NORMAL_95 = 1.96  # standard deviations about the mean that hold 95 % of a normal distribution
_LINEAR_ML = 1.0  # axes are linear up to here: differences have both signs


class Limits(NamedTuple):
    """Bias and 95 % limits of agreement in ml; the limits are NaN with fewer than two volumes, all are without any."""

    bias: float
    low: float
    high: float


def limits_of_agreement(differences: pd.Series) -> Limits:
    """Mean difference, and 1.96 standard deviations (n - 1) about it."""
    bias, half = float(differences.mean()), _NORMAL_95 * float(differences.std(ddof=1))
    return Limits(bias, bias - half, bias + half)


def agreement_figure(scores: VolumeScores, places: Sequence[Place]) -> Figure:
    """Two panels per (cohort, modality): predicted minus true lesion volume against the mean of both, a point per test
    volume and arm in its main reading; and bias with limits of agreement, a line per arm.
    """
    looks = style.looks(scores.arms)
    with style.context():
        size = style.DOUBLE_CM, len(places) * (0.3 * max(len(scores.main), 10) + 1.6) + 1.0
        figure = style.new_figure(*size)
        panels = style.panels(figure, 2 * len(places), 2)
        for place, points, bars in zip(places, panels[::2], panels[1::2], strict=True):
            found = {arm["arm"]: scores.of(place, (arm, ens)).dropna(subset="predicted_ml") for arm, ens in scores.main}
            _draw_points(points, found, looks)
            _draw_limits(bars, found, looks)
            style.name_lines(bars, [label_of(line) for line in scores.main])
            points.set_title(cohort_title(*place), loc="left")
            points.set_xlabel("mean of predicted and true volume (ml)")
            points.set_ylabel("predicted − true (ml)")
            bars.set_xlabel("predicted − true (ml): bias and 95 % limits")
        style.legend(figure, [], 2, scores.missing(places))
    return figure


def _draw_points(panel: Axes, found: dict[str, pd.DataFrame], looks: dict[str, style.Look]) -> None:
    many = sum(map(len, found.values())) > style.MOST_VECTOR_POINTS
    for arm, volumes in found.items():
        difference = volumes["predicted_ml"] - volumes["lesion_ml"]
        mean = (volumes["predicted_ml"] + volumes["lesion_ml"]) / 2
        panel.scatter(mean, difference, s=6, color=looks[arm].colour, marker=looks[arm].marker, linewidths=0,
                      alpha=0.5, rasterized=many)  # fmt: skip
    panel.axhline(0, color="#999999", linewidth=0.8, zorder=1)
    _scale(panel, "x")
    _scale(panel, "y")
    panel.set_xlim(left=0)


def _draw_limits(panel: Axes, found: dict[str, pd.DataFrame], looks: dict[str, style.Look]) -> None:
    for height, (arm, volumes) in enumerate(found.items()):
        look = looks[arm]
        limits = limits_of_agreement(volumes["predicted_ml"] - volumes["lesion_ml"])
        panel.plot([limits.low, limits.high], [height, height], color=look.colour, marker="|", markersize=5)
        panel.plot([limits.bias], [height], color=look.colour, marker=look.marker, zorder=3)
        if np.isnan(limits.bias):
            style.say_in_line(panel, "undefined", height)
    panel.axvline(0, color="#999999", linewidth=0.8, zorder=1)
    _scale(panel, "x")


def _scale(panel: Axes, axis: str) -> None:
    """Linear up to 1 ml on either side of 0, logarithmic beyond, with a label at 0 and at powers of ten."""
    panel.margins(0.06)
    panel.set(**{f"{axis}scale": "symlog"})
    side = getattr(panel, f"{axis}axis")
    side.set_major_locator(SymmetricalLogLocator(base=10, linthresh=_LINEAR_ML))
    side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))

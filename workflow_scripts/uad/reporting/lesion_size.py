"""Dice against lesion volume: how small a lesion an arm finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from uad.reporting import style
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.reporting.volume_scores import Place, VolumeScores, label_of

FEWEST = 5  # volumes in a bin
_MOST_BINS = 8
_MARGIN = 1.3  # factor between the outermost volumes and the ends of the axis: lesions may all be of one size


def binned_means(volumes: pd.DataFrame) -> pd.DataFrame:
    """Mean `dice` and geometric mean `lesion_ml` of bins of equal count over the lesion volume, smallest first.

    volumes: the two columns, without NaN, lesions above 0 ml. At most 8 bins of at least 5 volumes; no row where
    there are not enough for two bins.
    """
    bins = min(len(volumes) // FEWEST, _MOST_BINS)
    ordered = volumes.sort_values("lesion_ml", kind="stable")
    parts = np.array_split(np.arange(len(ordered)), bins) if bins > 1 else []
    means = [(ordered["dice"].iloc[part].mean(), np.exp(np.log(ordered["lesion_ml"].iloc[part]).mean()))
             for part in parts]  # fmt: skip
    return pd.DataFrame(means, columns=["dice", "lesion_ml"])


def lesion_size_figure(scores: VolumeScores, places: Sequence[Place]) -> Figure:
    """Dice (%) against lesion volume (ml, logarithmic), a panel per (cohort, modality): a point per test volume and arm
    in its main reading, and lines through `binned_means`; grey: the ceiling.
    """
    columns = min(len(places), 2)
    looks = style.looks(scores.arms)
    with style.context():
        figure = style.new_figure(style.width_cm(columns), 5.4 * math.ceil(len(places) / columns) + 2.2)
        for panel, place in zip(style.panels(figure, len(places), columns), places, strict=True):
            for line in scores.main:
                _draw(panel, _found(scores.of(place, line)), looks[line[0]["arm"]], len(scores.main))
            if not (ceiling := _found(scores.ceiling(place))).empty:
                _draw_ceiling(panel, ceiling)
            panel.set_title(cohort_title(*place), loc="left")
            panel.set_xlabel("lesion volume (ml)")
            panel.set_ylabel(METRICS["dice"].heading)
            if panel.has_data():
                _scale(panel)
            else:
                style.say(panel, "undefined")
        handles = [style.handle(looks[arm["arm"]], label_of((arm, ens))) for arm, ens in scores.main]
        handles += [] if all(scores.ceiling(place).empty for place in places) else [style.ceiling_handle()]
        style.legend(figure, handles, columns, scores.missing(places))
    return figure


def _found(volumes: pd.DataFrame) -> pd.DataFrame:
    """The volumes with a lesion and a defined Dice."""
    return volumes[(volumes["lesion_ml"] > 0) & volumes["dice"].notna()]


def _draw(panel: Axes, volumes: pd.DataFrame, look: style.Look, arms: int) -> None:
    if volumes.empty:
        return
    many = len(volumes) * arms > style.MOST_VECTOR_POINTS
    faint: dict[str, Any] = {"alpha": 0.25, "s": 4} if many else {"alpha": 0.7, "s": 8}
    panel.scatter(volumes["lesion_ml"], volumes["dice"], color=look.colour, marker=look.marker, linewidths=0,
                  rasterized=many, **faint)  # fmt: skip
    means = binned_means(volumes)
    panel.plot(means["lesion_ml"], means["dice"], color=look.colour, marker=look.marker)


def _draw_ceiling(panel: Axes, volumes: pd.DataFrame) -> None:
    """Through the means of bins, or through the volumes themselves where they are too few for bins."""
    means = binned_means(volumes)
    through = volumes.sort_values("lesion_ml", kind="stable") if means.empty else means
    panel.plot(through["lesion_ml"], through["dice"], zorder=1.9, **style.CEILING)


def _scale(panel: Axes) -> None:
    smallest, largest = panel.dataLim.intervalx
    panel.set(xscale="log", xlim=(smallest / _MARGIN, largest * _MARGIN))
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if largest < 100 * smallest else (1,)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda volume, _: f"{volume:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    top = max(panel.get_ylim()[1], 1.0)
    panel.set_ylim(-0.03 * top, top)
    panel.yaxis.set_major_locator(MaxNLocator(5))

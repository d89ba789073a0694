"""How the values of a map lie about the chosen threshold, in healthy scans, in healthy tissue and in lesions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from uad.reporting import style
from uad.reporting.paper_numbers import cohort_title
from uad.reporting.tally_curves import Place, Tallies, percentiles
from uad.reporting.volume_scores import VolumeScores, label_of

PERCENTS = (5, 25, 50, 75, 95)
_ENDS = (1 / 64, 16)  # of the axis; a box that goes on beyond is cut there
_TICKS = [1 / 16, 1 / 4, 1, 4]


@dataclass(frozen=True)
class _Group:
    """Voxels that share a box: its name, the opacity of its colour and its height in the arm's line."""

    name: str
    opacity: float
    shift: float


GROUPS = (
    _Group("healthy scans", 0.0, -0.28),
    _Group("patients, healthy tissue", 0.3, 0.0),
    _Group("lesions", 1.0, 0.28),
)


def relative_percentiles(tallies: Tallies, arm: str, place: Place, cohorts: Sequence[str], column: str) -> np.ndarray:
    """`PERCENTS` of the test voxels of some cohorts, all folds together, as multiples of the threshold of `place`.

    column: which voxels: "lesion", or "brain" (healthy, within the brain mask). NaN without voxels or threshold.
    """
    values, counts = [np.zeros(0)], [np.zeros(0)]
    for cohort in cohorts:
        for fold, tally in tallies.of(arm, (cohort, place[1]), "test").items():
            threshold = tallies.threshold(arm, place, fold)
            if not math.isnan(threshold):
                values.append(tally["value"].to_numpy() / threshold)
                counts.append(tally[column].to_numpy())
    return percentiles(np.concatenate(values), np.concatenate(counts), PERCENTS)


def distributions_figure(
    scores: VolumeScores, tallies: Tallies, places: Sequence[Place], healthy: Sequence[Place]
) -> Figure:
    """Three boxes per arm, a panel per (cohort, modality): map values as multiples of the chosen threshold.

    Boxes: quartiles and median, whiskers the 5th and 95th percentile, of healthy test scans of the same modality, of
    the healthy brain of the patients and of lesions. `healthy` lists (cohort, modality).
    """
    columns = len(places) if len(places) <= 4 else 3
    looks = style.looks(scores.arms)
    with style.context():
        rows = math.ceil(len(places) / columns)
        size = style.width_cm(columns), rows * (0.5 * max(len(scores.main), 3) + 1.7) + 1.0
        figure = style.new_figure(*size)
        panels = style.panels(figure, len(places), columns, sharey=True)
        for panel, place in zip(panels, places, strict=True):
            same = [cohort for cohort, modality in healthy if modality == place[1]]
            sources = ((same, "brain"), ([place[0]], "brain"), ([place[0]], "lesion"))
            for line, (arm, _) in enumerate(scores.main):
                boxes = [relative_percentiles(tallies, arm["arm"], place, *source) for source in sources]
                _draw(panel, line, boxes, looks[arm["arm"]].colour)
            panel.axvline(1, color="#999999", linewidth=0.8, zorder=1)
            style.name_lines(panel, [label_of(line) for line in scores.main])
            panel.set_title(cohort_title(*place), loc="left")
            _scale(panel)
        handles = [Patch(facecolor=to_rgba("#444444", group.opacity), edgecolor="#444444", label=group.name)
                   for group in GROUPS]  # fmt: skip
        style.legend(figure, handles, columns, scores.missing(places))
    return figure


def _draw(panel: Axes, line: int, boxes: Sequence[np.ndarray], colour: str) -> None:
    if all(np.isnan(box).all() for box in boxes):
        style.say_in_line(panel, "no threshold", line)
    for group, box in zip(GROUPS, boxes, strict=True):
        if np.isnan(box).any():
            continue
        low, q1, median, q3, high = np.clip(box, *_ENDS)
        drawn = {"whislo": low, "q1": q1, "med": median, "q3": q3, "whishi": high}
        thin: dict[str, Any] = {"color": colour, "linewidth": 0.7}
        middle = "white" if group.opacity == 1 else colour
        panel.bxp(
            [drawn], positions=[line + group.shift], widths=0.22, orientation="horizontal", showfliers=False,
            patch_artist=True, manage_ticks=False, showcaps=False, whiskerprops=thin,
            boxprops={"facecolor": to_rgba(colour, group.opacity), "edgecolor": colour, "linewidth": 0.7},
            medianprops={"color": middle, "linewidth": 1.0},
        )  # fmt: skip


def _scale(panel: Axes) -> None:
    panel.set(xscale="log", xlim=_ENDS, xlabel="value / chosen threshold")
    style.label_multiples(panel, _TICKS)

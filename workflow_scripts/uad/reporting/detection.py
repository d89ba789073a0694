"""Precision-recall and ROC curves of the voxels of all test scans of a cohort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from uad.reporting import style
from uad.reporting.paper_numbers import cohort_title
from uad.reporting.tally_curves import OperatingPoints, Place, Tallies
from uad.reporting.volume_scores import VolumeScores, label_of

RECALLS = np.linspace(0.005, 1, 200)
FALSE_RATES = np.geomspace(1e-4, 1, 161)
_PREVALENCE: dict[str, Any] = {"color": style.WORD_GREY, "linestyle": ":", "linewidth": 1.0}


def detection_figure(scores: VolumeScores, tallies: Tallies, places: Sequence[Place]) -> Figure:
    """A panel of precision against recall and one of the ROC curve per (cohort, modality), a line per arm.

    Voxels of all test scans are pooled; of several folds, precision is averaged at equal recall, and recall at equal
    false-positive rate. A dotted line is the prevalence. The false-positive rate is over all voxels of the packed
    box, as in AUPRC and AUROC.
    """
    looks = style.looks(scores.arms)
    columns = min(2 * len(places), 4)
    with style.context():
        figure = style.new_figure(style.DOUBLE_CM, 4.4 * math.ceil(2 * len(places) / columns) + 2.0)
        panels = style.panels(figure, 2 * len(places), columns)
        for place, left, right in zip(places, panels[::2], panels[1::2], strict=True):
            for arm, _ in scores.main:
                points = [OperatingPoints.of(tally) for tally in tallies.of(arm["arm"], place, "test").values()]
                if points:
                    _draw(left, right, points, looks[arm["arm"]])
            _label(left, right, place)
        handles = [style.handle(looks[arm["arm"]], label_of((arm, ens))) for arm, ens in scores.main]
        handles.append(Line2D([], [], label="prevalence (chance)", **_PREVALENCE))
        style.legend(figure, handles, columns, scores.missing(places))
    return figure


def _draw(left: Axes, right: Axes, points: Sequence[OperatingPoints], look: style.Look) -> None:
    """One arm, of whose folds `points` are."""
    if not left.lines:  # the same for all arms
        left.axhline(float(np.mean([fold.prevalence for fold in points])), **_PREVALENCE)
    precision = np.mean([fold.precision_at(RECALLS) for fold in points], axis=0)
    recall = np.mean([fold.recall_at(FALSE_RATES) for fold in points], axis=0)
    line: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linewidth": 0.9, "markersize": 3}
    left.plot(RECALLS, precision, markevery=(0.05, 0.2), **line)
    right.plot(FALSE_RATES, recall, markevery=(0.05, 0.2), **line)


def _label(left: Axes, right: Axes, place: Place) -> None:
    left.set_title(cohort_title(*place), loc="left")
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    right.set(xlabel="false-positive rate", ylabel="recall", xscale="log", xlim=(1e-4, 1), ylim=(0, 1.02))

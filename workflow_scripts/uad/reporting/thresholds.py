"""Dice against the threshold on validation and test scans: whether the chosen threshold fits the test scans too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import LineStyleType

from uad.reporting import style
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.reporting.tally_curves import Place, Tallies, dice_at
from uad.reporting.volume_scores import VolumeScores, label_of

MULTIPLES = 2.0 ** (np.arange(-48, 49) / 16)  # of the chosen threshold: 1/8 to 8
_TICKS = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
_SPLITS: dict[str, LineStyleType] = {"test": "-", "val": (0, (3, 1.5))}


def thresholds_figure(scores: VolumeScores, tallies: Tallies, places: Sequence[Place]) -> Figure:
    """Dice (%) of the pooled voxels, before the component filter, against multiples of the chosen threshold.

    A panel per (cohort, modality), a colour per arm in its main reading; solid: test scans, dashed: the validation
    scans on which the threshold was chosen. Means over folds, each with its own threshold. An arm without a threshold
    above 0 has no line.
    """
    looks = style.looks(scores.arms)
    columns = 2 if len(places) == 4 else min(len(places), 3)
    with style.context():
        figure = style.new_figure(style.width_cm(columns), 5.2 * math.ceil(len(places) / columns) + 2.0)
        for panel, place in zip(style.panels(figure, len(places), columns), places, strict=True):
            panel.axvline(1, color="#999999", linewidth=0.8, zorder=1)
            for arm, _ in scores.main:
                for split, dash in _SPLITS.items():
                    dice = _dice(tallies, arm["arm"], place, split)
                    if dice is not None:
                        panel.plot(MULTIPLES, dice, color=looks[arm["arm"]].colour, linestyle=dash, linewidth=0.9)
            panel.set_title(cohort_title(*place), loc="left")
            panel.set(xscale="log", xlim=(MULTIPLES[0], MULTIPLES[-1]), ylabel=METRICS["dice"].heading)
            panel.set_xlabel("threshold / chosen threshold")
            style.label_multiples(panel, _TICKS)
            panel.set_ylim(bottom=0)
            panel.yaxis.set_major_locator(MaxNLocator(5))
        handles = [Line2D([], [], color=looks[arm["arm"]].colour, label=label_of((arm, ens)))
                   for arm, ens in scores.main]  # fmt: skip
        words = {"test": "test scans", "val": "validation scans"}
        handles += [Line2D([], [], color="#444444", linestyle=dash, label=words[split])
                    for split, dash in _SPLITS.items()]  # fmt: skip
        style.legend(figure, handles, columns, scores.missing(places))
    return figure


def _dice(tallies: Tallies, arm: str, place: Place, split: str) -> np.ndarray | None:
    """Mean over folds (%) at `MULTIPLES`; None without a tally or threshold."""
    curves = [
        dice_at(tally, MULTIPLES * threshold) * METRICS["dice"].scale
        for fold, tally in tallies.of(arm, place, split).items()
        if not math.isnan(threshold := tallies.threshold(arm, place, fold))
    ]
    return np.mean(curves, axis=0) if curves else None

"""Curves and percentiles from tallies of map values (docs/formats.md), pooled over the scans of a cohort and split.

A tally is a table with a row per bin: `value` (its lower edge) and counts of voxels. A voxel counts as above a
threshold where its bin's lower edge is at least that threshold: thresholds are true to a bin's width, 4 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

Place = tuple[str, str]  # cohort, modality


class OperatingPoints(NamedTuple):
    """What a map finds at falling thresholds, one entry per bin: lesion voxels and healthy voxels, as counts."""

    found: np.ndarray
    false: np.ndarray

    @classmethod
    def of(cls, tally: pd.DataFrame) -> OperatingPoints:
        falling = tally.sort_values("value", ascending=False)
        return cls(falling["lesion"].cumsum().to_numpy(), falling["healthy"].cumsum().to_numpy())

    def precision_at(self, recalls: np.ndarray) -> np.ndarray:
        """Precision at the highest threshold that reaches each recall (in 0 to 1, above 0); NaN without lesions."""
        if not self.found.size or not self.found[-1]:
            return np.full(len(recalls), np.nan)
        index = np.searchsorted(self.found, np.asarray(recalls) * self.found[-1] - 1e-9)  # up to rounding
        return self.found[index] / (self.found[index] + self.false[index])

    def recall_at(self, false_rates: np.ndarray) -> np.ndarray:
        """Recall at the lowest threshold that keeps each false-positive rate (in 0 to 1); NaN without lesions."""
        if not self.found.size or not self.found[-1] or not self.false[-1]:
            return np.full(len(false_rates), np.nan)
        index = np.searchsorted(self.false, np.asarray(false_rates) * self.false[-1] + 1e-9, side="right")
        return np.concatenate([[0], self.found])[index] / self.found[-1]

    @property
    def prevalence(self) -> float:
        """Share of lesion voxels; NaN without any voxel."""
        return float(self.found[-1] / (self.found[-1] + self.false[-1])) if self.found.size else float("nan")


def dice_at(tally: pd.DataFrame, thresholds: np.ndarray) -> np.ndarray:
    """Dice (0 to 1) of the pooled voxels at each threshold; NaN without lesions."""
    found, false = (_at_least(tally, column, thresholds) for column in ("lesion", "healthy"))
    lesion = tally["lesion"].sum()
    return 2 * found / (found + false + lesion) if lesion else np.full(len(thresholds), np.nan)


def _at_least(tally: pd.DataFrame, column: str, thresholds: np.ndarray) -> np.ndarray:
    """Voxels in bins whose lower edge is at least each threshold."""
    rising = tally.sort_values("value")
    above = np.concatenate([rising[column].to_numpy()[::-1].cumsum()[::-1], [0]])
    return above[np.searchsorted(rising["value"].to_numpy(), thresholds)]


def percentiles(values: np.ndarray, counts: np.ndarray, percents: Sequence[float]) -> np.ndarray:
    """The lowest value at or below which lies each percentage of the voxels; NaN without voxels."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(np.asarray(counts)[order])
    if not len(total) or not total[-1]:
        return np.full(len(percents), np.nan)
    return np.asarray(values)[order][np.searchsorted(total, np.asarray(percents) / 100 * total[-1] - 1e-9)]


class Tallies:
    """The tallies of a run in each arm's main reading, and the thresholds that were chosen."""

    def __init__(self, tallies: pd.DataFrame, thresholds: pd.Series) -> None:
        """tallies: as `uad.scoring.arm_files.read_arm_files` gives them; thresholds: as of `VolumeScores`."""
        main = tallies[tallies["t_test"].isin(["", "ens"])]
        keys = ["arm", "cohort", "modality", "split"]
        self._found: dict[Any, dict[int, pd.DataFrame]] = {
            key: {int(fold): tally for fold, tally in part.groupby("fold")} for key, part in main.groupby(keys)
        }
        self._thresholds = thresholds

    def of(self, arm: str, place: Place, split: str) -> dict[int, pd.DataFrame]:
        """fold -> tally; an arm that learns nothing has fold 0 alone."""
        return self._found.get((arm, *place, split), {})

    def threshold(self, arm: str, place: Place, fold: int) -> float:
        """The chosen threshold; NaN where there is none, or one of 0, which has no multiples."""
        threshold = self._thresholds.get((arm, *place, fold), np.nan)
        return float(threshold) if threshold > 0 else float("nan")

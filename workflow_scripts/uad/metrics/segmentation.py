"""Voxel-wise detection scores from one sort: AUPRC, AUROC, Dice.  docs/paper.md#metrics"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

Volume = tuple[np.ndarray, np.ndarray, "np.ndarray | None"]  # map, truth, valid


@dataclass(frozen=True)
class RankedCurve:
    """The voxels of one or more anomaly maps in rank order.

    Background is exactly 0 in most maps, so zeros are counted and only the rest is sorted: 4 bytes per
    non-zero voxel. A score is defined over *all* voxels, the zeros being one tie group.

    Attributes:
        values: float32, ascending, every value above 0.
        positives: float32, ascending, the values above 0 of lesion voxels.
        zeros: number of voxels at 0.
        zero_positives: how many of those are lesion voxels.
    """

    values: np.ndarray
    positives: np.ndarray
    zeros: int
    zero_positives: int

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return len(self.values) + self.zeros

    @property
    def lesion_voxels(self) -> int:
        """Number of lesion voxels."""
        return len(self.positives) + self.zero_positives

    @property
    def prevalence(self) -> float:
        """Share of lesion voxels, the AUPRC of a map without information; NaN without voxels."""
        return self.lesion_voxels / self.voxels if self.voxels else float("nan")

    @property
    def highest(self) -> float:
        """Largest value, 0 for an empty map."""
        return float(self.values[-1]) if len(self.values) else 0.0

    def _groups(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distinct values above 0 of lesion voxels, ascending; lesion voxels and voxels at or above each."""
        first = np.flatnonzero(np.diff(self.positives, prepend=np.float32(0)))
        distinct, hits = self.positives[first], len(self.positives) - first
        called = len(self.values) - np.searchsorted(self.values, distinct, side="left")
        return distinct, hits, called

    # torchmetrics' `binary_average_precision` and `binary_auroc` (thresholds=None) give the same to 1e-6. For both on 2
    # million voxels they take 33 times as long (510 to 15 ms, best of 5, one thread; 35 times without background). They
    # return float32, and send a map with values above 1 through a sigmoid, which makes close values equal.

    def average_precision(self) -> float:
        """AUPRC as scikit-learn's `average_precision_score`, in [0, 1]; NaN without lesion voxels."""
        if not self.lesion_voxels:
            return float("nan")
        _, hits, called = self._groups()
        gained = np.diff(hits, append=0) * -1.0  # recall only moves where lesion voxels are, so other values drop out
        area = float(np.sum(gained * hits / called)) + self.zero_positives * self.prevalence
        return area / self.lesion_voxels

    def auroc(self) -> float:
        """Area under the ROC curve in [0, 1], ties count half; NaN unless lesion and other voxels exist."""
        others = self.voxels - self.lesion_voxels
        if not self.lesion_voxels or not others:
            return float("nan")
        distinct, hits, called = self._groups()
        at_value = np.diff(hits, append=0) * -1.0
        above = len(self.values) - np.searchsorted(self.values, distinct, side="right")
        others_at_or_above, others_above = called - hits, above - (hits - at_value)
        beaten = float(np.sum(at_value * (others - (others_at_or_above + others_above) / 2)))
        zero_others = self.zeros - self.zero_positives
        return (beaten + self.zero_positives * zero_others / 2) / (float(self.lesion_voxels) * others)

    def dice_at(self, threshold: float) -> float:
        """Dice of the prediction `map > threshold` (threshold at least 0, rounded to float32).

        NaN when neither lesion nor prediction has a voxel.
        """
        limit = np.float32(threshold)
        called = len(self.values) - int(np.searchsorted(self.values, limit, side="right"))
        hits = len(self.positives) - int(np.searchsorted(self.positives, limit, side="right"))
        total = called + self.lesion_voxels
        return 2.0 * hits / total if total else float("nan")

    def best_dice(self) -> tuple[float, float]:
        """The highest Dice over all thresholds of at least 0, and the lowest threshold that reaches it.

        The optimum always ends at the value of a lesion voxel, so only those are looked at. Voxels at 0 are
        never called. (NaN, NaN) without lesion voxels; (0, highest value) if all of them are at 0.
        """
        if not self.lesion_voxels:
            return float("nan"), float("nan")
        distinct, hits, called = self._groups()
        if not len(distinct):
            return 0.0, self.highest
        scores = 2.0 * hits / (called + self.lesion_voxels)
        best = int(np.argmax(scores))
        below = int(np.searchsorted(self.values, distinct[best], side="left"))
        threshold = float(self.values[below - 1]) if below else 0.0
        return float(scores[best]), threshold


def ranked_curve(anomaly_map: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> RankedCurve:
    """Rank the voxels of one volume.

    Args:
        anomaly_map: any shape, finite and at least 0; compared in float32.
        truth: same shape, non-zero is lesion.
        valid: same shape, voxels to look at (False where the label says "exclude"); None takes all.

    Raises:
        ValueError: for negative or non-finite values.
    """
    return pooled_curve([(anomaly_map, truth, valid)])


def pooled_curve(volumes: Iterable[Volume]) -> RankedCurve:
    """Rank the voxels of many volumes as if they were concatenated; (map, truth, valid) as `ranked_curve`.

    Volumes are taken one at a time; 4 bytes per non-zero voxel are kept, joined and sorted once, so that the peak is
    8 bytes per non-zero voxel and as much again for those of them that are lesion. For 175 validation volumes of
    96 x 96 x 80 voxels with 150,000 in the brain: 175 * 150,000 * 8 = 210 MB; 1.0 GB for a map without a zero
    (737,280 voxels each).
    """
    values, positives, zeros, zero_positives = [], [], 0, 0
    for volume in volumes:
        kept, lesion = _evaluated_voxels(*volume)
        check_values(kept)
        above = kept > 0
        values.append(kept[above])
        positives.append(kept[above & lesion])
        zeros += len(kept) - len(values[-1])
        zero_positives += int(lesion.sum()) - len(positives[-1])
    return RankedCurve(_sorted(values), _sorted(positives), zeros, zero_positives)


def _evaluated_voxels(
    anomaly_map: np.ndarray, truth: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Values, float32, and lesion flags, bool, of the valid voxels of a volume, both flat and contiguous."""
    values, lesion = np.asarray(anomaly_map, dtype=np.float32).ravel(), np.asarray(truth).ravel()
    if lesion.dtype != bool:
        lesion = lesion > 0
    if valid is not None and not np.all(valid):
        chosen = np.asarray(valid).ravel() > 0
        values, lesion = values[chosen], lesion[chosen]
    return values, lesion


def check_values(values: np.ndarray) -> None:
    """Raises ValueError for negative or non-finite values."""
    if len(values) and not (values.min() >= 0 and np.isfinite(values.max())):  # NaN fails the first comparison
        raise ValueError("an anomaly map must be finite and at least 0")


def _sorted(parts: list[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(parts) if parts else np.empty(0, np.float32)
    joined.sort()
    return joined


def dice(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Dice of two binary arrays in [0, 1] over the valid voxels; NaN when both are empty."""
    predicted, lesion = np.asarray(prediction) > 0, np.asarray(truth) > 0
    if valid is not None:
        predicted, lesion = predicted & (np.asarray(valid) > 0), lesion & (np.asarray(valid) > 0)
    total = np.count_nonzero(predicted) + np.count_nonzero(lesion)
    return float(2 * np.count_nonzero(predicted & lesion) / total) if total else float("nan")

"""Thresholds: best global Dice on a validation set, greedy or exact, and healthy false-positive rates.

paper_spec 12, D25, D26. Predictions are `map > threshold`; every threshold returned is a float32 value, so
that this comparison gives the same voxels for float32 maps whatever the precision of the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from uad.metrics.segmentation import RankedCurve, Volume, check_values, evaluated_voxels, pooled_curve

GREEDY_ROUNDS = 10
_FIRST_ROOM = 2**19  # values kept before the first are dropped: those of five volumes of the paper's size
_RESERVE = 4  # later volumes may be harder than those that say what can be dropped


def greedy_threshold(curve: RankedCurve) -> float:
    """The authors' bisection for the best Dice (paper_spec 12).

    Starts with the interval [0, highest value]; ten times compares Dice at 25 % and 75 % of the interval
    and goes on with the half of the better point, the lower one at a tie. Returns the best point seen, the
    first at a tie. This is not the optimum: see `exact_threshold`.

    Args:
        curve: the concatenated voxels of the validation volumes, post-processed.

    Returns:
        Threshold, at least 0; NaN without lesion voxels.
    """
    if not curve.lesion_voxels:
        return float("nan")
    low, high = 0.0, curve.highest
    best_dice, best_point = -1.0, 0.0
    for _ in range(GREEDY_ROUNDS):
        points = [float(np.float32(low + share * (high - low))) for share in (0.25, 0.75)]
        scores = [curve.dice_at(point) for point in points]
        better = int(scores[1] > scores[0])
        if scores[better] > best_dice:
            best_dice, best_point = scores[better], points[better]
        middle = (low + high) / 2
        low, high = (middle, high) if better else (low, middle)
    return best_point


def exact_threshold(curve: RankedCurve) -> float:
    """The threshold of at least 0 with the highest Dice, the lowest such; NaN without lesion voxels.

    Never worse than `greedy_threshold` on the same voxels.
    """
    return curve.best_dice()[1]


def pooled_exact_threshold(volumes: Callable[[], Iterable[Volume]]) -> float:
    """`exact_threshold` of the voxels of many volumes, of which only the highest are kept.

    With P lesion voxels, a threshold that calls n voxels has a Dice of at most 2P / (P + n). So where the volumes
    seen so far reach Dice D, a threshold that calls more than 2P / D - P of their voxels cannot be the best; four
    times as many are kept. That is a guess about the volumes to come: at the end the bound is tested with all of
    them, and where it does not rule out every value that was dropped, the volumes are read again and all are kept.

    Args:
        volumes: gives the (map, truth, valid) of each volume, as `pooled_curve`; the same ones if asked again.

    Raises:
        ValueError: for negative or non-finite values.
    """
    highest = _HighestVoxels()
    for volume in volumes():
        highest.add(*volume)
    curve = highest.curve()
    best, threshold = curve.best_dice()
    if highest.floor > 0 and not best > _most_dice(curve.lesion_voxels, len(curve.values)):
        return exact_threshold(pooled_curve(volumes()))
    return threshold


def _most_dice(lesion_voxels: int, called: int) -> float:
    return 2.0 * lesion_voxels / (lesion_voxels + called)


class _HighestVoxels:
    """The voxels of many volumes above a floor, which rises as they come; the others are counted."""

    def __init__(self) -> None:
        self.floor = np.float32(0)
        self._values: list[np.ndarray] = []
        self._positives: list[np.ndarray] = []
        self._kept, self._room = 0, _FIRST_ROOM
        self._voxels = self._lesion_voxels = 0

    def add(self, *volume: np.ndarray | None) -> None:
        values, lesion = evaluated_voxels(*volume)
        # As bit patterns, values of at least 0 have the order of the numbers, and all impossible ones come after them.
        high = values[values.view(np.uint32) > self.floor.view(np.uint32)]
        check_values(high)
        positives = values[lesion]
        self._values.append(high[high > self.floor])  # without -0.0
        self._positives.append(positives[positives > self.floor])
        self._voxels += len(values)
        self._lesion_voxels += len(positives)
        self._kept += len(self._values[-1])
        if self._kept > self._room:
            self._raise_floor()

    def curve(self) -> RankedCurve:
        """What is above the floor, in rank order; everything else counts as a voxel at 0."""
        values, positives = (np.sort(np.concatenate([np.empty(0, np.float32), *parts]))
                             for parts in (self._values, self._positives))  # fmt: skip
        return RankedCurve(values, positives, self._voxels - len(values), self._lesion_voxels - len(positives))

    def _raise_floor(self) -> None:
        curve = self.curve()
        values, positives = curve.values, curve.positives
        best, _ = curve.best_dice()
        if best > 0:  # neither without lesion voxels nor with all of them at 0
            could_be_called = 2 * self._lesion_voxels / best - self._lesion_voxels
            dropped = len(values) - int(_RESERVE * could_be_called)
            if dropped > 0:
                self.floor = values[dropped - 1]
                values = values[np.searchsorted(values, self.floor, side="right") :].copy()
                positives = positives[positives > self.floor]
        self._values, self._positives, self._kept = [values], [positives], len(values)
        self._room = max(_FIRST_ROOM, 2 * self._kept)


def false_positive_thresholds(
    volumes: Iterable[tuple[np.ndarray, np.ndarray]], rates: Sequence[float]
) -> dict[float, float]:
    """Thresholds that call a given share of healthy brain voxels abnormal (D25).

    Args:
        volumes: (map, brain mask) of healthy scans, both [Z, Y, X]; map finite, at least 0.
        rates: shares in [0, 1], e.g. 0.05.

    Returns:
        rate -> the lowest value whose share of brain voxels above it is at most the rate; NaN without brain
        voxels.
    """
    parts = [np.asarray(anomaly_map, np.float32)[np.asarray(mask) > 0] for anomaly_map, mask in volumes]
    values = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if not len(values):
        return dict.fromkeys(rates, float("nan"))
    values.sort()
    # the 1e-9 keeps 0.1 * 30 = 3.0000000000000004 and 0.29 * 100 = 28.999999999999996 at the intended count
    allowed = {rate: min(int(rate * len(values) + 1e-9), len(values) - 1) for rate in rates}
    return {rate: float(values[len(values) - 1 - count]) for rate, count in allowed.items()}

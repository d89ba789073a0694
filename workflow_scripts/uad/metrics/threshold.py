"""Thresholds of pooled voxels: best global Dice, greedy or exact, and shares of healthy voxels.

docs/paper.md#threshold, D25, D26. Predictions are `map > threshold`; every threshold returned is a float32 value, so
that this comparison gives the same voxels for float32 maps whatever the precision of the threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from uad.metrics.segmentation import RankedCurve, check_values

GREEDY_ROUNDS = 10


def greedy_threshold(curve: RankedCurve) -> float:
    """The authors' bisection for the best Dice (docs/paper.md#threshold).

    Starts with the interval [0, highest value], or [0, 1] where all values are 0; ten times compares Dice at 25 %
    and 75 % of the interval and goes on with the half of the better point, the lower one at a tie. Returns the best
    point seen, the last at a tie. This is not the optimum: see `exact_threshold`.

    Args:
        curve: the concatenated voxels of the validation volumes, post-processed.

    Returns:
        Threshold, at least 0; NaN without lesion voxels.
    """
    if not curve.lesion_voxels:
        return float("nan")
    low, high = 0.0, curve.highest or 1.0
    best_dice, best_point = 0.0, 0.0
    for _ in range(GREEDY_ROUNDS):
        points = [float(np.float32(low + share * (high - low))) for share in (0.25, 0.75)]
        scores = [curve.dice_at(point) for point in points]
        better = int(scores[1] > scores[0])
        if scores[better] >= best_dice:
            best_dice, best_point = scores[better], points[better]
        middle = (low + high) / 2
        low, high = (middle, high) if better else (low, middle)
    return best_point


def exact_threshold(curve: RankedCurve) -> float:
    """The threshold of at least 0 with the highest Dice, the lowest such; NaN without lesion voxels.

    Never worse than `greedy_threshold` on the same voxels.
    """
    return curve.best_dice()[1]


def false_positive_thresholds(
    volumes: Iterable[tuple[np.ndarray, np.ndarray]], rates: Sequence[float]
) -> dict[float, float]:
    """Thresholds that call a given share of healthy brain voxels abnormal (D25).

    All brain voxels are kept, 4 bytes each, and sorted once; the memory is that of `pooled_curve`.

    Args:
        volumes: the (map, brain mask) of each healthy scan, both [Z, Y, X]; taken one at a time.
        rates: shares in [0, 1], e.g. 0.05.

    Returns:
        rate -> the lowest value whose share of brain voxels above it is at most the rate; NaN without brain
        voxels.

    Raises:
        ValueError: for negative or non-finite values.
    """
    parts = [np.asarray(values, np.float32)[np.asarray(mask) > 0] for values, mask in volumes]
    brain = np.concatenate([np.empty(0, np.float32), *parts])
    check_values(brain)
    if not len(brain):
        return dict.fromkeys(rates, float("nan"))
    brain.sort()
    # the 1e-9 keeps 0.1 * 30 = 3.0000000000000004 and 0.29 * 100 = 28.999999999999996 at the intended count
    above = {rate: min(int(rate * len(brain) + 1e-9), len(brain) - 1) for rate in rates}
    return {rate: abs(float(brain[-1 - count])) for rate, count in above.items()}  # abs: -0.0 is 0

"""One number per scan from its anomaly map, and how well such numbers tell two groups of scans apart.

docs/statistics.md#detection-per-scan-and-per-lesion
"""

from __future__ import annotations

import numpy as np


def mean_of_highest(values: np.ndarray, one_in: int) -> float:
    """Mean of the highest `len(values) // one_in` values, at least one; NaN without values.

    Args:
        values: flat, finite.
        one_in: 100 takes the highest 1 %, 1000 the highest 0.1 %.
    """
    if not len(values):
        return float("nan")
    count = max(len(values) // one_in, 1)
    return float(np.partition(values, len(values) - count)[-count:].mean(dtype=np.float64))


def auroc(ill: np.ndarray, healthy: np.ndarray, ill_counts: np.ndarray, healthy_counts: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of resampled scans, in [0, 1]: the share of pairs in which the ill scan scores higher,
    where equal scores count half (Mann and Whitney).

    Args:
        ill, healthy: score of each scan, [P] and [H], finite.
        ill_counts, healthy_counts: how often each scan was drawn, [R, P] and [R, H]; each row draws some of both.

    Returns:
        [R].
    """
    won = (ill[:, None] > healthy) + 0.5 * (ill[:, None] == healthy)
    pairs = ill_counts.sum(axis=1) * healthy_counts.sum(axis=1)
    return ((ill_counts @ won) * healthy_counts).sum(axis=1) / pairs


def average_precision(
    ill: np.ndarray, healthy: np.ndarray, ill_counts: np.ndarray, healthy_counts: np.ndarray
) -> np.ndarray:
    """Average precision of resampled scans in [0, 1], as scikit-learn's `average_precision_score`: equal scores are
    called together.  Arguments and result as `auroc`.
    """
    scores, is_ill = np.concatenate([ill, healthy]), np.arange(len(ill) + len(healthy)) < len(ill)
    order = np.argsort(-scores, kind="stable")
    last_of_equal = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    drawn = np.concatenate([ill_counts, healthy_counts], axis=1)[:, order]
    called = drawn.cumsum(axis=1)[:, last_of_equal]
    hits = (drawn * is_ill[order]).cumsum(axis=1)[:, last_of_equal]
    precision = hits / np.maximum(called, 1)  # nothing is called before the first scan that was drawn
    return (np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1) / hits[:, -1]

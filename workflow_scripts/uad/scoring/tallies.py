"""How the values of cleaned maps are distributed: counts of voxels per bin of value, pooled over the scans of a cohort.

Curves over a whole cohort (precision-recall, ROC, Dice against threshold) are drawn from these counts without a map.
The bins are the same for every arm, whatever the unit of its maps: one for values of exactly 0, then the edges
2^(k / 16), k whole, 4.4 % apart, over the whole range of float32.  docs/formats.md
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from uad.metrics.segmentation import RankedCurve

STEPS_PER_OCTAVE = 16
_OCTAVES = range(-149, 128)  # from the smallest float32 above 0 to the largest
EDGES = 2.0 ** np.arange(_OCTAVES.start, _OCTAVES.stop, 1 / STEPS_PER_OCTAVE)
LOWER = np.concatenate([[0.0], EDGES])  # the lower edge of every bin
COUNTS = ("lesion", "healthy", "brain")


def tally(curve: RankedCurve, outside: np.ndarray) -> np.ndarray:
    """The counts of one cleaned map: int64 [3, len(LOWER)], the rows as `COUNTS`.

    Args:
        curve: the map's evaluated voxels (label 0 and 1).
        outside: values of the voxels of label 0 outside the brain mask, any shape, at least 0.
    """
    lesion = _counts(curve.positives, curve.zero_positives)
    healthy = _counts(curve.values, curve.zeros) - lesion
    above = np.sort(outside[outside > 0], axis=None)
    return np.stack([lesion, healthy, healthy - _counts(above, outside.size - above.size)])


def _counts(ordered: np.ndarray, zeros: int) -> np.ndarray:
    """Values per bin, int64; `ordered`: ascending, all above 0."""
    below = np.searchsorted(ordered, EDGES, side="left")
    return np.concatenate([[zeros], np.diff(below, append=len(ordered))]).astype(np.int64)


def tally_rows(counts: np.ndarray, keys: Mapping[str, str]) -> pd.DataFrame:
    """The bins that have a count, ascending, as rows of the tallies format; `keys`: cohort, split, t_test."""
    table = pd.DataFrame({**keys, "value": LOWER, **dict(zip(COUNTS, counts, strict=True))})
    return table[counts.any(axis=0)].reset_index(drop=True)

"""The lesions of a scan one by one, and how much of each is predicted.

docs/statistics.md#detection-per-scan-and-per-lesion
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from uad.scoring.postprocessing import components

NEIGHBOURS = 26  # join voxels to a lesion, and to a false positive
_TYPES = {
    **dict.fromkeys(("cohort", "subject", "split", "t_test"), "str"),
    **{"number": "int64", "lesion_ml": "float64", "overlap": "float64"},
}


def lesions_of(lesion: np.ndarray, prediction: np.ndarray | None, voxel_ml: float) -> list[dict[str, float]]:
    """One row per lesion: number (from 1, in the order of their first voxels), lesion_ml, overlap.

    Args:
        lesion: bool [Z, Y, X], voxels of label 1; its 26-neighbour components are the lesions, however small.
        prediction: bool [Z, Y, X]; None (no threshold) gives an overlap of NaN, otherwise it is the share of the
            lesion's voxels that are predicted, from 0 to 1.
        voxel_ml: volume of one voxel in millilitres.
    """
    parts = components(lesion, NEIGHBOURS)
    sizes = np.bincount(parts.ravel())[1:]
    if prediction is None:
        overlaps = np.full(len(sizes), np.nan)
    else:
        overlaps = np.bincount(parts[prediction], minlength=len(sizes) + 1)[1:] / sizes
    return [
        {"number": number, "lesion_ml": float(size * voxel_ml), "overlap": float(overlap)}
        for number, (size, overlap) in enumerate(zip(sizes, overlaps, strict=True), start=1)
    ]


def lesion_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The lesions format (docs/formats.md), of no lesion too."""
    return pd.DataFrame(rows, columns=list(_TYPES)).astype(_TYPES)

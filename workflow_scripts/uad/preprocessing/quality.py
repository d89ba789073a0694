"""Quality of preprocessed scans: agreement with the atlas, and scans that stand out in their cohort."""

from __future__ import annotations

import numpy as np
import pandas as pd

_BINS = 32  # as ANTs' Mattes metric
MEASURED = ("brain_ml", "atlas_dice", "mutual_information", "n4_min", "n4_max", "clipped_fraction")
_LEAST_SCANS = 8  # with fewer, a median and its deviation say little
_LIMIT = 3.5  # Iglewicz and Hoaglin 1993
_PER_MAD, _PER_MEAN = 0.6745, 0.7979  # of a normal distribution, in standard deviations

# Which side of the median is suspicious, and a distance from it that is never worth a look.
_WATCHED = {
    "brain_ml": ("both", 30.0),
    "atlas_dice": ("low", 0.01),
    "mutual_information": ("low", 0.01),
    "n4_ratio": ("high", 0.05),
    "clipped_fraction": ("high", 0.005),
}


def mutual_information(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> float:
    """Mutual information in nats of two images of one shape over the voxels `inside` (bool).

    From a joint histogram of 32 x 32 bins between each image's 1st and 99th percentile (clipped). 0 where one image is
    constant or nothing is inside.
    """
    if not inside.any():
        return 0.0
    codes = []
    for image in (first, second):
        values = image[inside].astype(np.float64)
        low, high = np.percentile(values, (1, 99))
        if not high > low:
            return 0.0
        codes.append(np.clip((values - low) / (high - low) * _BINS, 0, _BINS - 1).astype(np.int64))
    joint = np.bincount(codes[0] * _BINS + codes[1], minlength=_BINS**2).reshape(_BINS, _BINS) / inside.sum()
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / expected[filled])).sum())


def robust_scores(values: np.ndarray) -> np.ndarray:
    """Distances from the median in robust standard deviations (Iglewicz and Hoaglin's modified z-score).

    The unit is the median absolute deviation over 0.6745; where more than half of the values are equal, the mean
    absolute deviation over 0.7979. NaN stays NaN; all equal gives 0.
    """
    away = values - np.nanmedian(values)
    unit = np.nanmedian(np.abs(away)) / _PER_MAD or np.nanmean(np.abs(away)) / _PER_MEAN
    return away / unit if unit > 0 else np.zeros_like(away)


def outliers(rows: pd.DataFrame) -> pd.Series:
    """What makes each scan stand out from the finished scans of its cohort and modality; empty text: nothing.

    Looked at are brain volume, Dice and mutual information with the atlas (too low), the range of the N4 field and the
    clipped fraction (too high). A value counts when its modified z-score exceeds 3.5 and it is not trivially close to
    the median. Modalities with fewer than 8 finished scans have no outliers.

    Args:
        rows: all shard tables of one cohort; measured columns as numbers or text.

    Returns:
        Text such as "atlas_dice 0.62 (z -8.1); brain_ml 2100 (z 5.0)", on the index of `rows`.
    """
    numbers = rows[list(MEASURED)].apply(pd.to_numeric, errors="coerce")
    numbers["n4_ratio"] = numbers["n4_max"] / numbers["n4_min"]
    remarks = pd.Series("", index=rows.index, dtype=object)
    for _, part in numbers[rows["status"] == "ok"].groupby(rows["modality"]):
        if len(part) < _LEAST_SCANS:
            continue
        for column, (side, least) in _WATCHED.items():
            for index, remark in _remarks(part[column], side, least).items():
                remarks[index] += f"; {remark}" if remarks[index] else remark
    return remarks


def _remarks(values: pd.Series, side: str, least: float) -> dict:
    if values.notna().sum() < _LEAST_SCANS:  # scans that come bias-corrected have no N4 field
        return {}
    scores = pd.Series(robust_scores(values.to_numpy(float)), values.index)
    turned = {"low": -scores, "high": scores, "both": scores.abs()}[side]
    far = (turned > _LIMIT) & ((values - values.median()).abs() > least)
    return {index: f"{values.name} {values[index]:.4g} (z {scores[index]:.1f})" for index in values.index[far]}

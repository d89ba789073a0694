"""Limits that do not depend on the cohort: did a stage make of a scan what a head scan can be?

A stage measures; `judged` holds the numbers of its row against section `plausible` of the configuration. Files and
numbers of a scan are kept whatever the limits say, so that other limits only judge again.  docs/preprocessing.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from uad.common.errors import InputError
from uad.config.model import PlausibleSettings

if TYPE_CHECKING:
    from uad.common.volumes import Volume
    from uad.config.model import Limits
    from uad.preprocessing.scan import Scan

DEFAULT_LIMITS = PlausibleSettings()

_MAJORITY = 0.5  # of the voxels on the faces of the box: then their value is the background


class _Cause(NamedTuple):
    """role: the input that is probably at fault; low, high: likely cause and cure of a value beyond that end."""

    role: str
    low: str
    high: str


_CAUSES = {
    "brain_ml": _Cause(
        "mask",
        "the brain mask misses most of the brain, or the voxel size in the header is wrong, give a better mask or "
        "repair the header",
        "the brain mask is of the whole head or box, or the voxel size in the header is wrong, give a mask of the "
        "brain alone or repair the header",
    ),
    "face_fraction": _Cause(
        "mask",
        "",
        "the field of view cuts the brain off, or the mask is of the whole box because the background is not 0, "
        "exclude the scan, set its background to 0 or give a brain mask",
    ),
    "negative_fraction": _Cause(
        "image",
        "",
        "these brain voxels are negative, as after z-scoring, but registration and N4, which takes logarithms, need "
        "intensities from 0 up, give the scan as it was before",
    ),
    "atlas_dice": _Cause(
        "image",
        "the brain does not lie on the atlas brain, because registration failed, the brain mask is poor or the scan "
        "is not in atlas space as stated, look at it, give a better mask or set registered to false",
        "",
    ),
    "n4_ratio": _Cause(
        "image",
        "N4 corrected nothing, set bias_corrected to true if that was done before, else look at the scan",
        "no coil varies so much, N4 has met air in the brain mask or values near 0, look at the mask and the scan",
    ),
    "lesion_share": _Cause(
        "label",
        "",
        "the lesion label is nearly as large as the brain, as a tissue segmentation, a brain mask or an inverted mask "
        "is, give a label of the lesion alone",
    ),
    "lesion_outside": _Cause(
        "label",
        "",
        "that share of the lesion lies outside of the brain mask, so the label belongs to another scan or the mask "
        "cuts the lesion off, correct the one or the other",
    ),
}


def judged(scan: Scan, row: Mapping[str, Any], limits: PlausibleSettings, flagged_before: str) -> dict[str, Any]:
    """The row of a finished scan with the column flag; beyond a limit, or where a number is NaN, it is failed.

    Args:
        row: what the stage measured; keys that it lacks are not judged.
        flagged_before: the flag of the stage before.
    """
    refused: list[str] = []
    flags = [flagged_before] if flagged_before else []
    for key, value in _measures(scan, row).items():
        limit: Limits = getattr(limits, key)
        for level, texts in (("refuse", refused), ("flag", flags)):
            text = _beyond(key, value, level, *getattr(limit, level))
            if text:
                if text not in flagged_before:
                    texts.append((f"{_file(scan, key)}: " if texts is refused else "") + text)
                break
    if row.get("lesion_lost", 0) > limits.lesion_lost:
        flags.append(lost_text("lesion", row["lesion_ml"], row["lesion_lost"], "the crop to the brain mask"))
    if refused:
        return {**row, "status": "failed", "message": "; ".join(refused), "flag": ""}
    return {**row, "flag": "; ".join(flags)}


def _measures(scan: Scan, row: Mapping[str, Any]) -> dict[str, float]:
    names = ("brain_ml", "face_fraction", "negative_fraction", "atlas_dice", "lesion_outside")
    values = {name: float(row[name]) for name in names if name in row}
    if scan.registered and scan.bias_corrected:  # z-scored is fine then
        values.pop("negative_fraction", None)
    if "n4_max" in row:
        values["n4_ratio"] = row["n4_max"] / row["n4_min"] if row["n4_min"] > 0 else math.nan
    if "lesion_outside" in row:
        values["lesion_share"] = row["lesion_ml"] / row["brain_ml"]
    return values


def _beyond(key: str, value: float, level: str, low: float | None, high: float | None) -> str:
    """What is wrong with a value, or empty text."""
    if math.isnan(value):
        return f"{key} could not be measured, look at the scan and exclude it" if level == "refuse" else ""
    if low is not None and value < low:
        return f"{key} is {value:.4g}, below {low:g} (plausible.{key}.{level}): {_CAUSES[key].low}"
    if high is not None and value > high:
        return f"{key} is {value:.4g}, above {high:g} (plausible.{key}.{level}): {_CAUSES[key].high}"
    return ""


def _file(scan: Scan, key: str) -> str:
    return getattr(scan, _CAUSES[key].role) or scan.image


def lost_text(what: str, before_ml: float, lost: float, place: str) -> str:
    """Sentence on a lesion or brain that a box cuts off; lost: share from 0 to 1."""
    how_much = "all" if lost == 1 else f"{lost:.0%}"
    return f"{place} cuts off {how_much} of the {what} of {before_ml:.4g} ml"


def share_lost(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the voxels (bool or 0 and 1) of a volume that a crop leaves out; 0 where there were none."""
    total = np.count_nonzero(before)
    return 1 - np.count_nonzero(after) / total if total else 0.0


def face_fraction(mask: np.ndarray) -> float:
    """How far a mask [X, Y, Z] runs against the faces of its box.

    Per face the mask's area on it over its largest area in a parallel plane, the largest of six: about 0 for a brain
    inside the box, 1 where a face cuts it at its widest or it fills the box. For a ball of radius 75 mm that loses h
    mm it is 1 - (1 - h / 75)^2.
    """
    found = 0.0
    for axis in range(3):
        areas = np.count_nonzero(mask, axis=tuple(other for other in range(3) if other != axis))
        found = max(found, areas[0] / areas.max(), areas[-1] / areas.max())
    return float(found)


def refuse_background(image: Volume, path: str) -> None:
    """Refuse a stripped scan with a constant background other than 0: its non-zero voxels are no brain mask.

    Raises:
        InputError: most voxels on the faces of the box have one value, and it is not 0.
    """
    data = image.data
    faces = [data.take(place, axis).ravel() for axis in range(3) for place in (0, -1)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    most = counts.argmax()
    if values[most] != 0 and counts[most] > _MAJORITY * counts.sum():
        raise InputError(
            f"{path}: its background is {values[most]:.4g}, not 0, so its non-zero voxels are no brain mask; "
            "set the background to 0, or give a brain mask"
        )

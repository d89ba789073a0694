"""Measures of one lesion and its surroundings: size, contrast, depth, and how a map tells the two apart.

docs/studies.md#noise-level
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from uad.metrics.segmentation import ranked_curve

NAN = float("nan")


class LesionSite(NamedTuple):
    """Where a lesion lies: `box` of the scan, in which `lesion` and `shell` are bool arrays."""

    box: tuple[slice, ...]
    lesion: np.ndarray
    shell: np.ndarray


def lesion_sites(parts: np.ndarray, healthy: np.ndarray, width: int) -> Iterator[LesionSite]:
    """Each lesion with the shell of healthy brain around it, in the order of their numbers.

    Args:
        parts: int [Z, Y, X], number of the lesion of each voxel, from 1; 0 elsewhere.
        healthy: bool [Z, Y, X], brain without any lesion or excluded voxel: only this is shell.
        width: of the shell in voxels: centres at most so far from the centre of a lesion voxel.
    """
    for number, tight in enumerate(ndimage.find_objects(parts), start=1):
        box = tuple(slice(max(along.start - width, 0), along.stop + width) for along in tight)
        lesion = parts[box] == number
        shell = healthy[box] & (ndimage.distance_transform_edt(~lesion) <= width) & ~lesion
        yield LesionSite(box, lesion, shell)


def sphere_mm(volume_ml: float) -> float:
    """Diameter in mm of the sphere with this volume in ml."""
    return float((6000 * volume_ml / np.pi) ** (1 / 3))


def depths(brain: np.ndarray, voxel_mm: float) -> np.ndarray:
    """Distance in mm from each voxel's centre to the nearest centre outside of the brain, 0 outside: [Z, Y, X].

    What lies beyond the volume is outside.

    Args:
        brain: bool [Z, Y, X].
        voxel_mm: edge of a voxel.
    """
    inside = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=voxel_mm)
    return inside[1:-1, 1:-1, 1:-1]


def contrast_to_noise(values: np.ndarray, site: LesionSite) -> float:
    """Mean of the lesion minus mean of its shell, in standard deviations of the shell (divided by n).

    NaN without a shell, and where the shell is constant.

    Args:
        values: [Z, Y, X] of the scan or of a map.
    """
    inside, around = values[site.box][site.lesion], values[site.box][site.shell]
    spread = np.std(around, dtype=np.float64) if around.size else 0.0
    if not spread > 0:
        return NAN
    return float((inside.mean(dtype=np.float64) - around.mean(dtype=np.float64)) / spread)


def local_average_precision(anomaly_map: np.ndarray, site: LesionSite) -> float:
    """AUPRC of the voxels of a lesion and its shell; NaN without a shell.

    Args:
        anomaly_map: [Z, Y, X], finite and at least 0.
    """
    if not site.shell.any():
        return NAN
    return ranked_curve(anomaly_map[site.box], site.lesion, site.lesion | site.shell).average_precision()


def errors_inside(image: np.ndarray, truth: np.ndarray, where: np.ndarray) -> tuple[float, float]:
    """Mean absolute and mean signed difference, image - truth, of the voxels of a mask; (NaN, NaN) without any.

    Args:
        image, truth: [Z, Y, X], in one unit.
        where: bool [Z, Y, X].
    """
    if not where.any():
        return NAN, NAN
    difference = np.asarray(image, np.float64)[where] - np.asarray(truth, np.float64)[where]
    return float(np.abs(difference).mean()), float(difference.mean())

"""The bridge to ANTs: volumes to ANTs images and back, resampling by grid.

ANTs results depend on the number of ITK threads, so it is fixed to one before the library loads; parallel
work is done by processes.  docs/paper.md#ants
"""

from __future__ import annotations

import os
from collections.abc import Sequence

os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

import ants
import numpy as np

from uad.common.volumes import Volume

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's world is LPS, NIfTI's RAS
_BSPLINE = 4  # interpolation code of ants.resample_image
_SPACING_TOLERANCE = 1e-3


def to_ants(volume: Volume) -> ants.ANTsImage:
    """ANTs image (float32) with the volume's geometry."""
    affine = _LPS @ volume.affine
    spacing = volume.spacing
    return ants.from_numpy(
        np.asarray(volume.data, dtype=np.float32),
        origin=affine[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=affine[:3, :3] / spacing,
    )


def from_ants(image: ants.ANTsImage) -> Volume:
    """Volume (float32) with the ANTs image's geometry."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.direction) * np.asarray(image.spacing)
    affine[:3, 3] = image.origin
    return Volume(image.numpy().astype(np.float32), _LPS @ affine)


def resample_spacing(volume: Volume, spacing_mm: float) -> tuple[Volume, np.ndarray]:
    """Resample an image to cubic voxels (B-spline order 3) if its spacing differs.  docs/paper.md#preprocessing, step 1

    B-splines overshoot at edges; values are clipped to the range of the input.

    Returns:
        The image, and where values were clipped (bool [X, Y, Z]).
    """
    if np.abs(volume.spacing - spacing_mm).max() < _SPACING_TOLERANCE:
        return volume, np.zeros(volume.data.shape, dtype=bool)
    image = ants.resample_image(to_ants(volume), (spacing_mm,) * 3, False, _BSPLINE)
    resampled = from_ants(image)
    clipped = np.clip(resampled.data, volume.data.min(), volume.data.max())
    return resampled.with_data(clipped), clipped != resampled.data


def move(
    moving: Volume, fixed: Volume, transforms: Sequence[str], interpolator: str, *, inverse: bool = False
) -> np.ndarray:
    """Values of `moving` on the grid of `fixed` [X, Y, Z], float32, 0 outside.

    transforms: files as ANTs takes them; none: by header alone.
    inverse: the transforms are linear and lead from `fixed` to `moving`.
    """
    inverted = [inverse] * len(transforms)
    return ants.apply_transforms(
        to_ants(fixed), to_ants(moving), list(transforms), interpolator, whichtoinvert=inverted
    ).numpy()


def move_label(label: Volume, fixed: Volume, transforms: Sequence[str], interpolator: str) -> Volume:
    """A mask or label on the grid of `fixed`, uint8.  D11

    interpolator: "nearestNeighbor", or "linear": every voxel that a class touches (value > 0) takes it, as
        in the authors' code; where several do, the lowest value (lesion before excluded) wins.
    """
    if interpolator == "nearestNeighbor":
        moved = move(label, fixed, transforms, interpolator)
        return fixed.with_data(np.round(moved).astype(np.uint8))
    result = np.zeros(fixed.data.shape, dtype=np.uint8)
    for value in sorted(set(np.unique(label.data).tolist()) - {0}, reverse=True):
        part = label.with_data((label.data == value).astype(np.float32))
        result[move(part, fixed, transforms, "linear") > 0] = value
    return fixed.with_data(result)

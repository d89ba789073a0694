"""Volumes: scans and labels as arrays with affines, checked when they are read; grids, orientation, and writing.

Nothing here resamples; arrays are `[X, Y, Z]` as in the file, affines map voxel indices to RAS millimetres
(the NIfTI convention).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from uad.common.errors import InputError
from uad.common.files import atomic_path
from uad.common.nifti import UNREADABLE, grid_distance, open_checked, stored_voxels, unreadable

# Half a voxel on every axis is a known header quirk (MSLUB); more is another grid.  docs/paper.md#mslub
GRID_TOLERANCE_VOXELS = 0.51
_PARTS = 64
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


@dataclass(frozen=True)
class Volume:
    """A 3-D array and where it lies.

    data: [X, Y, Z], float32 for images, uint8 for masks and labels.
    affine: [4, 4] float64, voxel index to RAS mm.
    """

    data: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along the array axes in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def with_data(self, data: np.ndarray) -> Volume:
        """Other values on the same grid."""
        return Volume(data, self.affine)


def read_image(path: str | Path) -> Volume:
    """Read a scan as float32.

    Raises:
        InputError: as `nifti.read_header`, values that are not finite or that float32 cannot hold, or a constant image.
    """
    return _as_float32(_read_image(path), path)


def read_image_of_any_unit(path: str | Path) -> Volume:
    """Read a scan as float32 in the unit of `in_common_unit`, for filters whose result would show its own.

    Raises:
        InputError: as `read_image`.
    """
    return _as_float32(in_common_unit(_read_image(path)), path)


def in_common_unit(volume: Volume) -> Volume:
    """The image times the power of two that brings its bright voxels to 512 up to 1024; not 0 everywhere.

    What counts as bright is the 99th percentile of the absolute values that are not 0. ITK's filters have absolute
    limits (its curvature flow takes squared gradients below 1e-9 for flat), so the unit of a scan would show in the
    result. A power of two rounds nothing.
    """
    size = np.abs(volume.data)
    _, exponent = np.frexp(np.percentile(size[size > 0], 99))
    return volume.with_data(np.ldexp(volume.data, 10 - exponent))


def read_label(path: str | Path) -> Volume:
    """Read a mask or label as uint8; values have to be whole numbers from 0 to 255.

    Raises:
        InputError: as `read_image` (a constant label is allowed), or values that are no labels.
    """
    volume = _read(path)
    volume = volume.with_data(volume.data.astype(np.float32))
    rounded = np.round(volume.data)
    if not np.isfinite(volume.data).all() or np.abs(volume.data - rounded).max() > 1e-3:
        raise InputError(f"{path}: a mask or label needs whole numbers; this file has others")
    if rounded.min() < 0 or rounded.max() > 255:
        raise _no_label_values(path)
    return volume.with_data(rounded.astype(np.uint8))


def label_values(path: str | Path) -> list[int]:
    """The values that a mask or label holds, ascending; whole-number files are not converted, which saves time.

    Raises:
        InputError: as `read_label`.
    """
    image, *_ = open_checked(path)
    voxels: Any = image.dataobj
    if image.get_data_dtype().kind not in "iu" or (voxels.slope, voxels.inter) != (1, 0):
        return np.flatnonzero(np.bincount(read_label(path).data.ravel())).tolist()
    try:
        stored = np.asanyarray(stored_voxels(path, image).get_unscaled()).ravel()
    except UNREADABLE as error:
        raise unreadable(path) from error
    if stored.min() < 0 or stored.max() > 255:
        raise _no_label_values(path)
    parts = np.array_split(stored, _PARTS)  # bincount widens what it counts to eight bytes a voxel
    return np.flatnonzero(sum(np.bincount(part, minlength=256) for part in parts)).tolist()


def on_grid_of(label: Volume, image: Volume, path: str | Path) -> Volume:
    """The label with the image's header, provided that both are the same grid within half a voxel.

    Raises:
        InputError: another shape, or grids further apart than `GRID_TOLERANCE_VOXELS`.
    """
    if label.data.shape != image.data.shape:
        raise InputError(
            f"{path}: has shape {label.data.shape}, its scan {image.data.shape}; resample it to the scan's grid"
        )
    distance = grid_distance(label.data.shape, label.affine, image.affine)
    if distance > GRID_TOLERANCE_VOXELS:
        raise InputError(
            f"{path}: lies {distance:.2f} voxels away from its scan (allowed {GRID_TOLERANCE_VOXELS}); "
            "resample it to the scan's grid"
        )
    return Volume(label.data, image.affine)


def reorient(volume: Volume, code: str = "RAI") -> Volume:
    """Flip and permute axes to an ITK orientation; physical positions stay.

    ITK names the side an axis comes from, nibabel the side it goes to: ITK "RAI" is nibabel L, P, S.
    """
    target = nib.orientations.axcodes2ornt(tuple(_OPPOSITE[letter] for letter in code))
    change = nib.orientations.ornt_transform(nib.orientations.io_orientation(volume.affine), target)
    data = nib.orientations.apply_orientation(volume.data, change)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(change, volume.data.shape)
    return Volume(np.ascontiguousarray(data), affine)


def itk_code(volume: Volume) -> str:
    """ITK orientation code of a volume, e.g. "RAI"."""
    return "".join(_OPPOSITE[letter] for letter in nib.aff2axcodes(volume.affine))


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a NIfTI file atomically; equal volumes give equal bytes (the gzip header holds no time)."""
    image = nib.Nifti1Image(volume.data, volume.affine, dtype=volume.data.dtype)
    image.set_sform(volume.affine, 1)
    image.set_qform(volume.affine, 1)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def _read_image(path: str | Path) -> Volume:
    """A scan that is finite and not constant; whole numbers as float32, others as the file has them."""
    volume = _read(path)
    if volume.data.dtype.kind != "f":
        volume = volume.with_data(volume.data.astype(np.float32))
    if not np.isfinite(volume.data).all():
        raise InputError(f"{path}: holds values that are not finite (NaN or Inf); repair or exclude the scan")
    if volume.data.min() == volume.data.max():
        raise InputError(f"{path}: every voxel has the value {volume.data.flat[0]:g}; exclude the scan")
    return volume


def _as_float32(volume: Volume, path: str | Path) -> Volume:
    with np.errstate(over="ignore"):
        data = volume.data.astype(np.float32)
    if not np.isfinite(data).all() or data.min() == data.max():
        raise InputError(f"{path}: its values are beyond the range of float32; store it in another unit, or exclude it")
    return volume.with_data(data)


def _read(path: str | Path) -> Volume:
    """The file's voxels, scaled as its header says, in the type that this gives."""
    image, shape, affine = open_checked(path)
    try:
        data = np.asarray(stored_voxels(path, image))
    except UNREADABLE as error:
        raise unreadable(path) from error
    return Volume(data.reshape(shape), affine)


def _no_label_values(path: str | Path) -> InputError:
    return InputError(f"{path}: a mask or label needs values from 0 to 255; this file has others")

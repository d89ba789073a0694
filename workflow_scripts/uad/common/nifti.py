"""NIfTI files: opened with checks that name the defect, headers first, voxels only when they are wanted.

Affines map voxel indices to RAS millimetres (the NIfTI convention).
"""

from __future__ import annotations

import gzip
import math
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import FileBasedImage, ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from uad.common.errors import InputError
from uad.common.formats import GZIP, HEAD, what_is

_SHEAR_TOLERANCE = 1e-2
_VOXEL_MM = (0.1, 20.0)  # outside: the header counts in metres or micrometres, or is damaged
_CHUNK = 2**20
_NIFTI_1 = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")  # the size of its header, 348
_MOST_VOXELS = 2**29  # 800 voxels along each axis
UNREADABLE = (
    ImageFileError, HeaderDataError, OSError, EOFError, ValueError, TypeError, KeyError, OverflowError, struct.error,
    zlib.error, gzip.BadGzipFile, WrapStructError,
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a NIfTI file says of its volume, without its voxels.

    shape: of the 3-D volume. affine: [4, 4] float64, voxel index to RAS mm. dtype: name of the stored type.
    forms_apart: largest distance in voxels between the file's two affines (sform, which counts, and qform); 0
        where it has one.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: str
    forms_apart: float

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along the array axes in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def orientation(self) -> str:
        """Where the array axes go, as nibabel writes it, e.g. "LPS"."""
        return "".join(nib.aff2axcodes(self.affine))


def read_header(path: str | Path) -> Header:
    """Read and check a NIfTI file's header; voxels are not decompressed.

    Raises:
        InputError: unreadable, not 3-D (one trailing axis of length 1 is dropped), empty, another length than the
            header says, no orientation, a degenerate affine, or voxels that are not real numbers.
    """
    image, shape, affine = open_checked(path)
    return Header(shape, affine, image.get_data_dtype().name, _forms_apart(image, shape))


def open_checked(path: str | Path) -> tuple[nib.Nifti1Image, tuple[int, int, int], np.ndarray]:
    """The file with its checked shape and affine; voxels are not read yet.

    Raises:
        InputError: as `read_header`.
    """
    head = _first_bytes(path)
    if what_is(head):
        raise unreadable(path)
    try:
        image = _opened(path, head)
        if not isinstance(image, nib.Nifti1Image):
            raise ValueError(f"is a {type(image).__name__}")
        shape, kind = image.shape, image.get_data_dtype().kind
        stored = image.get_data_dtype().itemsize
        offset = int(image.dataobj.offset)  # type: ignore[attr-defined]  # an ArrayProxy
    except UNREADABLE as error:
        raise unreadable(path) from error
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) != 3:
        raise InputError(f"{path}: has shape {shape}; one 3-D volume is needed, extract one")
    if min(shape) < 1:
        raise InputError(f"{path}: holds no voxels (shape {shape}); fetch it again")
    if math.prod(shape) > _MOST_VOXELS:
        raise InputError(f"{path}: its header claims {shape} voxels, more than a head scan has; fetch it again")
    if kind not in "biuf":
        raise InputError(
            f"{path}: its voxels are not real numbers (complex or colour); convert it to a grey-scale scan"
        )
    _check_length(path, offset + math.prod(shape) * stored)
    if image.header["sform_code"] <= 0 and image.header["qform_code"] <= 0:
        raise InputError(
            f"{path}: its header states no orientation (sform and qform codes are 0), so left and right are not "
            "known; set the affine"
        )
    return image, shape, _checked_affine(image.affine, path)


def stored_voxels(path: str | Path, image: nib.Nifti1Image) -> ArrayProxy:
    """What an opened file holds; a gzip stream is read to its end, for only there its checksum is compared.

    Raises one of `UNREADABLE`, here or when the voxels are taken.
    """
    if not _is_gzip(path):
        return image.dataobj  # type: ignore[return-value]  # an ArrayProxy
    with gzip.open(path) as stream:
        return type(image).from_bytes(stream.read()).dataobj  # type: ignore[return-value]


def unreadable(path: str | Path) -> InputError:
    """The error for what raised one of `UNREADABLE`: what the file is, or else that it is damaged."""
    head = _first_bytes(path)
    known = what_is(head)
    if head[:2] == GZIP:
        known = "compressed twice", "decompress it once"
    if known:
        return InputError(f"{path}: cannot be read as NIfTI, because it is {known[0]}; {known[1]}")
    return InputError(f"{path}: cannot be read as NIfTI (truncated or damaged); fetch it again")


def _first_bytes(path: str | Path) -> bytes:
    """The first bytes of a file, or of what a gzip file holds.

    Raises:
        InputError: there is no such file, or it may not be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path}: is a folder or a device, not a file; correct its name")
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
    except FileNotFoundError as error:
        if os.path.islink(path):
            annex = "annex" in os.readlink(path)
            cure = "run `datalad get` or `git annex get`" if annex else "correct the link"
            raise InputError(f"{path}: is a link to {os.readlink(path)}, which is not there; {cure}") from error
        raise InputError(f"{path}: does not exist; fetch it or correct the cohort's raw folder") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); get read permission, or check its disk"
        ) from error
    if head[:2] != GZIP:
        return head
    try:
        with gzip.open(path) as stream:
            return stream.read(HEAD)
    except UNREADABLE:
        return bytes([1])  # what a damaged stream holds is not known


def _opened(path: str | Path, head: bytes) -> FileBasedImage:
    """The file as what its bytes say; nibabel alone goes by the name, and .nii and .nii.gz are mixed up at times."""
    compressed = _is_gzip(path)
    if str(path).endswith(".nii.gz" if compressed else ".nii"):
        return nib.load(path)
    kind = nib.Nifti1Image if head[:4] in _NIFTI_1 else nib.Nifti2Image
    return kind.from_stream(gzip.open(path) if compressed else open(path, "rb"))


def grid_distance(shape: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> float:
    """Largest distance between equal voxel indices of two grids of one shape, per axis, in voxels.

    first, second: affines [4, 4].
    """
    last = np.array(shape) - 1
    corners = np.array(np.meshgrid(*[(0, n) for n in last], indexing="ij")).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    moved = np.linalg.solve(second, first @ corners)
    return float(np.abs(moved - corners)[:3].max())


def _forms_apart(image: nib.Nifti1Image, shape: tuple[int, int, int]) -> float:
    if image.header["sform_code"] <= 0 or image.header["qform_code"] <= 0:
        return 0.0
    try:
        return grid_distance(shape, image.header.get_qform(), image.affine)
    except (ValueError, HeaderDataError):  # a quaternion that is none; the sform counts
        return math.inf


def _check_length(path: str | Path, expected: int) -> None:
    """Refuse a file that is shorter or longer than its header says: one of the two is damaged."""
    found = _announced_bytes(path)
    if found == expected % 2**32:
        return
    try:
        found = _uncompressed_bytes(path)  # a gzip file may consist of several streams
    except UNREADABLE as error:
        raise unreadable(path) from error
    if found != expected:
        raise InputError(
            f"{path}: holds {found} bytes where its header says {expected} (truncated, or the header is damaged); "
            "fetch it again"
        )


def _announced_bytes(path: str | Path) -> int:
    """Uncompressed length modulo 2^32, of a gzip file as its last four bytes tell."""
    with open(path, "rb") as stream:
        size = stream.seek(0, 2)
        if not _is_gzip(path):
            return size % 2**32
        stream.seek(max(0, size - 4))
        return int.from_bytes(stream.read(4), "little")


def _uncompressed_bytes(path: str | Path) -> int:
    if not _is_gzip(path):
        return Path(path).stat().st_size
    with gzip.open(path) as stream:
        return sum(len(chunk) for chunk in iter(lambda: stream.read(_CHUNK), b""))


def _is_gzip(path: str | Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(2) == GZIP


def _checked_affine(affine: np.ndarray, path: str | Path) -> np.ndarray:
    """The affine without the rounding of its float32 fields; ITK takes only orthogonal axes."""
    affine = np.array(affine, dtype=np.float64)
    matrix = affine[:3, :3]
    spacing = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(affine).all() or spacing.min() < 1e-3:
        raise InputError(f"{path}: its affine has a zero or undefined voxel size; repair the header")
    if spacing.min() < _VOXEL_MM[0] or spacing.max() > _VOXEL_MM[1]:
        sizes = " x ".join(f"{size:.4g}" for size in spacing)
        raise InputError(f"{path}: its voxels measure {sizes} mm, unlike a head scan's; correct the header")
    left, singular, right = np.linalg.svd(matrix / spacing)
    if np.abs(singular - 1).max() > _SHEAR_TOLERANCE:
        raise InputError(f"{path}: its affine is sheared or flat; resample the scan to an orthogonal grid")
    affine[:3, :3] = left @ right * spacing
    return affine

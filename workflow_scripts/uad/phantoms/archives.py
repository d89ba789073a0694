"""Archive writers whose bytes depend on nothing but the content."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np

from uad.common.files import atomic_path

Members = dict[str, bytes]  # path inside the archive -> content, in order


def nifti_bytes(array: np.ndarray, affine: np.ndarray, qform_code: int = 1, sform_code: int = 1) -> bytes:
    """A `.nii.gz` file: `array` [X, Y, Z] in its own data type, spatial units mm."""
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, qform_code)
    image.set_sform(affine, sform_code)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write one `.nii.gz` file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(nifti_bytes(array, affine))


def write_tar(path: Path, members: Members) -> Path:
    """Write a tar archive, gzipped when the name ends in .gz; a folder entry precedes its first file.

    Flat archives (names without a folder) get no folder entries, as IXI's have none.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folders: set[str] = set()
        for name, content in members.items():
            for folder in reversed(_parents(name)):
                if folder not in folders:
                    folders.add(folder)
                    archive.addfile(_entry(folder, tarfile.DIRTYPE, 0o755))
            entry = _entry(name, tarfile.REGTYPE, 0o644)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    content = buffer.getvalue()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=1, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def _parents(name: str) -> list[str]:
    """Folders of a member from the innermost outwards; a leading `./` stays part of the names."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, mode, 0
    return entry


def write_zip(path: Path, members: Members) -> Path:
    """Write a zip archive; the members are stored, for they are compressed already."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return path

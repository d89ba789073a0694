"""Archives and folders of tiny scans, and an ingest that checks what holds for every table."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from uad.cohorts import COLUMNS, ingest, read_cohort


def nifti(name: str) -> bytes:
    """A 4x4x4 NIfTI, gzipped, whose voxels follow from its name, so that different scans differ; labels are 0 and 1."""
    voxels = np.frombuffer(hashlib.sha256(name.encode()).digest() * 2, np.uint8).reshape(4, 4, 4)
    if re.search("seg|consensus_gt|wmh|mask|lesion", name):
        voxels = voxels % 2
    image = nibabel.Nifti1Image(voxels, np.diag([1, 1, 1.25, 1]))
    return image.to_bytes() if name.endswith(".nii") else gzip.compress(image.to_bytes(), mtime=0)


def plain(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(nifti(name))


def tar(path: Path, *names: str, mode: str = "w", extra: dict[str, bytes] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in ({name: nifti(name) for name in names} | (extra or {})).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(path: Path, *names: str, extra: dict[str, bytes] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in ({name: nifti(name) for name in names} | (extra or {})).items():
            archive.writestr(name, content)
    return path


def run(adapter, tmp_path: Path, *modalities: str, published: bool = False) -> tuple[pd.DataFrame, str]:
    """Ingest `tmp_path/raw`, check what holds for every table, and return it with its notes in one text.

    The scans here are tiny, so they are not held against the published grids; test_ingest.py does that.
    """
    table_path = tmp_path / "table.tsv"
    table, notes = ingest(adapter, tmp_path / "raw", tmp_path / "unpacked", modalities, table_path, published=published)
    pd.testing.assert_frame_equal(read_cohort(table_path), table, check_dtype=False)
    assert tuple(table.columns) == COLUMNS
    assert list(table["subject"]) == sorted(set(table["subject"]))
    for row in table.to_dict("records"):
        images = [row[m] for m in ("t1", "t2") if m in modalities]
        assert row["sha256"] == ";".join(hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in images)
        assert all(Path(row[c]).is_file() for c in ("t1", "t2", "mask", "label") if row[c])
        assert all(row[m] == "" for m in ("t1", "t2") if m not in modalities)
    return table, "\n".join(notes)

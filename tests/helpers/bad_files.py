"""What the cases of bad input share: a register of cases, files and archives to damage, the first stages on them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from uad.cohorts import find_adapter, ingest
from uad.cohorts.folder import FolderAdapter
from uad.config.model import PreprocessSettings
from uad.preprocessing.skull_strip import skull_strip_shard

CASES: dict[str, Callable[[Path], None]] = {}

SHAPE = (32, 36, 40)  # 2950 ml, BALL 904
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
VOXELS = np.random.default_rng(0).integers(1, 200, SHAPE).astype(np.int16)
BALL = (sum(axis**2 for axis in np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")) < 0.7).astype(
    np.uint8
)
IXI = "IXI002-Guys-0828-T1.nii.gz"


def case(function: Callable[[Path], None]) -> Callable[[Path], None]:
    """A function that makes the defect named like itself and runs into it."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def nifti(data=VOXELS, affine=AFFINE, **fields) -> bytes:
    """An uncompressed NIfTI file with header fields overwritten."""
    image = nib.Nifti1Image(data, affine)
    content = bytearray(image.to_bytes())
    offsets = {"dim": (40, "<8h"), "pixdim": (76, "<8f"), "qform_code": (252, "<h"), "sform_code": (254, "<h"),
               "srow": (280, "<12f"), "datatype": (70, "<h")}  # fmt: skip
    for field, value in fields.items():
        offset, form = offsets[field]
        struct.pack_into(form, content, offset, *np.atleast_1d(value))
    return bytes(content)


def save(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
    return path


def tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes], mode="w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def run(tmp_path: Path, adapter: str, *modalities: str, **options) -> None:
    chosen = FolderAdapter(**options) if adapter == "folder" else find_adapter(adapter)()
    ingest(chosen, tmp_path / "raw", tmp_path / "unpacked", modalities, tmp_path / "table.tsv")


def ixi_tar(tmp_path: Path, *members, mode="w", name="IXI-T1.tar") -> None:
    tar(tmp_path / "raw" / name, *members, mode=mode)
    run(tmp_path, "ixi", "t1")


def own(tmp_path: Path, content: bytes, name="s_t2.nii.gz") -> None:
    """Ingest a healthy folder with one scan of these bytes."""
    save(tmp_path / "raw" / name, content)
    run(tmp_path, "folder", "t2", healthy=True)


def own_label(tmp_path: Path, label: bytes) -> None:
    save(tmp_path / "raw/s_t2.nii.gz", nifti())
    save(tmp_path / "raw/s_seg.nii.gz", label)
    run(tmp_path, "folder", "t2")


def brats(tmp_path: Path, shape=(240, 240, 155), mirror=1, labels=(1, 2, 4)) -> None:
    stem = tmp_path / "raw/BraTS2021_00000/BraTS2021_00000"
    affine = np.array([[-1.0 * mirror, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    data = np.zeros(shape, np.uint8)
    data[0, 0, : len(labels)] = labels
    for kind in ("t2", "seg"):
        save(Path(f"{stem}_{kind}.nii.gz"), nifti(data, affine))
    run(tmp_path, "brats21", "t2")


def info(name: str, kind: bytes, link: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def strip(tmp_path: Path, image=VOXELS, mask=BALL, label=None, own_grid=False, **flags) -> pd.DataFrame:
    """Run the first stage on one scan that passed ingest."""
    files = {"t2": image, "mask": mask, "label": label}
    row = dict.fromkeys(("site", "scanner", "age", "t1", "t2", "mask", "label", "sha256"), "")
    row |= dict.fromkeys(("stripped", "registered", "bias_corrected"), "0") | {"subject": "s"} | flags
    for kind, data in files.items():
        if data is not None:
            content = data if isinstance(data, bytes) else nifti(data)
            row[kind] = str(save(tmp_path / "raw" / f"{kind}.nii.gz", content))
    return strip_rows(tmp_path, pd.DataFrame([row]), own_grid)


def strip_rows(tmp_path: Path, rows: pd.DataFrame, own_grid=False) -> pd.DataFrame:
    settings = PreprocessSettings(spacing_mm=4.0, max_failures=0)
    skull_strip_shard(
        rows, settings, tmp_path / "s", tmp_path / "s.tsv", name="x", label_on_own_grid=own_grid, progress=str
    )
    return rows


def bids(tmp_path: Path, *names: str) -> None:
    """A folder with a scan or lesion mask under each name; T1 is larger than T2."""
    for name in names:
        larger = np.vstack([BALL, BALL]) if "T1w" in name else BALL
        folders = "/".join(part for part in name.split("_") if part.startswith("sub-"))
        save(tmp_path / f"raw/{folders}/anat/{name}.nii.gz", nifti(larger))

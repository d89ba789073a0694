"""Phantom of IXI: healthy heads of three sites, T1 and T2 (docs/paper.md#ixi)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import xlwt

from uad.common.files import atomic_path
from uad.phantoms.anatomy import Grid, Scene, Subject, covering_grid
from uad.phantoms.archives import Members, nifti_bytes, write_tar
from uad.phantoms.contrast import Scanner, render
from uad.phantoms.fields import stream
from uad.phantoms.truth import write_truth

SITES = {
    "Guys": Scanner(gm=0.0, wm=0.0, gamma=1.0, gain=480, noise=0.018),
    "HH": Scanner(gm=-0.025, wm=0.02, gamma=0.93, gain=900, noise=0.012, bias=0.25),
    "IOP": Scanner(gm=0.02, wm=-0.015, gamma=1.08, gain=310, noise=0.026),
}
_COLUMNS = (
    "IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "WEIGHT", "ETHNIC_ID", "MARITAL_ID", "OCCUPATION_ID",
    "QUALIFICATION_ID", "DOB", "DATE_AVAILABLE", "STUDY_DATE", "AGE",
)  # fmt: skip


def subject_name(index: int) -> str:
    """Subject of an index, e.g. `IXI002-Guys-0828`."""
    site = list(SITES)[index % len(SITES)]
    return f"IXI{2 + 3 * index:03d}-{site}-{828 + 17 * index:04d}"


def subject_age(seed: int, index: int) -> float:
    """Age in years, 20 to 86 as in IXI."""
    return round(float(stream(seed, "ixi", index, "age").uniform(20, 86)), 2)


def _grid(modality: str, site: str, voxel_mm: float) -> Grid:
    in_plane = voxel_mm * {"Guys": 0.94, "HH": 0.94, "IOP": 0.98}[site]
    if modality == "t1":
        return covering_grid((-94, -128, -88), (94, 108, 102), (in_plane, in_plane, 1.2 * voxel_mm), "PSR")
    return covering_grid((-95, -128, -88), (95, 104, 100), (in_plane, in_plane, 1.25 * voxel_mm), "LPS")


def scan(seed: int, index: int, modality: str, voxel_mm: float) -> tuple[np.ndarray, Scene]:
    """One scan (int16) and what lies in it; T1 and T2 have grids and a head position of their own."""
    site = subject_name(index).split("-")[1]
    subject = Subject(seed, "ixi", index, "scanner", subject_age(seed, index))
    if modality == "t2":
        subject.moved(stream(seed, "ixi", index, "motion"), degrees=0.7, mm=1.0)
    scene = subject.on(_grid(modality, site, voxel_mm))
    return render(scene, modality, SITES[site]), scene


def write(folder: Path, subjects: int, seed: int, voxel_mm: float) -> list[Path]:
    """Write `IXI-T1.tar`, `IXI-T2.tar` and `IXI.xls`; one more subject has a T1 only."""
    archives: dict[str, Members] = {"t1": {}, "t2": {}}
    for index in range(subjects + 1):
        name = subject_name(index)
        for modality in ("t1",) if index == subjects else ("t1", "t2"):
            image, scene = scan(seed, index, modality, voxel_mm)
            member = f"{name}-{modality.upper()}.nii.gz"
            archives[modality][member] = nifti_bytes(image, scene.grid.affine)
            write_truth(folder / "truth", name, scene, np.zeros_like(scene.brain), modality)
    paths = [write_tar(folder / f"IXI-{modality.upper()}.tar", archives[modality]) for modality in archives]
    return [*paths, _write_table(folder / "IXI.xls", subjects, seed)]


def _write_table(path: Path, subjects: int, seed: int) -> Path:
    """The demographic sheet with known faults: zeroed duplicate, subject without row, row without scan."""
    missing = subjects - 1 if subjects > 1 else None
    rows = [_row(seed, index) for index in range(subjects + 1) if index != missing]
    rows.insert(1, [rows[0][0], *[0] * (len(_COLUMNS) - 2), None])
    rows.append(_row(seed, subjects + 1))
    book = xlwt.Workbook()
    sheet = book.add_sheet("Table")
    for number, row in enumerate([list(_COLUMNS), *rows]):
        for column, value in enumerate(row):
            if value is not None:
                sheet.write(number, column, value)
    codes = book.add_sheet("Ethnicity")
    ethnic: list[list[Any]] = [["ID", "ETHNIC"], [1, "White"], [3, "Asian or Asian British"]]
    for number, row in enumerate(ethnic):
        for column, value in enumerate(row):
            codes.write(number, column, value)
    buffer = io.BytesIO()
    book.save(buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return path


def _row(seed: int, index: int) -> list[Any]:
    rng = stream(seed, "ixi", index, "table")
    age = subject_age(seed, index)
    sex = int(rng.integers(1, 3))
    body = [int(rng.normal(170, 8)), int(rng.normal(72, 10))]
    codes = [1, int(rng.integers(1, 5)), int(rng.integers(1, 8)), int(rng.integers(1, 6))]
    born = f"{2005 - int(age)}-{rng.integers(1, 13):02d}-{rng.integers(1, 28):02d}"
    return [2 + 3 * index, sex, *body, *codes, born, 1, "2005-11-25", age]

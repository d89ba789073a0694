"""The store: one memory-mapped array per cohort and modality.  DESIGN decision 6

Images, masks and labels are `[N, Z, Y, X]` numpy files; slices are read without touching the rest.  The index
table is written last, so a store that has one is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from uad.errors import InputError
from uad.files import atomic_path
from uad.methods.base import Scan
from uad.packing import Packed, final_shape, pack_volume
from uad.preprocessing.scan import read_table
from uad.volumes import itk_code, read_image, read_label

if TYPE_CHECKING:
    from uad.config.model import PackSettings

RECIPE_VERSION = 1

INDEX_COLUMNS = ("row", "subject", "site", "scanner", "age", "lesion_ml")
_ARRAYS = ("images", "masks", "labels")


def pack(
    shard_tables: Sequence[str | Path],
    cohort_table: str | Path,
    modality: str,
    settings: PackSettings,
    spacing_mm: float,
    prefix: str | Path,
) -> None:
    """Pack the preprocessed scans of one cohort and modality into a store, sorted by subject.

    Writes `<prefix>.images.npy` (settings.dtype, in [0, 1]), `.masks.npy`, `.labels.npy` (uint8) and the
    index `<prefix>.tsv` (row, subject, site, scanner, age, lesion_ml; lesion volume on the packed grid in
    ml).  Scans that failed in preprocessing are left out.  One volume is in memory at a time.

    Raises:
        InputError: no scan of this modality, a subject twice or missing from the cohort table, or a volume
            that cannot be packed.
    """
    rows, cohort = _scans(shard_tables, modality), read_table(cohort_table).set_index("subject")
    unknown = [subject for subject in rows["subject"] if subject not in cohort.index]
    if unknown:
        raise InputError(f"{cohort_table}: does not list {unknown[0]}, which was preprocessed; run ingest again")
    x, y, z = final_shape(settings)
    types = dict(zip(_ARRAYS, (np.dtype(settings.dtype), np.uint8, np.uint8), strict=True))
    voxel_ml = (spacing_mm / settings.factor) ** 3 / 1000
    lesion_ml = []
    with ExitStack() as stack:
        paths = {name: stack.enter_context(atomic_path(_array_path(prefix, name))) for name in _ARRAYS}
        arrays = {
            name: np.lib.format.open_memmap(path, "w+", types[name], (len(rows), z, y, x))
            for name, path in paths.items()
        }
        for position, row in enumerate(rows.itertuples()):
            packed = _packed(row, settings, spacing_mm)
            for name, array in zip(_ARRAYS, packed, strict=True):
                arrays[name][position] = array.transpose(2, 1, 0)
            lesion_ml.append(round(float((packed.label == 1).sum()) * voxel_ml, 4))
        for array in arrays.values():
            array.flush()
        _index_path(prefix).unlink(missing_ok=True)  # no index while the arrays are exchanged
    index = cohort.loc[rows["subject"], ["site", "scanner", "age"]].reset_index()
    index.insert(0, "row", range(len(index)))
    with atomic_path(_index_path(prefix)) as temporary:
        index.assign(lesion_ml=lesion_ml).to_csv(temporary, sep="\t", index=False)


def _scans(shard_tables: Sequence[str | Path], modality: str) -> pd.DataFrame:
    table = pd.concat([read_table(path) for path in shard_tables], ignore_index=True)
    rows = table[(table["modality"] == modality) & (table["status"] == "ok")].sort_values("subject", ignore_index=True)
    if rows.empty:
        raise InputError(f"{shard_tables[0]}: no finished {modality} scan in {len(shard_tables)} shard tables")
    twice = rows["subject"][rows["subject"].duplicated()].tolist()
    if twice:
        raise InputError(f"shard tables: {twice[0]} {modality} appears more than once; delete old shard tables")
    return rows


def _packed(row, settings: PackSettings, spacing_mm: float) -> Packed:
    """One row of a shard table as a packed volume."""
    image, mask = read_image(row.image), read_label(row.mask)
    label = read_label(row.label).data if row.label else np.zeros_like(mask.data)
    if not image.data.shape == mask.data.shape == label.shape:
        raise InputError(f"{row.image}: image, mask and label differ in shape; preprocess the scan again")
    if np.abs(image.spacing / spacing_mm - 1).max() > 1e-3 or itk_code(image) != "RAI":
        raise InputError(f"{row.image}: is not at {spacing_mm} mm in orientation RAI; preprocess the scan again")
    try:
        return pack_volume(image.data, mask.data, label, settings)
    except InputError as error:
        raise InputError(f"{row.image}: {error}") from error


@dataclass(frozen=True)
class Store:
    """An opened store.

    images: [N, Z, Y, X] float16 or float32 in [0, 1], background 0; y grows to posterior, x to patient left.
    masks: uint8 {0, 1}, brain.  labels: uint8 {0 none, 1 lesion, 2 excluded from evaluation}.
    index: row, subject, site, scanner (text), age (years, NaN: unknown), lesion_ml.
    """

    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    index: pd.DataFrame

    @classmethod
    def open(cls, prefix: str | Path) -> Store:
        """Map a store into memory, read-only.

        Raises:
            InputError: a file is missing or damaged, or arrays and index do not fit each other.
        """
        index = read_table(_index_path(prefix))
        if tuple(index.columns) != INDEX_COLUMNS or index["subject"].duplicated().any():
            raise InputError(f"{_index_path(prefix)}: is no index of a store; pack the cohort again")
        arrays = [_open_array(_array_path(prefix, name)) for name in _ARRAYS]
        shapes = {array.shape for array in arrays}
        if len(shapes) != 1 or arrays[0].ndim != 4 or len(arrays[0]) != len(index):
            raise InputError(
                f"{prefix}: arrays {[array.shape for array in arrays]} and index ({len(index)} rows) do not "
                "fit; pack the cohort again"
            )
        if index["row"].tolist() != [str(row) for row in range(len(index))]:
            raise InputError(f"{_index_path(prefix)}: its rows are not 0, 1, 2, ...; pack the cohort again")
        typed = index.astype({"row": int, "lesion_ml": float})
        return cls(*arrays, typed.assign(age=pd.to_numeric(index["age"], errors="coerce")))

    @property
    def subjects(self) -> list[str]:
        """Whose scans the store holds, in row order."""
        return self.index["subject"].tolist()

    def row(self, subject: str) -> int:
        """The subject's row in the arrays.

        Raises:
            InputError: the store does not hold the subject.
        """
        rows = self.index["row"][self.index["subject"] == subject]
        if rows.empty:
            raise InputError(f"{subject}: is not in the store ({len(self.index)} subjects); pack its cohort again")
        return int(rows.iloc[0])

    def scan(self, subject: str) -> Scan:
        """One volume in memory, as methods read it."""
        row = self.row(subject)
        return Scan(subject, self.images[row].astype(np.float32), self.masks[row] > 0, np.array(self.labels[row]))


def _open_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: missing or damaged; pack the cohort again") from error


def _array_path(prefix: str | Path, name: str) -> Path:
    return Path(f"{prefix}.{name}.npy")


def _index_path(prefix: str | Path) -> Path:
    return Path(f"{prefix}.tsv")

"""The store: one memory-mapped array per cohort and modality.  docs/formats.md

Images, masks and labels are `[N, Z, Y, X]` numpy files; slices are read without touching the rest.  The index
table is written last, so a store that has one is complete (`uad.preprocessing.pack` writes it).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike

from uad.common.errors import InputError
from uad.common.packed import Scan
from uad.common.tabular import read_table

INDEX_COLUMNS = ("row", "subject", "site", "scanner", "age", "lesion_ml")
ARRAYS = ("images", "masks", "labels")


@dataclass(frozen=True)
class Store:
    """An opened store.

    images: [N, Z, Y, X] float16 or float32 in [0, 1], background 0 (but D38); y grows to posterior, x to patient left.
    masks: uint8 {0, 1}, brain.  labels: uint8 {0 none, 1 lesion, 2 excluded from evaluation}.
    index: row, subject, site, scanner (text), age (years, NaN: unknown), lesion_ml.
    modality: t1 or t2.
    """

    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    index: pd.DataFrame
    modality: str

    @classmethod
    def open(cls, prefix: str | Path) -> Store:
        """Map a store into memory, read-only; `prefix` is `<folder>/<cohort>_<modality>`.

        Raises:
            InputError: a file is missing or damaged, or arrays and index do not fit each other.
        """
        index = read_table(index_path(prefix))
        if tuple(index.columns) != INDEX_COLUMNS or index["subject"].duplicated().any():
            raise InputError(f"{index_path(prefix)}: is not the index of a store; pack the cohort again")
        images, masks, labels = arrays = [_open_array(array_path(prefix, name)) for name in ARRAYS]
        shapes = {array.shape for array in arrays}
        if len(shapes) != 1 or arrays[0].ndim != 4 or len(arrays[0]) != len(index):
            raise InputError(
                f"{prefix}: arrays {[array.shape for array in arrays]} and index ({len(index)} rows) do not "
                "fit; pack the cohort again"
            )
        if index["row"].tolist() != [str(row) for row in range(len(index))]:
            raise InputError(f"{index_path(prefix)}: its rows are not 0, 1, 2, ...; pack the cohort again")
        typed = index.astype({"row": int, "lesion_ml": float})
        typed = typed.assign(age=pd.to_numeric(index["age"], errors="coerce"))
        return cls(images, masks, labels, typed, Path(prefix).name.rpartition("_")[2])

    @property
    def subjects(self) -> list[str]:
        """The subjects in row order."""
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
        arrays = self.images[row].astype(np.float32), self.masks[row] > 0, np.array(self.labels[row])
        return Scan(subject, *arrays, self.modality)


def open_stores(files: Iterable[Path], modality: str) -> dict[str, Store]:
    """The stores that these files belong to, by cohort.

    Args:
        files: all files of stores of one modality, as a rule declares them: `<cohort>_<modality>.tsv` and the arrays.

    Raises:
        InputError: as `Store.open`.
    """
    indices = [file for file in files if file.suffix == ".tsv"]
    return {file.name.removesuffix(f"_{modality}.tsv"): Store.open(file.with_suffix("")) for file in indices}


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """A writable `.npy` array of zeros, memory-mapped, with its bytes reserved on the disk.

    Writing into a map that has no room behind it would end the program with SIGBUS, without a message.

    Raises:
        OSError: there is no room for the array (a `DiskFull` within `atomic_path`).
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none: there a full disk ends the program when a page is written
        with open(path, "r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def _open_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: missing or damaged; pack the cohort again") from error


def array_path(prefix: str | Path, name: str) -> Path:
    """Where a store keeps one of its `ARRAYS`."""
    return Path(f"{prefix}.{name}.npy")


def index_path(prefix: str | Path) -> Path:
    """Where a store keeps its table of scans."""
    return Path(f"{prefix}.tsv")

"""What an arm made of the scans of a cohort, kept for scoring: the one writer and the one reader.  docs/formats.md

One cohort of one arm is an array [T, N, Z, Y, X] (`.npy`) with an index (`.tsv`: row, subject).  `gives` says what
it holds: reconstructions per noise level (float16, since they are in the unit of the image, [0, 1]), or anomaly maps
(T = 1; float32, since their unit is free).  The table of all arrays of an (arm, modality, fold) is the stage's
declared output.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from uad.common.errors import InputError
from uad.common.files import atomic_path, sha256_of
from uad.common.packed import Scan
from uad.common.store import new_array
from uad.common.tabular import read_table, write_table
from uad.methods import ScoringHead

TYPES: dict[str, np.dtype[Any]] = {"reconstruction": np.dtype(np.float16), "map": np.dtype(np.float32)}
ENSEMBLE = "ens"  # mean of the reconstructions over the levels of `inference.ensemble`
COMBINATIONS = ("gmean", "max")  # of the residuals over the same levels


class Output(NamedTuple):
    """What an arm made of one scan in one reading.

    kind: `reconstruction`, in the scan's units, or `map`, how unusual each voxel is, in any unit.
    values: float32 [Z, Y, X].
    """

    kind: str
    values: np.ndarray

    def stored(self) -> np.ndarray:
        """The values in the type that files hold."""
        return self.values.astype(TYPES[self.kind])


def write_outputs(
    path: Path, kind: str, t_tests: list[int], subjects: list[str], shape: tuple[int, ...], scans: Iterable[np.ndarray]
) -> dict[str, Any]:
    """Write the array and index of a cohort, one scan at a time; room for all is taken first.

    Args:
        path: of the array, `.npy`; the index lies beside it.
        t_tests: noise levels; empty for an arm without.
        shape: of one volume.
        scans: [T, Z, Y, X] of each subject.

    Returns:
        The table's row: array, index, sha256, gives, t_tests, volumes.
    """
    with atomic_path(path) as temporary:
        array = new_array(temporary, TYPES[kind], (len(t_tests) or 1, len(subjects), *shape))
        for row, values in enumerate(scans):
            array[:, row] = values
        array.flush()
        del array
    index = path.with_suffix(".tsv")
    write_table(pd.DataFrame({"row": range(len(subjects)), "subject": subjects}), index)
    return {
        "array": str(path), "index": str(index), "sha256": sha256_of(path), "gives": kind,
        "t_tests": json.dumps(t_tests), "volumes": len(subjects),
    }  # fmt: skip


class Outputs:
    """The outputs of one (arm, modality, fold), by its table; `ensemble`: noise levels that are combined."""

    def __init__(self, table: str | Path, ensemble: Sequence[int] = ()) -> None:
        self._table, self._ensemble = read_table(table).set_index("cohort"), ensemble
        self._arrays: dict[str, tuple[np.ndarray, dict[str, int]]] = {}

    def doubts(self) -> list[str]:
        """What speaks against the arm's outputs, one line per cohort in doubt."""
        return [f"{cohort}: {text}" for cohort, text in self._table["doubts"].items() if text]

    def volume(self, cohort: str, scan: Scan, reading: str = "") -> Output:
        """One scan in one reading: a noise level, `ens`, one of `COMBINATIONS`, or "" for an arm without noise levels.

        `gmean` and `max` are maps: the geometric mean and the largest of |scan - reconstruction| over the levels.

        Raises:
            InputError: the cohort's array is missing or is not the one the table was written for.
        """
        row = self._table.loc[cohort]
        if cohort not in self._arrays:
            self._arrays[cohort] = _opened(row)
        array, rows = self._arrays[cohort]
        values, t_tests = array[:, rows[scan.subject]], json.loads(row["t_tests"])
        if reading not in (ENSEMBLE, *COMBINATIONS):
            return Output(row["gives"], values[t_tests.index(int(reading)) if reading else 0].astype(np.float32))
        values = values[[t_tests.index(t_test) for t_test in self._ensemble]].astype(np.float32)
        if reading == ENSEMBLE:
            return Output(row["gives"], values.mean(axis=0))
        return Output("map", combined(np.abs(scan.image - values), reading))


def reconstruction_of(outputs: Outputs, head: ScoringHead, cohort: str, scan: Scan) -> np.ndarray:
    """What a scoring head rates of a scan: the reading it asks for, by default the other arm's main one."""
    main = ENSEMBLE if head.source.reads_noise_levels else ""
    return outputs.volume(cohort, scan, head.params.reading or main).values


def combined(residuals: np.ndarray, how: str) -> np.ndarray:
    """Residuals [T, ...], at least 0, as one: how is "gmean", exp(mean log), or "max"."""
    if how == "max":
        return residuals.max(axis=0)
    with np.errstate(divide="ignore"):  # the mean with a 0 is 0
        return np.exp(np.log(residuals).mean(axis=0))


def _opened(row: pd.Series) -> tuple[np.ndarray, dict[str, int]]:
    """The array of a row of the table, [T, N, Z, Y, X], and subject -> place along N."""
    if not Path(row["array"]).exists():
        raise InputError(f"{row['array']}: missing; delete the table beside it and run again")
    if sha256_of(row["array"]) != row["sha256"]:
        raise InputError(f"{row['array']}: changed since it was written; delete it and run again")
    index = read_table(row["index"], integers=("row",))
    return np.load(row["array"], mmap_mode="r"), dict(zip(index["subject"], index["row"], strict=True))

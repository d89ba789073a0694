"""Reads the files of a run's scores as one table of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from uad.scoring.arm_files import read_arm_files

Arms = Iterable[Mapping[str, Any]]


def read_scores(paths: Iterable[str | Path], arms: Arms, folds: int) -> pd.DataFrame:
    """Concatenate metrics files; rows of arms that learn nothing count for every fold.

    Such an arm is scored once, on fold 0: its maps and the test volumes are the same in every fold.
    """
    return _in_every_fold(pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True), arms, folds)


def read_lesions(paths: Iterable[str | Path], arms: Arms, folds: int) -> pd.DataFrame:
    """Concatenate lesions files, with columns arm, modality and fold; of arms that learn nothing as `read_scores`."""
    return _in_every_fold(read_arm_files(paths), arms, folds)


def _in_every_fold(rows: pd.DataFrame, arms: Arms, folds: int) -> pd.DataFrame:
    constant = rows["arm"].isin([arm["arm"] for arm in arms if not arm["per_fold"]])
    repeats = [rows[constant].assign(fold=fold) for fold in range(1, folds)]
    return pd.concat([rows, *repeats], ignore_index=True)

"""Reads the metrics files of a run as one table of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd


def read_scores(paths: Iterable[str | Path], arms: Iterable[Mapping[str, Any]], folds: int) -> pd.DataFrame:
    """Concatenate metrics files; rows of arms that learn nothing count for every fold.

    Such an arm is scored once, on fold 0: its maps and the test volumes are the same in every fold.
    """
    rows = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    constant = rows["arm"].isin([arm["arm"] for arm in arms if not arm["per_fold"]])
    repeats = [rows[constant].assign(fold=fold) for fold in range(1, folds)]
    return pd.concat([rows, *repeats], ignore_index=True)

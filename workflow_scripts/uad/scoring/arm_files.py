"""Files of rows that lie in a folder per arm and modality, one per fold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd


def read_arm_files(paths: Iterable[str | Path]) -> pd.DataFrame:
    """The rows of several files `<arm>/<modality>/fold<k>.parquet`, with columns arm, modality and fold."""
    return pd.concat([_read(Path(path)) for path in paths], ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    arm, modality = path.parts[-3:-1]
    return pd.read_parquet(path).assign(arm=arm, modality=modality, fold=int(path.stem.removeprefix("fold")))

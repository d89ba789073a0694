"""Where a configuration says that fetched files lie."""

from __future__ import annotations

from pathlib import Path

from uad.config.model import Config

_SRI24_NAMES = ("spgr.nii", "spgr.nii.gz", "templates/T1_brain.nii", "templates/T1_brain.nii.gz")


def hd_bet_folder(config: Config) -> str:
    """Where HD-BET's parameters are fetched to."""
    return f"{config.data_dir}/hd_bet"


def stroke_masks_folder(config: Config) -> str:
    """Where the shapes of planted strokes lie."""
    return config.planted.masks or f"{config.data_dir}/raw/stroke-masks"


def placed_sri24(data_dir: str | Path) -> Path | None:
    """The SRI24 template that lies in `<data_dir>/sri24`, if any."""
    files = (Path(data_dir) / "sri24" / name for name in _SRI24_NAMES)
    return next((file for file in files if file.exists()), None)

"""Anomaly maps that any other program made: scored by the same rules, with no code of ours in their making."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from uad.errors import InputError
from uad.methods.base import Method, Scan

if TYPE_CHECKING:
    import numpy as np


class MapsParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    # may hold {cohort}, {modality} and {fold}; one file per subject: <subject>.npy or <subject>.nii.gz
    folder: str


class Maps(Method):
    """Reads `<subject>.npy` [Z, Y, X] or `<subject>.nii.gz` [X, Y, Z] on the grid of the packed store."""

    Params = MapsParams
    gives = "map"
    trains = False

    def __init__(self, params: MapsParams) -> None:
        super().__init__(params)
        self.per_fold = "{fold}" in params.folder
        self._folder: Path | None = None

    def folder(self, cohort: str, modality: str, fold: int) -> str:
        return self.params.folder.format(cohort=cohort, modality=modality, fold=fold)

    def input_files(self, cohorts: list[str], modality: str, fold: int) -> list[str]:
        """The maps that lie there now, so that an exchanged one is noticed; without any, the folder."""
        found = []
        for folder in sorted({self.folder(cohort, modality, fold) for cohort in cohorts}):
            maps = [str(path) for path in sorted(Path(folder).glob("*")) if path.name.endswith((".npy", ".nii.gz"))]
            found += maps or [folder]
        return found

    def enter(self, cohort: str, modality: str, fold: int) -> None:
        self._folder = Path(self.folder(cohort, modality, fold))

    def anomaly_map(self, scan: Scan, rng: np.random.Generator) -> np.ndarray:
        import numpy as np

        path = self._folder / f"{scan.subject}.npy"
        if path.exists():
            values = np.load(path, allow_pickle=False)
        else:
            path = self._folder / f"{scan.subject}.nii.gz"
            if not path.exists():
                raise InputError(f"{self._folder}: has neither {scan.subject}.npy nor {path.name}; make this map")
            import nibabel

            values = np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)
        if values.shape != scan.image.shape:
            raise InputError(f"{path}: has shape {values.shape}, the packed scan [Z, Y, X] {scan.image.shape}")
        values = values.astype(np.float32)
        if not np.isfinite(values).all() or values.min() < 0:
            raise InputError(f"{path}: an anomaly map holds finite numbers of at least 0; this one does not")
        return values


METHOD = Maps

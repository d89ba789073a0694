"""What a phantom really is: brain, lesion and tissue of each subject, for tests and checks of the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uad.phantoms.anatomy import Scene
from uad.phantoms.archives import write_nifti


def write_truth(folder: Path, subject: str, scene: Scene, labels: np.ndarray, modality: str = "") -> None:
    """Write `<subject>_{brain,lesion,tissue}[_<modality>].nii.gz` below `folder`, uint8 on the scan's grid.

    Args:
        labels: [X, Y, Z] 0 none, 1 lesion, 2 excluded from evaluation.
        modality: name suffix for cohorts whose modalities have grids of their own.
    """
    suffix = f"_{modality}" if modality else ""
    for name, array in {"brain": scene.brain, "lesion": labels, "tissue": scene.tissue}.items():
        write_nifti(folder / f"{subject}_{name}{suffix}.nii.gz", array, scene.grid.affine)

"""Phantom of BraTS 2021: gliomas, stripped, in atlas space (docs/paper.md#brats21)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uad.phantoms import lesions
from uad.phantoms.anatomy import Subject, covering_grid
from uad.phantoms.archives import Members, nifti_bytes, write_tar
from uad.phantoms.contrast import Scanner, render
from uad.phantoms.fields import stream
from uad.phantoms.truth import write_truth


def subject_name(index: int) -> str:
    """Subject of an index, e.g. `BraTS2021_00000`; the numbers have gaps."""
    return f"BraTS2021_{2 * index:05d}"


def write(folder: Path, subjects: int, seed: int, voxel_mm: float) -> list[Path]:
    """Write `BraTS2021_Training_Data.tar`; one case has no necrosis (label 1)."""
    # the extent of MNI152, so that world coordinates are the atlas' own
    grid = covering_grid((-98.5, -134.5, -72.5), (98.5, 98.5, 116.5), (voxel_mm,) * 3, "LPS")
    members: Members = {}
    for index in range(subjects):
        name = subject_name(index)
        rng = stream(seed, "brats21", index, "case")
        planted = lesions.glioma(rng, necrosis=index != min(1, subjects - 1))
        subject = Subject(seed, "brats21", index, "atlas", rng.uniform(30, 80), planted)
        scene = subject.on(grid)
        labels = lesions.label_map(planted, scene)
        scanner = Scanner.drawn(rng, bias=0.12)
        for modality in ("flair", "seg", "t1", "t1ce", "t2"):
            array = labels if modality == "seg" else render(scene, modality, scanner, stripped=True)
            members[f"./{name}/{name}_{modality}.nii.gz"] = nifti_bytes(array, grid.affine)
        write_truth(folder / "truth", name, scene, (labels > 0).astype(np.uint8))
    return [write_tar(folder / "BraTS2021_Training_Data.tar", members)]

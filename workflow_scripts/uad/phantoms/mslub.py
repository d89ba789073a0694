"""Phantom of MSLUB: multiple sclerosis on T2, with skull (docs/paper.md#mslub)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uad.phantoms import lesions
from uad.phantoms.anatomy import Grid, Scene, Subject, covering_grid
from uad.phantoms.archives import Members, nifti_bytes, write_zip
from uad.phantoms.contrast import Scanner, render
from uad.phantoms.fields import stream
from uad.phantoms.truth import write_truth

_SCANNER = Scanner(gm=0.015, wm=-0.02, gamma=1.05, gain=700, noise=0.015, bias=0.06)
_SAME_HEADER = 12  # the one patient of MSLUB whose brain mask has the header of the other files


def subject_name(index: int) -> str:
    """Subject of an index, e.g. `patient01`."""
    return f"patient{index + 1:02d}"


def _subject(seed: int, index: int) -> Subject:
    rng = stream(seed, "mslub", index, "case")
    return Subject(seed, "mslub", index, "scanner", rng.uniform(25, 62), lesions.multiple_sclerosis(rng))


def _grid(voxel_mm: float) -> Grid:
    return covering_grid((-94, -130, -84), (94, 108, 104), (voxel_mm, 0.9 * voxel_mm, 0.9 * voxel_mm), "LPS")


def scan(seed: int, index: int, modality: str, voxel_mm: float) -> tuple[np.ndarray, Scene]:
    """One scan (int16) on the patient's common grid, and what lies in it."""
    subject = _subject(seed, index)
    scene = subject.on(_grid(voxel_mm))
    return render(scene, modality, _SCANNER), scene


def write(folder: Path, subjects: int, seed: int, voxel_mm: float) -> list[Path]:
    """Write `mslub.zip`."""
    members: Members = {}
    for index in range(subjects):
        name = subject_name(index)
        subject = _subject(seed, index)
        scene = subject.on(_grid(voxel_mm))
        affine = scene.grid.affine
        labels = lesions.label_map(subject.lesions, scene)
        sequences = {"T1W": "t1", "T1WKS": "t1ce", "T2W": "t2", "FLAIR": "flair"}
        files = {key: (render(scene, modality, _SCANNER), affine) for key, modality in sequences.items()}
        files["consensus_gt"] = labels.astype(np.int16), affine
        shifted = affine.copy()
        if index + 1 != _SAME_HEADER:
            shifted[:3, 3] -= affine[:3, :3] @ np.full(3, 0.5)
        files["brainmask"] = scene.brain, shifted
        for key, (array, header) in files.items():
            members[f"{name}/{name}_{key}.nii.gz"] = nifti_bytes(array, header, qform_code=2)
        members[f"{name}/raw/{name}_T2W.nii.gz"] = _raw_scan(subject, voxel_mm)
        write_truth(folder / "truth", name, scene, labels)
    return [write_zip(folder / "mslub.zip", members)]


def _raw_scan(subject: Subject, voxel_mm: float) -> bytes:
    """The scan as it left the scanner: thick slices, on a grid of its own."""
    grid = covering_grid((-94, -130, -84), (94, 108, 104), (voxel_mm, voxel_mm, 1.8 * voxel_mm), "LPS")
    return nifti_bytes(render(subject.on(grid), "t2", _SCANNER), grid.affine)

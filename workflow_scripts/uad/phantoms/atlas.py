"""Phantom of ATLAS v2.0: strokes on T1, in MNI space, with skull (docs/paper.md#atlas)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uad.phantoms import lesions
from uad.phantoms.anatomy import Grid, Scene, Subject, covering_grid
from uad.phantoms.archives import Members, nifti_bytes, write_tar
from uad.phantoms.contrast import Scanner, render
from uad.phantoms.fields import stream
from uad.phantoms.truth import write_truth

_PER_SITE = 6


def subject_name(index: int) -> str:
    """Subject of an index, e.g. `sub-r001s001`; odd sites train, R002 is the test site."""
    return f"sub-r{1 + 2 * (index // _PER_SITE):03d}s{1 + index % _PER_SITE:03d}"


def _grid(voxel_mm: float) -> Grid:
    return covering_grid((-98.5, -134.5, -72.5), (98.5, 98.5, 116.5), (voxel_mm,) * 3, "RAS")


def _patient(seed: int, index: int) -> tuple[Subject, Scanner]:
    rng = stream(seed, "atlas", index, "case")
    planted = lesions.stroke(rng)
    subject = Subject(seed, "atlas", index, "linear", rng.uniform(35, 84), planted)
    return subject, Scanner.drawn(rng, bias=0.08)


def scan(seed: int, index: int, modality: str, voxel_mm: float) -> tuple[np.ndarray, Scene]:
    """One scan (int16) and what lies in it."""
    subject, scanner = _patient(seed, index)
    scene = subject.on(_grid(voxel_mm))
    return render(scene, modality, scanner), scene


def write(folder: Path, subjects: int, seed: int, voxel_mm: float) -> list[Path]:
    """Write `ATLAS_R2.0.tar.gz` (decrypted); one more case is a test case without mask."""
    members: Members = {
        "ATLAS_2/20220425_ATLAS_2.0_MetaData.csv": _metadata(subjects),
        "ATLAS_2/._20220425_ATLAS_2.0_MetaData.csv": b"\x00\x05\x16\x07junk",
    }
    for index in range(subjects):
        name = subject_name(index)
        subject, scanner = _patient(seed, index)
        scene = subject.on(_grid(voxel_mm))
        labels = lesions.label_map(subject.lesions, scene)
        stem = _stem("Training", name)
        image = render(scene, "t1", scanner)
        members[f"{stem}_T1w.nii.gz"] = nifti_bytes(image, scene.grid.affine)
        members[f"{stem}_label-L_desc-T1lesion_mask.nii.gz"] = nifti_bytes(labels, scene.grid.affine)
        write_truth(folder / "truth", name, scene, labels)
    image, scene = scan(seed, subjects, "t1", voxel_mm)
    members[f"{_stem('Testing', 'sub-r002s001')}_T1w.nii.gz"] = nifti_bytes(image, scene.grid.affine)
    return [write_tar(folder / "ATLAS_R2.0.tar.gz", members)]


def _stem(part: str, name: str) -> str:
    site = name.removeprefix("sub-r").split("s")[0]
    return f"ATLAS_2/{part}/R{site}/{name}/ses-1/anat/{name}_ses-1_space-MNI152NLin2009aSym"


def _metadata(subjects: int) -> bytes:
    """The table of subjects with the columns that the benchmark reads (the real one has more)."""
    lines = ["Subject ID,Session,Scanner Strength,Scanner Brand"]
    for index in range(subjects):
        strength, brand = (("3T", "Siemens Trio"), ("1.5T", "GE Signa"))[index // _PER_SITE % 2]
        lines.append(f"{subject_name(index)},ses-1,{strength},{brand}")
    return ("\n".join(lines) + "\n").encode()

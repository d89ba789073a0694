"""Phantom of the WMH challenge: white matter hyperintensities; labels on FLAIR slices, T1 finer (docs/paper.md#wmh)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from uad.phantoms import lesions
from uad.phantoms.anatomy import Grid, Scene, Subject, covering_grid
from uad.phantoms.archives import Members, nifti_bytes, write_zip
from uad.phantoms.contrast import Scanner, render
from uad.phantoms.fields import stream
from uad.phantoms.truth import write_truth

# site -> (folder, first id, scanner, axes of FLAIR, axes of 3DT1, slice thickness in voxels)
_SITES = {
    "Utrecht": ("Utrecht", 0, Scanner(0.0, 0.01, 0.97, 520, 0.014), "LPS", "LAS", 1.6),
    "GE3T": ("Amsterdam/GE3T", 100, Scanner(0.02, -0.02, 1.08, 1100, 0.02, 0.25), "LPS", "PSR", 1.5),
    "Singapore": ("Singapore", 50, Scanner(-0.02, 0.015, 0.92, 260, 0.022), "LAS", "RAS", 2.0),
}
_LOW, _HIGH = (-96, -130, -88), (96, 110, 104)


def _site(index: int) -> str:
    return list(_SITES)[index % len(_SITES)]


def _number(index: int) -> int:
    return _SITES[_site(index)][1] + index // len(_SITES)


def subject_name(index: int) -> str:
    """Subject of an index, e.g. `Utrecht_0`, `GE3T_100`, `Singapore_50`."""
    return f"{_site(index)}_{_number(index)}"


def _patient(seed: int, index: int) -> Subject:
    rng = stream(seed, "wmh", index, "case")
    planted = lesions.white_matter_hyperintensities(rng, other_pathology=index % 4 == 1)
    return Subject(seed, "wmh", index, "scanner", rng.uniform(55, 86), planted)


def _t1_grid(seed: int, index: int, voxel_mm: float) -> Grid:
    """The 3DT1's grid: oblique to the FLAIR slices, in the same scanner space."""
    angles = stream(seed, "wmh", index, "tilt").uniform(-4, 4, 3)
    tilt = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return covering_grid(_LOW, _HIGH, (voxel_mm,) * 3, _SITES[_site(index)][4], tilt)


def scan(seed: int, index: int, modality: str, voxel_mm: float) -> tuple[np.ndarray, Scene]:
    """One defaced scan (int16) on the 3DT1's grid, and what lies in it."""
    subject = _patient(seed, index)
    scene = subject.on(_t1_grid(seed, index, voxel_mm))
    return _defaced(scene, modality, _SITES[_site(index)][2]), scene


def write(folder: Path, subjects: int, seed: int, voxel_mm: float) -> list[Path]:
    """Write `dataverse_files.zip`; one more case belongs to a test-only scanner."""
    members: Members = {}
    for index in range(subjects):
        place, _, scanner, *_ = _SITES[_site(index)]
        subject, stem = _patient(seed, index), f"training/{place}/{_number(index)}"
        scene = _add_case(members, stem, subject, index, scanner, voxel_mm)
        write_truth(folder / "truth", subject_name(index), scene, lesions.label_map(subject.lesions, scene))
    test_only, test_case = Scanner(0.01, 0.01, 1.0, 800, 0.02), "test/Amsterdam/Philips_VU .PETMR_01./160"
    _add_case(members, test_case, _patient(seed, subjects), subjects, test_only, voxel_mm)
    return [write_zip(folder / "dataverse_files.zip", members)]


def _add_case(members: Members, stem: str, subject: Subject, index: int, scanner: Scanner, voxel_mm: float) -> Scene:
    """Add the files of one case and return the scene on the 3DT1's grid."""
    _, _, _, axes, _, thickness = _SITES[_site(index)]
    fine = subject.on(_t1_grid(subject.key[0], index, voxel_mm))
    slices = subject.on(covering_grid(_LOW, _HIGH, (voxel_mm, voxel_mm, thickness * voxel_mm), axes))
    scans = {
        "3DT1": (_defaced(fine, "t1", scanner), fine),
        "FLAIR": (_defaced(slices, "flair", scanner), slices),
        "T1": (_defaced(slices, "t1", scanner), slices),
    }
    masks = {"3DT1": fine, "FLAIR": slices, "T1": slices} if "Amsterdam" in stem else {"3DT1": fine}
    for key, scene in masks.items():
        members[f"{stem}/orig/{key}_mask.nii.gz"] = nifti_bytes(_kept(scene), scene.grid.affine)
    for key, (array, scene) in scans.items():
        content = nifti_bytes(array, scene.grid.affine)
        members[f"{stem}/orig/{key}.nii.gz"] = content
        members[f"{stem}/pre/{key}.nii.gz"] = content
    labels = lesions.label_map(subject.lesions, slices).astype(np.float32)
    members[f"{stem}/wmh.nii.gz"] = nifti_bytes(labels, slices.grid.affine)
    return fine


def _kept(scene: Scene) -> np.ndarray:
    """The mask of defacing: 0 on the face, 1 elsewhere (uint8) - no brain mask, despite its name."""
    _, y, z = scene.points
    face = (y > 52) & (z < -22) & (scene.distance > 6)
    return (1 - scene.volume(face.astype(np.uint8))).astype(np.uint8)


def _defaced(scene: Scene, modality: str, scanner: Scanner) -> np.ndarray:
    return render(scene, modality, scanner) * _kept(scene)

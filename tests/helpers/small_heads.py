"""Small scans for the tests of preprocessing, and both stages with settings that fit them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd

from uad.common.tabular import read_table
from uad.config.model import PackSettings, PlausibleSettings, PreprocessSettings
from uad.preprocessing.register import register_shard
from uad.preprocessing.skull_strip import skull_strip_shard

SPACING = 4.0
FAST = PreprocessSettings(
    spacing_mm=SPACING,
    registration={"iterations": [200, 100]},
    n4={"levels": 2, "iterations": 20},
    max_failures=0,
)
ANY = {"refuse": (None, None), "flag": (None, None)}
TOY = PlausibleSettings(brain_ml=ANY, atlas_dice=ANY, face_fraction=ANY)  # shapes that are no brains
SMALL = PackSettings(crop=(24, 28, 20), dtype="float32")
RAI = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK "RAI" at 1 mm
COHORT_COLUMNS = ("subject", "site", "scanner", "age", "t1", "t2", "mask", "label", "sha256")


def save(path, data, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return str(path)


def turned(angle_deg, scale, shift_mm, affine):
    """Voxel-to-voxel affine of a small rotation about z, a scaling and a shift."""
    angle = np.deg2rad(angle_deg)
    world = np.eye(4)
    world[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    world[:3, 3] = shift_mm
    return np.linalg.inv(affine) @ world @ affine


def table_of(*rows):
    """A cohort table as text; rows name what is not empty or 0."""
    empty = dict.fromkeys(COHORT_COLUMNS, "") | dict.fromkeys(("stripped", "registered", "bias_corrected"), "0")
    return pd.DataFrame([empty | row for row in rows])


def strip(rows, folder, settings=FAST, **options):
    options = {"name": "ixi shard 0", "device": "cpu", "progress": lambda line: None} | options
    return skull_strip_shard(rows, settings, folder / "stripped", folder / "stripped.tsv", **options)


def run_both(rows, folder, atlas, settings=FAST, workers=1, progress=lambda line: None, limits=None, **options):
    limits = limits or PlausibleSettings()
    strip(rows, folder, settings, limits=limits, **options)
    return register_shard(
        rows, read_table(folder / "stripped.tsv"), atlas, settings, folder / "final", folder / "shard-0.tsv",
        name="ixi shard 0", seed=5, workers=workers, progress=progress, limits=limits,
    )  # fmt: skip


def volumes_of(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*.nii.gz")) + sorted(folder.rglob("*.mat"))}


def ball(shape, radius):
    axes = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    return (sum(axis**2 for axis in axes) <= radius**2).astype(np.uint8)

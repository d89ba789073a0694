"""Preprocessing of real scans with skull.  The data are not part of the project.

Lesjak et al., Neuroinformatics 2018, doi 10.1007/s12021-017-9348-7 (CC BY), longitudinal patient 01, study 1;
SRI24 atlas (Rohlfing et al. 2010, CC BY-SA).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from places import ROOT
from real_data import SHARED

from uad.common.tabular import read_table
from uad.common.volumes import read_image, read_label
from uad.config.model import PreprocessSettings
from uad.preprocessing.itk import ants
from uad.preprocessing.register import register_shard
from uad.preprocessing.skull_strip import skull_strip_shard

DATA = SHARED / "data"
RAW = DATA / "mslub" / "longitudinal" / "raw" / "patient01"
ATLAS = DATA / "sri24" / "spgr.nii.gz"
HD_BET = ROOT / "demo" / "hd_bet"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not RAW.is_dir() or not ATLAS.is_file(), reason=f"real scans are not at {DATA} (not part of the project)"
    ),
]


def true_brain_mask(scan: Path, transforms: list[str], target: Path) -> Path:
    """The brain mask of the common space, brought to a raw scan by the data set's own transforms."""
    inverted = []
    for number, name in enumerate(transforms):
        path = str(target.with_name(f"{target.name}-{number}.mat"))
        ants.write_transform(ants.read_transform(str(RAW / name)).invert(), path)
        inverted.append(path)
    mask = ants.image_read(str(RAW.parents[1] / "coregistered" / "patient01" / "brainmask.nii.gz"))
    moved = ants.apply_transforms(ants.image_read(str(scan)), mask, inverted, "nearestNeighbor")
    ants.image_write(moved, str(target))
    return target


def preprocess(folder: Path, row: dict[str, str], settings: PreprocessSettings) -> pd.Series:
    """The row of the final shard table after both stages."""
    empty = dict.fromkeys(("site", "scanner", "age", "t1", "t2", "mask", "label", "sha256"), "")
    flags = dict.fromkeys(("stripped", "registered", "bias_corrected"), "0")
    rows = pd.DataFrame([{**empty, **flags, "subject": "patient01", **row}])
    skull_strip_shard(rows, settings, folder / "stripped", folder / "stripped.tsv", name="real", device="cpu")
    stripped = read_table(folder / "stripped.tsv")
    table = register_shard(rows, stripped, ATLAS, settings, folder / "final", folder / "final.tsv", name="real", seed=1)
    return table.iloc[0]


@pytest.fixture(scope="module")
def t1_mask(tmp_path_factory) -> Path:
    transforms = ["study1_T1W_intrastudy_to_FLAIR.txt", "study1_FLAIR_to_common_space.txt"]
    target = tmp_path_factory.mktemp("mask") / "t1_mask.nii.gz"
    return true_brain_mask(RAW / "study1_T1W.nii.gz", transforms, target)


def test_t1_with_its_true_mask_overlaps_the_atlas(t1_mask, tmp_path):
    volume = read_label(t1_mask)
    assert volume.data.sum() * volume.voxel_ml == pytest.approx(1306, abs=15)  # measured independently
    row = preprocess(tmp_path, {"t1": str(RAW / "study1_T1W.nii.gz"), "mask": str(t1_mask)}, PreprocessSettings())
    print(f"T1 at 1 mm, true mask: Dice {row.atlas_dice}, {row.brain_ml} ml, {row.seconds} s")
    assert row.atlas_dice > 0.90
    assert 1 < row.n4_max / row.n4_min < 4  # N4 leaves the overall scale free
    image, mask = read_image(row.image), read_label(row["mask"])
    np.testing.assert_allclose(image.spacing, 1)
    assert mask.data.any(axis=(1, 2))[[0, -1]].all()  # cropped to the brain
    # The crop must not move the brain: placed by header, it still lies on the atlas.
    atlas = ants.reorient_image2(ants.image_read(str(ATLAS)), "RAI")
    placed = ants.apply_transforms(atlas, ants.image_read(row["mask"]), [], "nearestNeighbor").numpy() > 0
    brain = atlas.numpy() > 0
    assert 2 * (placed & brain).sum() / (placed.sum() + brain.sum()) == pytest.approx(row.atlas_dice, abs=1e-4)


def test_t2_registers_to_the_t1_atlas(tmp_path):
    transforms = ["study1_T2W_intrastudy_to_FLAIR.txt", "study1_FLAIR_to_common_space.txt"]
    scan = RAW / "study1_T2W.nii.gz"
    mask = true_brain_mask(scan, transforms, tmp_path / "t2_mask.nii.gz")
    row = preprocess(tmp_path, {"t2": str(scan), "mask": str(mask)}, PreprocessSettings(spacing_mm=2.0))
    print(f"T2 at 2 mm, true mask: Dice {row.atlas_dice}, {row.brain_ml} ml, {row.seconds} s")
    assert row.atlas_dice > 0.90


def test_demo_network_finds_the_brain_of_a_real_scan(t1_mask, tmp_path):
    if not (HD_BET / "fold_all" / "checkpoint_final.pth").is_file():
        pytest.skip("demo/hd_bet is not there")
    settings = PreprocessSettings(spacing_mm=3.0, hd_bet={"parameters": str(HD_BET)})
    rows = {"t1": str(RAW / "study1_T1W.nii.gz")}
    drawn = preprocess(tmp_path / "drawn", rows, settings)
    given = preprocess(tmp_path / "given", {**rows, "mask": str(t1_mask)}, settings)
    masks = [
        read_label(tmp_path / name / "stripped" / "patient01_t1_mask.nii.gz").data > 0 for name in ("drawn", "given")
    ]
    dice = 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum())
    print(f"demo network at 3 mm: Dice {dice:.3f} with the true mask, {drawn.atlas_dice} on the atlas "
          f"(true mask: {given.atlas_dice})")  # fmt: skip
    assert dice > 0.5  # trained on phantoms only: it finds the brain, no more

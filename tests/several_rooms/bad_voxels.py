"""Voxels: one function per row of docs/bad-input.md makes the defect and runs into it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from bad_files import AFFINE, BALL, SHAPE, VOXELS, case, flipped, nifti, run, save, strip, strip_rows

from uad.common.tabular import read_table
from uad.config.model import PreprocessSettings
from uad.preprocessing.register import register_shard


@case
def gone(tmp_path):
    row = {"subject": "s", "t1": "", "t2": "gone.nii.gz", "mask": "gone.nii.gz", "label": ""}
    strip_rows(tmp_path, pd.DataFrame([row | dict.fromkeys(("stripped", "registered", "bias_corrected"), "0")]))


@case
def changed_since(tmp_path):
    save(tmp_path / "raw/s_t2.nii.gz", nifti())
    save(tmp_path / "raw/s_mask.nii.gz", nifti(BALL))
    run(tmp_path, "folder", "t2", healthy=True)
    (tmp_path / "table.tsv").rename(tmp_path / "cohort.tsv")
    strip_rows(tmp_path, read_table(tmp_path / "cohort.tsv"))  # as ingest saw it
    save(tmp_path / "raw/s_t2.nii.gz", nifti(VOXELS + 1))
    strip_rows(tmp_path, read_table(tmp_path / "cohort.tsv"))


@case
def nan(tmp_path):
    image = VOXELS.astype(np.float32)
    image[3, 3, 3] = np.nan
    strip(tmp_path, image)


@case
def constant(tmp_path):
    strip(tmp_path, np.full(SHAPE, 7, np.int16))


@case
def gzip_bit(tmp_path):
    path = save(
        tmp_path / "raw/s_t2.nii.gz", nifti(np.random.default_rng(0).integers(0, 2**15, SHAPE).astype(np.int16))
    )
    flipped(path, path.stat().st_size // 2)
    run(tmp_path, "folder", "t2", healthy=True)  # header and length are fine
    (tmp_path / "table.tsv").rename(tmp_path / "cohort.tsv")
    strip_rows(tmp_path, read_table(tmp_path / "cohort.tsv").assign(mask=str(save(tmp_path / "m.nii.gz", nifti(BALL)))))


@case
def empty_mask(tmp_path):
    strip(tmp_path, mask=np.zeros_like(BALL))


@case
def label_nowhere(tmp_path):
    label = np.zeros(SHAPE, np.uint8)
    label[0, 0, 0] = 1
    affine = AFFINE.copy()
    affine[:3, 3] = -20  # the grids overlap, the labelled corner is outside
    strip(tmp_path, label=nifti(label, affine), own_grid=True)


@case
def whole_box(tmp_path):
    strip(tmp_path, mask=np.ones_like(BALL))


@case
def tiny_mask(tmp_path):
    mask = np.zeros_like(BALL)
    mask[10:20, 10:20, 10:20] = 1
    strip(tmp_path, mask=mask)


@case
def cut_brain(tmp_path):
    strip(tmp_path, image=VOXELS[:, :, 20:], mask=BALL[:, :, 20:])


@case
def background(tmp_path):
    strip(tmp_path, image=np.where(BALL, VOXELS, -1).astype(np.int16), mask=None, stripped="1")


@case
def z_scored(tmp_path):
    strip(tmp_path, image=((VOXELS - 100) / 57).astype(np.float32))


@case
def label_tissue(tmp_path):
    strip(tmp_path, label=BALL)


@case
def label_elsewhere(tmp_path):
    label = np.zeros_like(BALL)
    label[1:4, 1:4, 1:4] = 1
    strip(tmp_path, label=label)


@case
def off_atlas(tmp_path):
    rows = strip(tmp_path, image=VOXELS * BALL, mask=None, stripped="1", registered="1", bias_corrected="1")
    nib.save(nib.Nifti1Image(np.roll(BALL, 10, 0).astype(np.float32) * 100, AFFINE), tmp_path / "atlas.nii.gz")
    register(tmp_path, rows)


@case
def not_registered(tmp_path):
    rows = strip(tmp_path, image=VOXELS * BALL, mask=None, stripped="1", registered="1")
    affine = AFFINE.copy()
    affine[:3, 3] = 100
    nib.save(nib.Nifti1Image(BALL.astype(np.float32) * 100, affine), tmp_path / "atlas.nii.gz")
    register(tmp_path, rows)


def register(tmp_path: Path, rows: pd.DataFrame) -> None:
    settings = PreprocessSettings(spacing_mm=4.0, max_failures=0, register_stripped_registered=False)
    register_shard(
        rows, read_table(tmp_path / "s.tsv"), tmp_path / "atlas.nii.gz", settings, tmp_path / "f", tmp_path / "f.tsv",
        name="x", seed=1, progress=str,
    )  # fmt: skip


@case
def float32(tmp_path):
    strip(tmp_path, VOXELS * 1e300)


@case
def subject_twice(tmp_path):
    row = {"subject": "s", "t1": "", "t2": "x.nii.gz", "mask": "", "label": ""}
    row |= dict.fromkeys(("stripped", "registered", "bias_corrected"), "0")
    strip_rows(tmp_path, pd.DataFrame([row, row]))


@case
def atlas_gone(tmp_path):
    register(tmp_path, strip(tmp_path))

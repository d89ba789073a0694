"""Scans that several files preprocess."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.datasets import load_mni152_template
from scipy.ndimage import affine_transform, binary_dilation
from small_heads import RAI, SPACING, ball, save, turned


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """Brain-only template at 4 mm with traces of ringing, and the trailing axis that SRI24 files have."""
    image = load_mni152_template(resolution=int(SPACING))
    data = (image.get_fdata() * 1000).astype(np.float32)
    return save(tmp_path_factory.mktemp("atlas") / "brain.nii.gz", data[..., None], image.affine)


@pytest.fixture(scope="module")
def head(tmp_path_factory, atlas):
    """A head: the template moved by a known affine, skull, bias field; with mask and lesion label."""
    folder = tmp_path_factory.mktemp("head")
    image = nib.load(atlas)
    template = np.asarray(image.dataobj)[..., 0]
    matrix = turned(7, 1.05, (6, -4, 3), image.affine)
    moved = affine_transform(template, matrix, order=1)
    brain = affine_transform((template > 10).astype(np.float32), matrix, order=1) > 0.5
    skull = binary_dilation(brain, iterations=4) & ~binary_dilation(brain, iterations=2)
    field = 1 + 0.3 * np.linspace(-1, 1, moved.shape[0])[:, None, None]
    noise = np.random.default_rng(0).normal(0, 5, moved.shape)
    data = ((moved * brain + 700 * skull) * field + noise * (brain | skull)).astype(np.float32)
    label = np.zeros(moved.shape, dtype=np.uint8)
    label[28:31, 30:33, 20:23] = 4  # any value above 0 is a lesion
    label[16:18, 24:26, 20:22] = 2
    return {
        "t1": save(folder / "t1.nii.gz", data, image.affine),
        "mask": save(folder / "mask.nii.gz", brain.astype(np.uint8), image.affine),
        "label": save(folder / "label.nii.gz", label, image.affine),
    }


@pytest.fixture
def cohort(tmp_path):
    """Two shard tables of three subjects, one of them failed, one with a lesion."""
    rows = []
    for number, subject in enumerate(["s3", "s1", "s2"]):
        shape = (22, 26, 18)
        image = np.random.default_rng(number).uniform(50, 150, shape) * ball(shape, 8)
        files = {"image": image.astype(np.float32), "mask": ball(shape, 8)}
        if subject == "s1":
            files["label"] = ball(shape, 3) + ball(shape, 1)  # values 1 and 2
        row = {"subject": subject, "modality": "t2", "status": "ok", "mask": "", "label": ""}
        for role, data in files.items():
            row[role] = str(tmp_path / f"{subject}_{role}.nii.gz")
            nib.save(nib.Nifti1Image(data, RAI), row[role])
        rows.append(row)
    rows.append({"subject": "s4", "modality": "t2", "status": "failed", "image": "", "mask": "", "label": ""})
    tables = [tmp_path / "shard-0.tsv", tmp_path / "shard-1.tsv"]
    pd.DataFrame(rows[:2]).to_csv(tables[0], sep="\t", index=False)
    pd.DataFrame(rows[2:]).to_csv(tables[1], sep="\t", index=False)
    subjects = [f"s{n}" for n in range(1, 5)]
    table = pd.DataFrame({"subject": subjects, "site": "A", "scanner": "", "age": ["31.5", "", "40", "50"]})
    table.to_csv(tmp_path / "cohort.tsv", sep="\t", index=False)
    return tables, tmp_path / "cohort.tsv", tmp_path / "store" / "x_t2"

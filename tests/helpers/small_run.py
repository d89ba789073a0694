"""A run of its own in a folder: made-up scans as a user has them, and calls of Snakemake.  Nothing is trained.

The folder links to the configuration and the scripts; its results lie beside them.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import yaml
from places import ROOT
from scipy import ndimage

SPACING = 4.0
SHAPE = (32, 38, 30)  # X, Y, Z of the made-up scans
AFFINE = np.array([[-SPACING, 0, 0, 62], [0, -SPACING, 0, 70], [0, 0, SPACING, -50], [0, 0, 0, 1.0]])  # L, P, S
READY = {"adapter": "folder", "modalities": ["t2"], "stripped": True, "registered": True, "bias_corrected": True}
NOT_WANTED = dict.fromkeys(["ixi", "brats21", "mslub", "atlas", "wmh"])
HEALTHY = READY | {"healthy": True, "subjects": 4, "splits": {"train": 1, "val": 1, "test": 2}}
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
OVERLAY = {
    "folds": 1,
    "train_cohort": "healthy",
    "cohorts": NOT_WANTED | {"healthy": HEALTHY},
    "preprocess": {"spacing_mm": SPACING, "atlas": {"image": "mni152"}},
    "plausible": {"atlas_dice": {"refuse": [0.5, None]}},  # the made-up brain is an ellipsoid of 685 ml
    "arms": dict.fromkeys(set(CONFIG["arms"]) - {"thresh", "oracle", "chance", "copy"}),  # nothing is trained here
    "perceptual": {"weights": None, "sha256": None},
    "tables": {"permutation_rounds": 100},
    "execution": {"preprocess_threads": 1, "train_threads": 1, "score_threads": 1},
}


class Bench:
    """A working folder with its own results."""

    def __init__(self, folder, name):
        self.folder, self.results = folder, folder / "results" / name
        for linked in ("config.yaml", "workflow_scripts"):
            (folder / linked).symlink_to(ROOT / linked)
        self.overlays = []

    def overlay(self, content):
        self.overlays.append(f"overlay{len(self.overlays)}.yaml")
        (self.folder / self.overlays[-1]).write_text(yaml.safe_dump(content))

    def run(self, *arguments):
        start = time.time()
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder),
             "--cores", "2", "--configfile", *self.overlays, *arguments],
            cwd=self.folder, capture_output=True, text=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                 "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        print(f"snakemake {' '.join(arguments)}: {time.time() - start:.0f} s")
        return done.returncode, done.stdout + done.stderr

    def rows(self, arm):
        rows = pd.read_parquet(self.results / "metrics" / arm / "t2" / "fold0.parquet")
        return rows[rows["variant"] == "full"].reset_index(drop=True)


def made_up_scan(seed, lesion_edge=0):
    """Image (brain only) and lesion label [X, Y, Z] of a noisy ellipsoid; the brain's box is cut 2 voxels inside."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    brain = sum(axis**2 for axis in axes) < 0.85**2
    image = brain * (100 + 200 * ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2)).clip(40, 160)
    label = np.zeros(SHAPE, np.uint8)
    corner = rng.integers((10, 12, 10), (15, 17, 15))
    label[tuple(slice(start, start + lesion_edge) for start in corner)] = 1
    return (image + 80 * (label > 0)).astype(np.float32), label


def save(path, data, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)

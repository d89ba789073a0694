"""How stages spread over cores: two jobs at once, each on its own core, against one job alone.

A stage is jobs that share nothing (a shard, an arm and fold), so what could keep two of them from going as fast as
one is the machine: memory, caches, a core that is half of one.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from own_process import OwnProcess
from rows import scan

from uad.config.model import PackSettings
from uad.inference.arm import Arm, ready_to_run
from uad.inference.outputs import Output
from uad.inference.run import run_on_scan
from uad.methods import Scan, load_method
from uad.preprocessing.pack import pack
from uad.scoring.protocol import RowKeys, ScoreSettings, VolumeToScore, score_cohort

ROUNDS = 5
RAI = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK "RAI" at 1 mm


def packing(folder: Path) -> Callable[[], None]:
    """Two scans of SRI24's size to the paper's 96 x 96 x 50 voxels."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # as the jobs
    folder = Path(tempfile.mkdtemp(dir=folder))
    rows = []
    for number in range(2):
        image = np.random.default_rng(number).uniform(50, 150, (240, 240, 155)).astype(np.float32)
        row = {"subject": f"s{number}", "modality": "t2", "status": "ok", "label": ""}
        for role, data in (("image", image), ("mask", np.ones(image.shape, np.uint8))):
            row[role] = str(folder / f"{number}_{role}.nii.gz")
            nib.save(nib.Nifti1Image(data, RAI), row[role])
        rows.append(row)
    shard, cohort = folder / "shard-0.tsv", folder / "cohort.tsv"
    table = pd.DataFrame(rows)
    table.to_csv(shard, sep="\t", index=False)
    table[["subject"]].assign(site="A", scanner="", age="40").to_csv(cohort, sep="\t", index=False)
    return lambda: pack([shard], cohort, "t2", PackSettings(), 1.0, folder / "x_t2")


def reconstruction(_: Path) -> Callable[[], None]:
    """One volume at one noise level, by a DDPM of an eighth of the width."""
    method_class = load_method("ddpm")
    method = method_class(method_class.Params(unet={"base": 16, "head_channels": 16}))
    residual, mask, lesion = scan(0)
    volume = Scan("s", residual, mask, lesion.astype(np.uint8))
    torch.manual_seed(0)
    arm = Arm(method, ready_to_run(method.network(residual.shape[1:]).eval()))

    def work() -> None:
        run_on_scan(arm, volume, [500], seed=0)

    return work


def scoring(_: Path) -> Callable[[], None]:
    """Two validation and four test volumes, all scores but the perceptual one."""
    keys = RowKeys("arm", "method", "t2", 0, "cohort")

    def volumes(split: str) -> Any:
        for seed in {"val": range(2), "test": range(2, 6)}[split]:
            residual, mask, lesion = scan(seed)
            label = lesion.astype(np.uint8)
            yield VolumeToScore(
                f"s{seed}", split, "site", residual, mask, label, Output("reconstruction", np.zeros_like(residual))
            )

    def work() -> None:
        score_cohort(volumes, keys, ScoreSettings(voxel_ml=0.008))

    return work


def seconds(*jobs: OwnProcess) -> float:
    start = time.perf_counter()
    for job in jobs:
        job.begin()
    for job in jobs:
        job.end()
    return time.perf_counter() - start


def on_two_cores(make: Callable[[], Callable[[], None]]) -> tuple[float, float]:
    """Seconds of one job and of two jobs at once, medians."""
    jobs = OwnProcess(make, 1), OwnProcess(make, 1)
    seconds(*jobs)  # pays what is paid once
    rounds = [(seconds(jobs[0]), seconds(*jobs)) for _ in range(ROUNDS)]
    alone, both = (statistics.median(side) for side in zip(*rounds, strict=True))
    return alone, both


def main() -> None:
    print("| stage | one job, s | two jobs at once, s | work per second of two cores against one |")
    print("|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for make in (packing, reconstruction, scoring):
            alone, both = on_two_cores(partial(make, Path(folder)))
            print(f"| {make.__name__} | {alone:.2f} | {both:.2f} | {2 * alone / both:.2f} |", flush=True)


if __name__ == "__main__":
    main()

"""Packing, reconstruction and scoring hold one volume at a time: a cohort ten times larger takes no more memory and
ten times as long.

What is measured is the memory of Python and NumPy; the arrays on
disk are mapped files, which the kernel may drop.
"""

import time
import tracemalloc

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from uad.config.model import PackSettings
from uad.methods import load_method
from uad.metrics import pooled
from uad.packing import pack
from uad.reconstruction import read_arm_on_cohort
from uad.scoring import RowKeys, ScoreSettings, VolumeToScore, score_cohort
from uad.store import Store

FEW, MANY = 3, 30
SETTINGS = PackSettings(crop=(72, 80, 60), dtype="float32", curvature_flow={"iterations": 0})
RAI = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK "RAI" at 1 mm


def pack_cohort(folder, count):
    """Pack so many subjects, each with a scan file of its own content."""
    rows = []
    for number in range(count):
        image = np.random.default_rng(number).uniform(50, 150, SETTINGS.crop).astype(np.float32)
        files = {"image": image, "mask": (image > 0).astype(np.uint8)}
        row = {"subject": f"s{number:02}", "modality": "t2", "status": "ok", "label": ""}
        for role, data in files.items():
            row[role] = str(folder / f"{number}_{role}.nii")
            nib.save(nib.Nifti1Image(data, RAI), row[role])
        rows.append(row)
    shard, cohort = folder / "shard-0.tsv", folder / "cohort.tsv"
    table = pd.DataFrame(rows)
    table.to_csv(shard, sep="\t", index=False)
    table[["subject"]].assign(site="A", scanner="", age="40").to_csv(cohort, sep="\t", index=False)
    return lambda: pack([shard], cohort, "t2", SETTINGS, 1.0, folder / "x_t2")


def reconstruct_cohort(folder, count):
    """Let an arm without a network reconstruct that many packed subjects."""
    pack_cohort(folder, count)()
    store, copy = Store.open(folder / "x_t2"), load_method("copy")
    method = copy(copy.Params())
    return lambda: read_arm_on_cohort(
        method, None, store, store.subjects, [], 1, folder / "cache.npy", lambda line: None
    )


def score_cohort_of(folder, count):
    """Score that many scans, a third of them to find the threshold, each made when it is asked for."""
    shape = (20, 60, 60)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    mask, label = z**2 + y**2 + x**2 < 0.9, ((z - 0.2) ** 2 + y**2 + x**2 < 0.03).astype(np.uint8)

    def volumes(split):
        numbers = range(count // 3) if split == "val" else range(count // 3, count)
        for number in numbers:
            residual = np.abs(np.random.default_rng(number).normal(0, 0.1, shape)) + 0.3 * label
            yield VolumeToScore(f"s{number}", split, "A", residual.astype(np.float32), mask, label, np.zeros(shape))

    return lambda: score_cohort(volumes, RowKeys("arm", "method", "t2", 0, "cohort"), ScoreSettings(voxel_ml=1))


@pytest.fixture(autouse=True)
def room_for_one_small_volume(monkeypatch):
    """The threshold searches keep no more than the brain of one of these volumes, and read again."""
    monkeypatch.setattr(pooled, "_COUNTED_AT_ONCE", 10_000)
    monkeypatch.setattr(pooled, "_MOST_KEPT", 20_000)


def works_on(parent, stage, *counts):
    """The stage's work on cohorts of these sizes, each in a folder of its own."""
    works = []
    for count in counts:
        folder = parent / str(len(works))
        folder.mkdir()
        works.append(stage(folder, count))
    return works


def seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def peak(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stage", [pack_cohort, reconstruct_cohort, score_cohort_of])
def test_ten_times_the_scans_take_no_more_memory(tmp_path, stage):
    # the first pays what is paid once, some of it only after several scans
    _, few, many = map(peak, works_on(tmp_path, stage, MANY, FEW, MANY))
    print(f"{stage.__name__}: {few / 1e6:.2f} MB for {FEW} scans, {many / 1e6:.2f} MB for {MANY}")
    assert many < 1.1 * few


@pytest.mark.parametrize("stage", [pack_cohort, reconstruct_cohort, score_cohort_of])
def test_ten_times_the_scans_take_ten_times_as_long(tmp_path, stage):
    _, few, many = map(seconds, works_on(tmp_path, stage, FEW, FEW, MANY))
    per_scan, per_scan_of_many = few / FEW, many / MANY
    print(f"{stage.__name__}: {1e3 * per_scan:.1f} ms per scan of {FEW}, {1e3 * per_scan_of_many:.1f} ms of {MANY}")
    assert per_scan_of_many < 1.5 * per_scan  # what is not linear takes ten times as long per scan

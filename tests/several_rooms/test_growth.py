"""Every stage that goes through scans holds one at a time: a cohort ten times larger takes no more memory and ten times
as long. Scoring alone keeps more: the brain voxels of the validation scans, for the thresholds.

What is measured is the memory of Python and NumPy (the arrays on disk are mapped files, which the kernel may drop); of
preprocessing, where ITK has the volumes, that of a process.
"""

import multiprocessing
import re
import time
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.datasets import load_mni152_template

from uad.cohorts import ingest
from uad.cohorts.folder import FolderAdapter
from uad.common.store import Store
from uad.common.tabular import read_table
from uad.config.model import PackSettings, PreprocessSettings, TrainSettings
from uad.inference.arm import Arm
from uad.inference.outputs import Output
from uad.inference.run import run_on_cohort
from uad.methods import load_method
from uad.metrics.segmentation import pooled_curve
from uad.metrics.threshold import exact_threshold, false_positive_thresholds
from uad.preprocessing.contact_sheets import draw_sheets
from uad.preprocessing.pack import pack
from uad.preprocessing.register import register_shard
from uad.preprocessing.skull_strip import skull_strip_shard
from uad.scoring.protocol import RowKeys, ScoreSettings, VolumeToScore, healthy_thresholds, score_cohort
from uad.training.slices import SliceSource

pytestmark = pytest.mark.slow

FEW, MANY = 3, 30
SETTINGS = PackSettings(crop=(72, 80, 60), dtype="float32", curvature_flow={"iterations": 0})
RAI = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK "RAI" at 1 mm


def ingest_cohort(folder, count):
    """Check the scans and lesion masks of a folder of so many subjects and write their table."""
    for number in range(count):
        draw, stem = np.random.default_rng(number), folder / "raw" / f"sub-{number:02}" / "anat" / f"sub-{number:02}"
        stem.parent.mkdir(parents=True)
        image = draw.uniform(50, 150, (100, 100, 100)).astype(np.float32)
        for name, data in {"T1w": image, "label-lesion_mask": (image > 149).astype(np.uint8)}.items():
            nib.save(nib.Nifti1Image(data, RAI), f"{stem}_{name}.nii.gz")
    adapter, table = FolderAdapter(), folder / "cohort.tsv"
    return lambda: ingest(adapter, folder / "raw", folder / "unpacked", ("t1",), table)


def shard_of(folder, count):
    """The cohort's table as after registration, with a scan file of its own content for each subject."""
    rows = []
    for number in range(count):
        image = np.random.default_rng(number).uniform(50, 150, SETTINGS.crop).astype(np.float32)
        files = {"image": image, "mask": (image > 0).astype(np.uint8)}
        row = {"subject": f"s{number:02}", "modality": "t2", "status": "ok", "label": ""}
        for role, data in files.items():
            row[role] = str(folder / f"{number}_{role}.nii")
            nib.save(nib.Nifti1Image(data, RAI), row[role])
        rows.append(row)
    return pd.DataFrame(rows)


def sheets_of(folder, count):
    """Picture that many preprocessed scans."""
    rows = shard_of(folder, count).assign(message="", flag="", outlier="")
    return lambda: draw_sheets(rows, folder / "sheets")


def pack_cohort(folder, count):
    """Pack so many subjects."""
    shard, cohort = folder / "shard-0.tsv", folder / "cohort.tsv"
    table = shard_of(folder, count)
    table.to_csv(shard, sep="\t", index=False)
    table[["subject"]].assign(site="A", scanner="", age="40").to_csv(cohort, sep="\t", index=False)
    return lambda: pack([shard], cohort, "t2", SETTINGS, 1.0, folder / "x_t2")


def reconstruct_cohort(folder, count):
    """Let an arm without a network reconstruct that many packed subjects."""
    pack_cohort(folder, count)()
    store, copy = Store.open(folder / "x_t2"), load_method("copy")
    arm = Arm(copy(copy.Params()), None)
    return lambda: run_on_cohort(arm, store, store.subjects, [], 1, folder / "cache.npy", lambda line: None)


def draw_batches_of(folder, count):
    """Draw as many batches of training slices as there are packed subjects, and go through their validation slices."""
    pack_cohort(folder, count)()
    store = Store.open(folder / "x_t2")
    source = SliceSource(store, list(range(count)), TrainSettings(batch_size=4), 2.0, load_method("ae")(None))

    def work():
        for step in range(count):
            source.draw(source.volumes_of_step(step, 1), step % FEW)  # how many slices are read depends on the draw
        for batch in source.validation_batches(1):
            batch.images.sum()

    return work


Z, Y, X = np.meshgrid(*(np.linspace(-1, 1, n) for n in (20, 60, 60)), indexing="ij")
BRAIN = Z**2 + Y**2 + X**2 < 0.9


def score_cohort_of(folder, count):
    """Score that many scans, a third of them to find the thresholds, each made when it is asked for."""
    label = ((Z - 0.2) ** 2 + Y**2 + X**2 < 0.03).astype(np.uint8)

    def volumes(split):
        numbers = range(count // 3) if split == "val" else range(count // 3, count)
        for number in numbers:
            residual = np.abs(np.random.default_rng(number).normal(0, 0.1, BRAIN.shape)) + 0.3 * label
            image, output = residual.astype(np.float32), Output("reconstruction", np.zeros(BRAIN.shape))
            yield VolumeToScore(f"s{number}", split, "A", image, BRAIN, label, output)

    settings = ScoreSettings(voxel_ml=1)

    def work():
        healthy = healthy_thresholds(volumes, settings)
        score_cohort(volumes, RowKeys("arm", "method", "t2", 0, "cohort"), settings, healthy)

    return work


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


STAGES = [ingest_cohort, sheets_of, pack_cohort, draw_batches_of, reconstruct_cohort]


@pytest.mark.parametrize("stage", STAGES)
def test_ten_times_the_scans_take_no_more_memory(tmp_path, stage):
    # the first pays what is paid once, some of it only after several scans
    _, few, many = map(peak, works_on(tmp_path, stage, MANY, FEW, MANY))
    print(f"{stage.__name__}: {few / 1e6:.2f} MB for {FEW} scans, {many / 1e6:.2f} MB for {MANY}")
    assert many < 1.1 * few


def exact_search(volumes):
    return exact_threshold(pooled_curve(volumes))


def healthy_search(volumes):
    return false_positive_thresholds(((residual, BRAIN) for residual, _, _ in volumes), [0.01, 0.05])


@pytest.mark.parametrize("search", [exact_search, healthy_search])
def test_a_threshold_search_keeps_eight_bytes_per_brain_voxel(search):
    count, lesion = 100, BRAIN & (Z > 0.8)

    def volumes():
        for number in range(count):
            draw = np.random.default_rng(number)
            yield (draw.random(BRAIN.shape, dtype=np.float32) + 0.1) * BRAIN, lesion, None

    bytes_per_voxel = peak(lambda: search(volumes())) / (count * BRAIN.sum())
    print(f"{search.__name__}: {bytes_per_voxel:.2f} bytes per brain voxel")
    assert bytes_per_voxel < 8 * (1 + lesion.sum() / BRAIN.sum()) * 1.05


@pytest.mark.timing
@pytest.mark.parametrize("stage", [*STAGES, score_cohort_of])
def test_ten_times_the_scans_take_ten_times_as_long(tmp_path, stage):
    _, few, many = map(seconds, works_on(tmp_path, stage, FEW, FEW, MANY))
    per_scan, per_scan_of_many = few / FEW, many / MANY
    print(f"{stage.__name__}: {1e3 * per_scan:.1f} ms per scan of {FEW}, {1e3 * per_scan_of_many:.1f} ms of {MANY}")
    assert per_scan_of_many < 1.5 * per_scan  # what is not linear takes ten times as long per scan


def preprocess_cohort(folder, count):
    """Bring so many scans with a brain mask to the atlas and correct their bias field."""
    folder.mkdir()
    template = load_mni152_template(resolution=3)
    data = (template.get_fdata() * 1000).astype(np.float32)
    nib.save(nib.Nifti1Image(data, template.affine), folder / "atlas.nii.gz")
    nib.save(nib.Nifti1Image((data > 10).astype(np.uint8), template.affine), folder / "mask.nii.gz")
    rows = []
    for number in range(count):
        nib.save(nib.Nifti1Image(data + number, template.affine), folder / f"{number}.nii.gz")
        files = {"t1": str(folder / f"{number}.nii.gz"), "t2": "", "mask": str(folder / "mask.nii.gz"), "label": ""}
        rows.append({"subject": f"s{number:02}", **files, "stripped": "0", "registered": "0", "bias_corrected": "0"})
    settings = PreprocessSettings(
        spacing_mm=3, registration={"iterations": [2, 0, 0, 0]}, n4={"levels": 1, "iterations": 1}
    )
    table = pd.DataFrame(rows)
    options = {"name": "x", "progress": lambda line: None}
    skull_strip_shard(table, settings, folder / "stripped", folder / "stripped.tsv", device="cpu", **options)
    register_shard(
        table, read_table(folder / "stripped.tsv"), folder / "atlas.nii.gz", settings, folder / "done",
        folder / "shard-0.tsv", seed=1, **options,
    )  # fmt: skip


def peaks_of_preprocessing(folder, counts, answers):
    """The highest memory of this process in kB with cohorts of these sizes, one after the other."""
    for count in counts:
        Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten (proc(5))
        preprocess_cohort(folder / str(count), count)
        status = Path("/proc/self/status").read_text()
        answers.put(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_preprocessing_ten_times_the_scans_takes_no_more_memory(tmp_path):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=peaks_of_preprocessing, args=(tmp_path, (1, FEW, MANY), answers))
    process.start()
    process.join()
    _, few, many = (answers.get(timeout=1) for _ in range(3))
    print(f"preprocessing: {few / 1e3:.1f} MB for {FEW} scans, {many / 1e3:.1f} MB for {MANY}")
    volume = 67 * 79 * 64 * 4 / 1e3  # kB
    assert many - few < (MANY - FEW) * volume / 2

"""The estimate of `snakemake plan`: jobs against the dry run, hours and bytes against sums by hand."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from places import ROOT

from uad.common.errors import InputError
from uad.config import build_method, load
from uad.inference.cost import flop_per_slice
from uad.methods.ae import AE
from uad.workflow.dry_run import Job, dry_run, jobs_of
from uad.workflow.estimate import bytes_below, disk_warnings, gpu_warning, report, span, work_left
from uad.workflow.footprint import disk_bytes
from uad.workflow.operations import likely_hours, operations
from uad.workflow.slurm import missing_for_slurm

SNAKEFILE = """
localrules: download

rule all:
    input: "model", "scores"

rule download:
    output: "{cohort}.tsv"
    shell: "touch {output}"

rule train:
    input: "ixi.tsv"
    output: "model"
    threads: 4
    resources: gpu=1, runtime=lambda wc, attempt: 510 * attempt
    shell: "touch {output}"

rule score:
    input: "model", config.get("maps", [])
    output: "scores"
    threads: 64
    shell: "touch {output}"
"""


def test_jobs_are_those_of_a_dry_run_which_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").write_text(SNAKEFILE)
    Path("scores").touch()  # older than the model that is to be made
    assert jobs_of(dry_run({})) == [
        Job("download", "ixi", 0, 1, 0), Job("train", "", 1, 4, 510), Job("score", "", 0, 64, 0),
    ]  # fmt: skip
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"Snakefile", "scores"}


@pytest.mark.slow
def test_changed_parameters_of_a_job_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").write_text(
        'rule all:\n    input: "out"\nrule one:\n    output: "out"\n    params: config["seed"]\n'
        '    shell: "touch {output}"\n'
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all", "--config", "seed=1"]
    subprocess.run(command, check=True)
    assert jobs_of(dry_run({"seed": 1})) == []
    assert jobs_of(dry_run({"seed": 2})) == [Job("one", "", 0, 1, 0, "1", "2")]


def test_a_plan_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").write_text(SNAKEFILE)
    with pytest.raises(InputError, match=r"no plan can be made: .*for rule score.* mine\.npz") as error:
        dry_run({"maps": "mine.npz"})
    assert "\n" not in str(error.value)


def benchmarks(**seconds):
    rows = [(*name.split("/"), s) for name, s in seconds.items()]
    return pd.DataFrame(rows, columns=["stage", "job", "s"])


def test_hours_come_from_what_is_measured_then_computed_then_from_the_limit():
    measured = {
        "train/cddpm-ssl-t2-fold0": 3600, "train/cddpm-ssl-t2-fold1": 7200,  # 1.5 hours on average
        "register/ixi-0": 1800, "register/ixi_t1-0": 900,
    }  # fmt: skip
    jobs = [
        *[Job("train", "cddpm-ssl", 1, 4, 510)] * 3,
        *[Job("train", "cddpm", 2, 4, 480)] * 2,  # its pre-trained sister says nothing about it
        Job("register", "ixi", 0, 8, 120),  # half an hour; `ixi_t1` is another cohort
        Job("register", "wmh", 0, 8, 120),  # mean of the two: 0.375 hours
        Job("score", "cddpm", 0, 4, 120),
        Job("download", "wmh", 0, 1, 0),
    ]
    names = ["ixi", "ixi_t1", "wmh", "cddpm", "cddpm-ssl"]
    computed = {("train", "cddpm"): 6, ("train", "cddpm-ssl"): 6}  # on one card; two take half as long
    train, register, score, download = work_left(jobs, benchmarks(**measured), names, computed)
    assert (train.jobs, train.gpu_hours, train.cpu_hours) == (5, 3 * 1.5 + 2 * 2 * 3, 4 * (3 * 1.5 + 2 * 3))
    assert (train.gpu_limit, train.cpu_limit) == (3 * 8.5 + 2 * 2 * 8, 4 * (3 * 8.5 + 2 * 8))
    assert train.basis == "measured (3), computed (2)"
    assert (register.gpu_hours, register.cpu_hours) == (0, 8 * (0.5 + 0.375))
    assert register.basis == "measured (1), other jobs (1)"
    assert (score.cpu_hours, score.basis) == (8, "time limit")
    assert (download.cpu_hours, download.basis) == (0, "login node")
    last = report([train, register, score, download]).splitlines()[-3]
    # likely 42 + 7 + 8 CPU hours, at most 166 + 32 + 8
    assert last.split() == ["in", "all", "9", "16.5", "57.5", "57.0", "206.0"]


def test_nothing_left_is_said():
    assert work_left([], benchmarks(), []) == [] and report([]) == "Nothing is left to do."


@pytest.mark.slow
def test_the_plan_counts_the_jobs_of_the_dry_run(tmp_path):
    # in a folder of its own: links to the code, nothing made yet
    for name in ("Snakefile", "rules", "workflow_scripts", "envs", "config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)

    def snakemake(*arguments):
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--quiet", "rules"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout + run.stderr

    counts = dict(re.findall(r"^(\w+) +(\d+)$", snakemake("-n").split("Job stats:")[-1], re.MULTILINE))
    plan = snakemake("plan")
    stated = dict(re.findall(r"^(\w+|in all) +(\d+)(?: +[\d.-]+){4}", plan, re.MULTILINE))
    counts["in all"] = str(int(counts.pop("total")) - int(counts.pop("all")))
    assert stated == counts
    # 67 shards of an hour on one GPU and, as configured, eight CPUs, whatever `--cores` says; 3150 scans of 10 s
    assert re.search(r"^skull_strip +67 +8.75 +67.0 +70.0 +536.0  computed$", plan, re.MULTILINE)
    assert "CHANGE-ME" not in plan  # this folder has no profile
    assert re.search(r"disk for it: at most 89.2 GB \(without mslub, whose size", " ".join(plan.split()))


def test_disk_space_of_the_full_study():
    sizes = disk_bytes(load(ROOT / "config.yaml"))
    voxels = 96 * 96 * 50
    scans = 2 * 577 + 1251 + 30 + 655 + 60
    assert sizes["store"] == scans * voxels * (2 + 1 + 1)  # float16 image, mask, label
    # per modality: validation and test volumes; three noise levels for four diffusion arms
    scored = 2 * (44 + 158) + (100 + 1151) + (10 + 20) + (175 + 480) + (15 + 45)
    diffusion, others, copy = 4 * 5 * 3, 5 * 5, 1  # reconstructions in float16
    pca, thresholds, controls = 5, 3, 3  # maps in float32
    per_voxel = 2 * (diffusion + others + copy) + 4 * (pca + thresholds + controls)
    assert sizes["reconstructions"] == scored * voxels * per_voxel
    assert 88e9 < sizes["raw and unpacked"] < 90e9  # 17.4 + 26.8 + 35.7 + 8.8 GB, docs/data.md
    assert 0 < sizes["preprocessed"] < sizes["skull_stripped"]


def test_disk_space_of_a_run_scales_with_its_folds_and_grid(tmp_path):
    def sizes(text):
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(text)
        return disk_bytes(load(ROOT / "config.yaml", ROOT / "demo/config.yaml", overlay))

    one, two = sizes("folds: 1"), sizes("folds: 2")
    assert two["models"] == 2 * one["models"] and two["store"] == one["store"]
    assert (
        sizes("report: {viewer_scans: all}")["report"] == sizes("report: {viewer_scans: 5}")["report"] > one["report"]
    )
    assert sizes("preprocess: {spacing_mm: 1.5}")["skull_stripped"] == 8 * one["skull_stripped"]


def method_of(arm):
    return build_method(load(ROOT / "config.yaml"), arm)


def test_operations_of_a_slice_are_those_of_the_papers_unet():
    # docs/paper.md#u-net: 149.12 GFLOP for the U-Net at 96 x 96, a multiply-add counted as two
    assert round(flop_per_slice(method_of("ddpm"), (96, 96), 50) / 1e9, 2) == 149.12
    assert flop_per_slice(method_of("pddpm"), (96, 96), 50) == flop_per_slice(method_of("ddpm"), (96, 96), 50)
    assert flop_per_slice(method_of("cddpm"), (96, 96), 50) > flop_per_slice(method_of("ddpm"), (96, 96), 50)


class OneLayer(AE):
    def network(self, shape):
        return torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)


class OneLayerOfLevels(OneLayer):
    reads_noise_levels = True

    def reconstruct(self, network, volume, t_tests, generator):
        return torch.stack([network(volume.images) for _ in t_tests])


def test_operations_of_a_layer_are_those_of_its_formula():
    assert flop_per_slice(OneLayer(AE.Params()), (20, 30), 5) == 2 * 9 * 20 * 30
    assert flop_per_slice(OneLayerOfLevels(AE.Params()), (20, 30), 5) == 2 * 9 * 20 * 30


def test_operations_of_chunks_are_counted_per_slice():
    plain = flop_per_slice(method_of("vae"), (96, 96), 50)
    assert (
        plain < flop_per_slice(method_of("svae"), (96, 96), 50) < 1.01 * plain
    )  # its mixer works on the latents alone


@pytest.mark.slow
def test_likely_hours_of_a_training_follow_from_its_operations(tmp_path):
    def hours(text="{}"):
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(text)
        return likely_hours(load(ROOT / "config.yaml", overlay))

    # 17,600 steps of 32 slices, three passes each, on 35 % of an A100's 312 TFLOP/s (mixed) or 156 (TF32)
    work = 17600 * 32 * 149.124939776e9 * 3
    assert hours()["train", "ddpm"] == pytest.approx(work / (0.35 * 312e12) / 3600)
    single = hours("{train: {precision: 32-true}}")["train", "ddpm"]
    assert single == pytest.approx(work / (0.35 * 156e12) / 3600)
    assert hours("{execution: {card: h100}}")["train", "ddpm"] == pytest.approx(work / (0.35 * 989e12) / 3600)
    # an autoencoder waits for its slices: 42 ms per batch of 32 on one of three threads
    assert hours()["train", "ae"] == pytest.approx(17600 * 0.042 / 3 / 3600)
    # the box-wise reading passes each slice four times
    counts = operations(load(ROOT / "config.yaml"))
    assert counts["reconstruct", "pddpm"] == 4 * counts["reconstruct", "ddpm"]


@pytest.mark.slow
def test_a_head_costs_the_passes_of_the_network_it_starts_from(tmp_path):
    (tmp_path / "heads.yaml").write_text(
        "inference: {samples: 2}\narms: {ssim: {method: ssim_ens, from: ddpm}, mhd: {method: mhd, from: pddpm},"
        " andi: {method: andi, from: ddpm}, auto: {method: autoddpm, from: ddpm}}"
    )
    counts = operations(load(ROOT / "config.yaml", tmp_path / "heads.yaml"))
    once = counts["reconstruct", "ddpm"] / (3 * 2)  # read at three levels, twice each
    assert counts["reconstruct", "andi"] == pytest.approx(9 * once)
    assert counts["reconstruct", "auto"] == pytest.approx((20 + 10 * 5) * once)
    assert counts["reconstruct", "mhd"] == pytest.approx(10 * 4 * once)
    assert not {("train", "mhd"), ("train", "andi"), ("reconstruct", "ssim")} & counts.keys()


def test_limits_leave_room_for_every_likely_training_of_the_study():
    config = load(ROOT / "config.yaml")
    for (rule, arm), hours in likely_hours(config).items():
        if rule == "train":
            assert hours < build_method(config, arm).gpu_hours / 2, arm


def test_a_disk_that_is_too_small_is_named(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert disk_warnings({tmp_path / "data": free // 4, tmp_path / "results": free // 4}) == []
    # each would fit alone, both are on one disk; the folders need not exist
    (line,) = disk_warnings({tmp_path / "data": free, tmp_path / "results": 5e12})
    assert f"{tmp_path}/data and {tmp_path}/results is too small" in line and "5000.0 GB are missing" in line


def test_bytes_of_a_folder_are_those_of_its_files(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"123")
    (tmp_path / "again").symlink_to(tmp_path / "in")
    assert bytes_below(tmp_path) == 8 and bytes_below(tmp_path / "not here") == 0


def test_lengths_of_time_in_words():
    day = 86400
    assert [span(s) for s in (60, 7200, 3 * day, 60 * day, 900 * day)] == [
        "a minute", "2 hours", "3 days", "2 months", "2 years",
    ]  # fmt: skip
    assert "90 trainings are left: this CPU alone would need about 3 days" in gpu_warning(90, 3 * day)


def test_what_slurm_needs_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    account, program = missing_for_slurm(["CHANGE-ME"])
    assert "EDIT 1" in account and "sbatch is not found" in program
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert missing_for_slurm(["lab-17", None]) == []

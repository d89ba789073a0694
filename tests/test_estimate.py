"""The estimate of `snakemake plan`: jobs against the dry run, hours and bytes against sums by hand."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

from uad.config import load
from uad.estimate import Job, jobs_of, report, work_left
from uad.footprint import disk_bytes

ROOT = Path(__file__).parents[1]
DRY_RUN = """
rule all:
    input: a, b
    jobid: 0
    resources: tmpdir=/tmp

localrule acquire:
    output: results/x/acquired/ixi.tsv
    jobid: 3
    benchmark: results/x/benchmarks/acquire/ixi.tsv
    wildcards: cohort=ixi
    resources: tmpdir=/tmp

rule train:
    input: a
    output: model
    log: results/x/logs/train/cddpm-ssl-t2-fold0.log
    jobid: 1
    wildcards: arm=cddpm-ssl, modality=t2, fold=0
    priority: 5
    threads: 4
    resources: tmpdir=/tmp, gpu=1, runtime=510, mem_mb=16000, mem=16 GB, mem_mib=15259
"""


def test_jobs_are_read_from_a_dry_run():
    assert jobs_of(DRY_RUN) == [Job("acquire", "ixi", 0, 1, 0), Job("train", "cddpm-ssl", 1, 4, 510)]


def benchmarks(**seconds):
    rows = [(*name.split("/"), s) for name, s in seconds.items()]
    return pd.DataFrame(rows, columns=["stage", "job", "s"])


def test_hours_come_from_what_is_measured_then_from_the_method_then_from_the_limit():
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
        Job("acquire", "wmh", 0, 1, 0),
    ]
    names = ["ixi", "ixi_t1", "wmh", "cddpm", "cddpm-ssl"]
    train, register, score, acquire = work_left(jobs, benchmarks(**measured), names)
    assert (train.jobs, train.gpu_hours, train.cpu_hours) == (5, 3 * 1.5 + 2 * 2 * 8, 4 * (3 * 1.5 + 2 * 8))
    assert train.basis == "measured (3), method (2)"
    assert (register.gpu_hours, register.cpu_hours) == (0, 8 * (0.5 + 0.375))
    assert register.basis == "measured (1), other jobs (1)"
    assert (score.cpu_hours, score.basis) == (8, "time limit")
    assert (acquire.cpu_hours, acquire.basis) == (0, "login node")
    last = report([train, register, score, acquire]).splitlines()[-2]
    assert last.split() == ["in", "all", "9", "36.5", "97.0"]  # 82 + 7 + 8 CPU hours


def test_nothing_left_is_said():
    assert work_left([], benchmarks(), []) == [] and report([]) == "Nothing is left to do."


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
    stated = dict(re.findall(r"^(\w+|in all) +(\d+) +[\d.-]+ +[\d.-]+", plan, re.MULTILINE))
    counts["in all"] = str(int(counts.pop("total")) - int(counts.pop("all")))
    assert stated == counts
    # 67 shards of two hours on one GPU and, as configured, eight CPUs, whatever `--cores` says
    assert re.search(r"^skull_strip +67 +134.0 +1072.0  time limit$", plan, re.MULTILINE)


def test_disk_space_of_the_full_study():
    sizes = disk_bytes(load(ROOT / "config.yaml"))
    voxels = 96 * 96 * 50
    scans = 2 * 577 + 1251 + 30 + 655 + 60
    assert sizes["store"] == scans * voxels * (2 + 1 + 1)  # float16 image, mask, label
    # per modality: validation and test volumes; three noise levels for four diffusion arms
    scored = 2 * (44 + 158) + (100 + 1151) + (10 + 20) + (175 + 480) + (15 + 45)
    diffusion, one_map_per_fold, once = 4 * 5 * 3, 6 * 5, 3 + 4
    assert sizes["reconstructions"] == scored * voxels * 2 * (diffusion + one_map_per_fold + once)
    assert 88e9 < sizes["raw and unpacked"] < 90e9  # 17.4 + 26.8 + 35.7 + 8.8 GB, docs/data.md
    assert 0 < sizes["preprocessed"] < sizes["skull_stripped"]


def test_disk_space_of_a_run_scales_with_its_folds_and_grid(tmp_path):
    def sizes(text):
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(text)
        return disk_bytes(load(ROOT / "config.yaml", ROOT / "demo/config.yaml", overlay))

    one, two = sizes("folds: 1"), sizes("folds: 2")
    assert two["models"] == 2 * one["models"] and two["store"] == one["store"]
    assert sizes("preprocess: {spacing_mm: 1.5}")["skull_stripped"] == 8 * one["skull_stripped"]

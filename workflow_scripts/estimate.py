"""Print what a run still has to do, in jobs and hours, and the disk space that it takes in all."""

import argparse
import textwrap
from pathlib import Path

import torch
import yaml

from uad.common.errors import run_program
from uad.common.recipe import read_settings
from uad.config import resolve
from uad.config.model import Config
from uad.download.checks import size
from uad.reporting.benchmarks import read_benchmarks
from uad.workflow import changes
from uad.workflow.dry_run import Job, dry_run, jobs_of
from uad.workflow.estimate import bytes_below, disk_warnings, gpu_warning, report, work_left
from uad.workflow.footprint import disk_bytes, raw_bytes
from uad.workflow.operations import CPU_SHARE, cpu_flop_per_second, likely_hours, operations
from uad.workflow.slurm import missing_for_slurm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--results", required=True, type=Path)
    arguments = parser.parse_args()

    raw = read_settings(arguments.settings)["config"]
    config = resolve(raw)
    workflow = dry_run(raw)
    jobs = jobs_of(workflow)
    print(changes.report(jobs, workflow.globals["PLANNED"].texts), end="")
    left = work_left(
        jobs,
        read_benchmarks(arguments.results / "benchmarks"),
        [*config.cohorts, *config.arms],
        likely_hours(config),
    )
    print(f"What is left to do\n\n{report(left)}\n")
    sizes = disk_bytes(config)
    print("Disk space of the whole run, about\n")
    for name, count in {**sizes, "in all": sum(sizes.values())}.items():
        print(f"{name:18}{size(count):>10}")
    warnings = [*_disks(config, arguments.results, sizes), *_gpus(config, jobs), *_slurm()]
    if jobs and warnings:
        print("\nBefore you start\n")
        print(*(textwrap.fill(f"- {line}", 116, subsequent_indent="  ") for line in warnings), sep="\n")


def _disks(config: Config, results: Path, sizes: dict[str, float]) -> list[str]:
    """Archives lie below data_dir, all else and the phantoms below the run's folder."""
    archives = raw_bytes(config, "archive")
    data = [Path(config.data_dir) / name for name in ("raw", "unpacked")]
    needed = {
        Path(config.data_dir): max(0, archives - sum(map(bytes_below, data))),
        results: max(0, sum(sizes.values()) - archives - bytes_below(results)),
    }
    return disk_warnings({folder: count for folder, count in needed.items() if count})


def _gpus(config: Config, jobs: list[Job]) -> list[str]:
    trainings = [job for job in jobs if job.rule == "train"]
    if not trainings or torch.cuda.is_available():
        return []
    flop = operations(config)
    work = sum(flop.get((job.rule, job.who), 0) for job in trainings)
    return [gpu_warning(len(trainings), work / (cpu_flop_per_second() * CPU_SHARE))]


def _slurm() -> list[str]:
    profile = Path("slurm/config.yaml")
    if not profile.exists():
        return []
    account = yaml.safe_load(profile.read_text()).get("default-resources", {}).get("slurm_account")
    return [f"For a start with --profile slurm: {line}." for line in missing_for_slurm([account])]


if __name__ == "__main__":
    run_program(main)

"""Print what a run still has to do, in jobs and hours, and the disk space that it takes in all."""

import argparse
import json
import shlex
import subprocess
import tempfile
from pathlib import Path

from uad import changes
from uad.acquisition.checks import size
from uad.benchmarks import read_benchmarks
from uad.config import resolve
from uad.errors import InputError, run_program
from uad.estimate import jobs_of, report, work_left
from uad.footprint import disk_bytes
from uad.recipe import read_settings


def dry_run(snakemake: str, config: dict) -> str:
    """What `snakemake -n` says about a configuration.

    Raises:
        InputError: it finds no plan, e.g. because a file is missing; its last lines say why.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as overlay:
        json.dump(config, overlay)
        overlay.flush()
        # as many cores as any job asks for, so that no number of threads is cut
        command = [*shlex.split(snakemake), "-n", "--nocolor", "--cores", "10000", "--configfile", overlay.name]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise InputError("no plan can be made: " + " ".join((run.stdout + run.stderr).splitlines()[-3:]))
    return run.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--snakemake", required=True, help="how it is called")
    arguments = parser.parse_args()

    raw = read_settings(arguments.settings)["config"]
    config = resolve(raw)
    plan = dry_run(arguments.snakemake, raw)
    print(changes.report(plan), end="")
    left = work_left(
        jobs_of(plan),
        read_benchmarks(arguments.results / "benchmarks"),
        [*config.cohorts, *config.arms],
    )
    print(f"What is left to do\n\n{report(left)}\n")
    sizes = disk_bytes(config)
    print("Disk space of the whole run, about\n")
    for name, count in {**sizes, "in all": sum(sizes.values())}.items():
        print(f"{name:18}{size(count):>10}")


if __name__ == "__main__":
    run_program(main)

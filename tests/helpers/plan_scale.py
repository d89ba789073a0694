"""How the plan grows with the study: jobs, time and memory of the dry run with 1, 2, 5 and 10 times the scans and arms.

python tests/helpers/plan_scale.py      prints the table of docs/cluster.md
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import yaml
from places import ROOT


class Plan(NamedTuple):
    """A dry run: its jobs, seconds by the clock and of CPU, and the most memory it held."""

    jobs: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


def larger_study(factor: int) -> dict:
    """What an overlay of config.yaml says so that there are `factor` times the scans and arms."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    cohorts = {name: {"subjects": entry["subjects"] * factor} for name, entry in config["cohorts"].items()}
    arms = {
        f"{name}-{copy}": {key: value for key, value in arm.items() if key != "paper"}
        for copy in range(1, factor)
        for name, arm in config["arms"].items()
    }
    return {"run": "plan-scale", "cohorts": cohorts, "arms": arms}


def link_checkout(folder: Path) -> None:
    """The workflow in a folder of its own, where nothing has been made."""
    for name in ("Snakefile", "rules", "workflow_scripts", "envs", "config.yaml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)


def dry_run(folder: Path, factor: int) -> Plan:
    """Plan a study in a folder of its own."""
    link_checkout(folder)
    (folder / "overlay.json").write_text(json.dumps(larger_study(factor)))
    command = ["-n", "--cores", "2", "--quiet", "rules", "--configfile", "overlay.json"]
    said, *used = measured(folder, "-m", "snakemake", *command)
    return Plan(int(re.search(r"^total +(\d+)$", said, re.MULTILINE)[1]), *used)


def measured(folder: Path, *arguments: str) -> tuple[str, float, float, float]:
    """What a Python program prints; its seconds by the clock and of CPU, and its peak memory in MB."""
    start = time.time()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        output.seek(0)
        said = output.read()
    assert status == 0, said
    return said, time.time() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    print("| scans and arms | jobs | seconds | CPU seconds | peak memory, MB |\n|---|---|---|---|---|")
    for factor in (1, 2, 5, 10):
        with tempfile.TemporaryDirectory() as folder:
            plan = dry_run(Path(folder), factor)
        print(f"| {factor} x | {plan.jobs} | {plan.seconds:.1f} | {plan.cpu_seconds:.1f} | {plan.peak_mb:.0f} |")


if __name__ == "__main__":
    main()

"""Test the results of a run; the workflow's last rule."""

import argparse
from pathlib import Path

import pandas as pd

from uad.common.errors import InputError, run_program
from uad.common.files import atomic_path
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.reporting.check import check_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, nargs="+", type=Path)
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()

    scores = pd.concat([pd.read_parquet(path) for path in arguments.scores], ignore_index=True)
    held, broken = check_results(scores, read_settings(arguments.settings)["arms"])
    say = job_log("check")
    for line in held:
        say(f"holds   {line}")
    for line in broken:
        say(f"BROKEN  {line}")
    if broken:
        raise InputError(f"{len(broken)} of {len(held) + len(broken)} checks of the results failed; see above")
    with atomic_path(arguments.output) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in held))


if __name__ == "__main__":
    run_program(main)

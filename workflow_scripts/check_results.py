"""Test the results of a run; the workflow's last rule."""

import argparse
from pathlib import Path

import pandas as pd

from uad.common.errors import InputError, run_program
from uad.common.files import atomic_path
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.reporting.check import check_results
from uad.reporting.experiments import load_experiments
from uad.reporting.statements import claims_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, nargs="+", type=Path)
    parser.add_argument("--experiments", nargs="*", default=[], type=Path, help="one file per fold")
    parser.add_argument("--check", required=True, type=Path)
    parser.add_argument("--statements", required=True, type=Path)
    arguments = parser.parse_args()

    scores = pd.concat([pd.read_parquet(path) for path in arguments.scores], ignore_index=True)
    settings = read_settings(arguments.settings)
    held, broken = check_results(scores, settings["arms"])
    claims = claims_of(settings, scores, [load_experiments(path) for path in arguments.experiments])
    broken += [claim.text for claim in claims if not claim.holds]
    say = job_log("check")
    for claim in claims:
        if claim.holds:
            say(f"holds   {claim.text}")
    for line in held:
        say(f"holds   {line}")
    for line in broken:
        say(f"BROKEN  {line}")
    if broken:
        raise InputError(f"{len(broken)} checks of the results failed; see above")
    for path, lines in ((arguments.check, held), (arguments.statements, [claim.text for claim in claims])):
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    run_program(main)

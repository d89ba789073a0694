"""Refuse a run whose cohorts share scans or people across train, validation and test; write what they share."""

import argparse
from pathlib import Path

from uad.cohorts import read_cohort
from uad.cohorts.leaks import check_leaks, find_leaks, notes_on
from uad.cohorts.splits import read_splits
from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.tabular import write_table
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--cohorts", required=True, nargs="+", type=Path, help="a table per cohort")
    parser.add_argument("--splits", required=True, nargs="+", type=Path, help="a table per cohort")
    parser.add_argument("--table", required=True, type=Path)
    arguments = parser.parse_args()

    say = job_log("leaks")
    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    rules = settings["person"]  # by cohort
    cohorts = {path.stem: read_cohort(path) for path in arguments.cohorts}
    splits = {path.stem: read_splits(path) for path in arguments.splits}
    planted = settings["planted"]  # planted cohort -> healthy cohort
    table = find_leaks(cohorts, splits, rules, say, planted)
    check_leaks(table)
    notes = notes_on(table, planted)
    for note in notes:
        say(note)
    write_table(table, arguments.table)
    provenance.write(arguments.table.with_suffix(".json"), notes=notes)


if __name__ == "__main__":
    run_program(main)

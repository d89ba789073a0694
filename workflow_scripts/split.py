"""Assign a cohort's subjects to train, validation and test, per fold."""

import argparse
from pathlib import Path

from uad.cohorts import read_cohort
from uad.cohorts.people import visits
from uad.cohorts.report import listed
from uad.cohorts.splits import authors_splits, check_splits, draw_splits
from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.tabular import write_table
from uad.config.model import CohortSettings, SplitSettings
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--cohort", required=True, type=Path, help="cohort table")
    parser.add_argument("--table", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    cohort = CohortSettings.model_validate(settings["cohort"])
    splits = SplitSettings.model_validate(settings["splits"])
    subjects = read_cohort(arguments.cohort)
    from_authors = splits.source == "authors" and cohort.adapter != "folder"
    if from_authors:
        table, notes = authors_splits(
            splits.authors_csv, cohort.adapter, subjects["subject"], settings["folds"], cohort.modalities
        )
    else:
        table = draw_splits(subjects, cohort.splits.model_dump(), settings["folds"], settings["seed"], cohort.person)
        notes = []
    several = visits(subjects["subject"], cohort.person)
    if several:
        notes.append(f"{len(several)} people have several scans, which stay in one split: {listed(several)}")
    check_splits(table, allow_overlap=from_authors, person=cohort.person)
    say = job_log(f"splits {settings['name']}")
    for note in notes:
        say(note)
    counts = table.groupby(["fold", "split"]).size().unstack(fill_value=0)
    say(counts.to_string().replace("\n", "\n    "))
    write_table(table, arguments.table)
    provenance.write(arguments.table.with_suffix(".json"), notes=notes)


if __name__ == "__main__":
    run_program(main)

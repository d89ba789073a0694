"""Plant strokes into the healthy test scans of a cohort: a cohort whose lesions, and scans without them, are known."""

import argparse
import os
from pathlib import Path

os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # more threads make ANTs irreproducible

from uad.cohorts import read_cohort
from uad.cohorts.changes import state_of_folder, write_record
from uad.cohorts.splits import read_splits
from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.tabular import write_table
from uad.config.model import PlantedSettings, RegistrationSettings
from uad.phantoms.planted import plant_cohort
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--cohort", required=True, type=Path, help="table of the healthy cohort")
    parser.add_argument("--splits", required=True, type=Path, help="its split table")
    parser.add_argument("--masks", required=True, type=Path, help="folder with stroke masks in MNI space")
    parser.add_argument("--token", required=True, help="state of the masks' folder, for the record of what was read")
    parser.add_argument("--folder", required=True, type=Path, help="where the planted scans go; emptied first")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--table", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    before = state_of_folder(arguments.masks, arguments.folder)
    table = plant_cohort(
        read_cohort(arguments.cohort),
        read_splits(arguments.splits),
        PlantedSettings.model_validate(settings["planted"]),
        RegistrationSettings(),
        name=settings["name"],
        subjects=settings["subjects"],
        person=settings["person"],
        masks=arguments.masks,
        seed=settings["seed"],
        folder=arguments.folder,
        workers=arguments.workers,
        progress=job_log(f"plant {settings['name']}"),
    )
    write_table(table, arguments.table)
    record = arguments.table.with_suffix(".masks.json")
    write_record(record, arguments.masks, arguments.folder, arguments.token, before)
    provenance.write(arguments.table.with_suffix(".json"), scans=len(table))


if __name__ == "__main__":
    run_program(main)

"""Unpack a cohort's raw data, check its scans and write the cohort table."""

import argparse
from pathlib import Path

from uad.cohorts import find_adapter, ingest
from uad.cohorts.changes import state_of_folder, write_record
from uad.common.errors import InputError, run_program
from uad.common.files import exclusive
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.config.model import CohortSettings
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--raw", required=True, type=Path)
    parser.add_argument("--unpacked", required=True, type=Path)
    parser.add_argument("--table", required=True, type=Path)
    parser.add_argument("--report", type=Path, help="readable account; default: the table's name with .md")
    parser.add_argument("--token", help="state of the raw folder, for the record of what was read; without: no record")
    arguments = parser.parse_args()

    say = job_log(f"ingest {arguments.table.stem}")
    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    cohort = CohortSettings.model_validate(settings["cohort"])
    adapter_class = find_adapter(cohort.adapter)
    flags = ("healthy", "stripped", "registered", "bias_corrected", "person")
    given = {key: getattr(cohort, key) for key in flags if getattr(cohort, key) is not None}
    adapter = adapter_class(**given) if cohort.adapter == "folder" else adapter_class()
    # runs share what is unpacked: they take turns
    with exclusive(arguments.unpacked, lambda: say(f"waiting: another run is unpacking into {arguments.unpacked}")):
        before = state_of_folder(arguments.raw, arguments.unpacked) if arguments.token else {}
        table, notes = ingest(
            adapter,
            arguments.raw,
            arguments.unpacked,
            cohort.modalities,
            arguments.table,
            published=cohort.source == "archive",  # a phantom's size and grid are a choice
            report_path=arguments.report or arguments.table.with_suffix(".md"),
        )
    if adapter.exclude_label not in (None, cohort.exclude_label):
        notes.append(
            f"{cohort.adapter}: label value {adapter.exclude_label} is left out of the evaluation by the data set's "
            f"rule, the configuration says {cohort.exclude_label}"
        )
    for note in notes:
        say(note)
    if len(table) < cohort.subjects // 2:
        raise InputError(
            f"{arguments.raw}: {len(table)} usable subjects, but cohorts.{arguments.table.stem}.subjects is "
            f"{cohort.subjects}; complete the data or correct the number"
        )
    if arguments.token:
        record = arguments.table.with_suffix(".raw.json")
        write_record(record, arguments.raw, arguments.unpacked, arguments.token, before)
    provenance.write(arguments.table.with_suffix(".json"), subjects=len(table), notes=notes)


if __name__ == "__main__":
    run_program(main)

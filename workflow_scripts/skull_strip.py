"""Resample and skull-strip one shard of a cohort."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")  # read by ITK when it is first used

from uad.cohorts import find_adapter
from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.tabular import read_table
from uad.config.model import CohortSettings, PlausibleSettings, PreprocessSettings
from uad.preprocessing.scan import members
from uad.preprocessing.skull_strip import skull_strip_shard
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--cohort", required=True, type=Path, help="cohort table")
    parser.add_argument("--shard", required=True, type=int)
    parser.add_argument("--shards", required=True, type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    cohort = CohortSettings.model_validate(settings["cohort"])
    preprocess = PreprocessSettings.model_validate(settings["preprocess"])
    name = f"{arguments.cohort.stem} shard {arguments.shard}"
    rows = members(read_table(arguments.cohort), arguments.shard, arguments.shards)
    table = skull_strip_shard(
        rows,
        preprocess,
        arguments.table.parent,
        arguments.table,
        name=name,
        device=preprocess.hd_bet.device,
        threads=arguments.threads,
        label_on_own_grid=find_adapter(cohort.adapter).label_on_own_grid,
        exclude_label=cohort.exclude_label,
        limits=PlausibleSettings.model_validate(settings["plausible"]),
        progress=job_log(name),
    )
    provenance.write(arguments.table.with_suffix(".json"), scans=len(table))


if __name__ == "__main__":
    run_program(main)

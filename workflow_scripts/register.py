"""Register, bias-correct and crop one shard of a cohort."""

import argparse
import os
from pathlib import Path

os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # more threads make ANTs irreproducible

from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.seeds import seed_for
from uad.common.tabular import read_table
from uad.config.model import PlausibleSettings, PreprocessSettings
from uad.preprocessing.register import register_shard
from uad.preprocessing.templates import find_atlas
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--cohort", required=True, type=Path, help="cohort table")
    parser.add_argument("--stripped", required=True, type=Path, help="the shard's table of the skull-strip stage")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--table", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    preprocess = PreprocessSettings.model_validate(settings["preprocess"])
    cohort, stripped = read_table(arguments.cohort), read_table(arguments.stripped)
    name = f"{arguments.cohort.stem} {arguments.table.stem}"
    table = register_shard(
        cohort[cohort["subject"].isin(stripped["subject"])],
        stripped,
        find_atlas(preprocess.atlas.image, settings["data_dir"]),
        preprocess,
        arguments.table.parent,
        arguments.table,
        name=name,
        seed=seed_for(settings["seed"], "registration"),
        workers=arguments.workers,
        limits=PlausibleSettings.model_validate(settings["plausible"]),
        progress=job_log(name),
    )
    provenance.write(arguments.table.with_suffix(".json"), scans=len(table))


if __name__ == "__main__":
    run_program(main)

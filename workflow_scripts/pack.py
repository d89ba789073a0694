"""Pack a cohort's preprocessed scans of one modality into a memory-mapped store."""

import argparse
from pathlib import Path

from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.store import Store
from uad.config.model import PackSettings, PlausibleSettings
from uad.preprocessing.pack import pack
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--cohort", required=True, type=Path, help="cohort table")
    parser.add_argument("--shards", required=True, nargs="+", type=Path)
    parser.add_argument("--store", required=True, help="prefix of the store's files")
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    flags = pack(
        arguments.shards,
        arguments.cohort,
        settings["modality"],
        PackSettings.model_validate(settings["pack"]),
        settings["spacing_mm"],
        arguments.store,
        PlausibleSettings.model_validate(settings["plausible"]),
    )
    say = job_log("pack")
    for subject, flag in flags.items():
        say(f"{subject} {settings['modality']} flagged: {flag}")
    images = Store.open(arguments.store).images
    provenance.write(f"{arguments.store}.json", shape=list(images.shape), dtype=str(images.dtype), flags=flags)


if __name__ == "__main__":
    run_program(main)

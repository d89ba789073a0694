"""Score one arm on every cohort of one modality and fold."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from uad.common.errors import run_program
from uad.common.files import atomic_path
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.store import open_stores
from uad.scoring.lesions import lesion_table
from uad.scoring.score_arm import score_arm
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--stores", required=True, nargs="+", type=Path, help="files of the packed scans")
    parser.add_argument("--splits", required=True, nargs="+", type=Path, help="a table per cohort")
    parser.add_argument("--fold", required=True, type=int)
    parser.add_argument("--arrays", required=True, type=Path, help="table of the arm's cached arrays")
    parser.add_argument("--backbone", type=Path, help="network of the perceptual distance")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--metrics", required=True, type=Path)
    parser.add_argument("--tallies", required=True, type=Path)
    parser.add_argument("--lesions", required=True, type=Path)
    parser.add_argument("--examples", required=True, type=Path)
    parser.add_argument("--viewer", required=True, type=Path, help="scans for the report, of fold 0")
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)

    progress = job_log(f"score {settings['arm']} {settings['modality']}")
    stores = open_stores(arguments.stores, settings["modality"])
    splits = {path.stem: path for path in arguments.splits}
    rest = arguments.arrays, arguments.backbone, progress, arguments.threads
    scores = score_arm(settings, stores, splits, arguments.fold, *rest)
    for path, arrays in ((arguments.examples, scores.examples), (arguments.viewer, scores.viewer)):
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **arrays)
    tables = {
        arguments.tallies: pd.concat(scores.tallies, ignore_index=True),
        arguments.lesions: lesion_table(scores.lesions),
        arguments.metrics: pd.DataFrame(scores.rows),
    }
    for path, table in tables.items():
        with atomic_path(path) as temporary:
            table.to_parquet(temporary, index=False)
    record = arguments.metrics.with_suffix(".json")
    provenance.write(record, rows=len(scores.rows), thresholds=scores.thresholds, doubts=scores.doubts)
    provenance.write(arguments.lesions.with_suffix(".json"), lesions=len(scores.lesions))


if __name__ == "__main__":
    run_program(main)

"""Reconstruct every cohort of one modality with one arm, and cache the result for scoring."""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from uad.cohorts.splits import subjects_in
from uad.common.errors import InputError, run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.seeds import seed_for
from uad.common.store import Store, open_stores
from uad.common.tabular import write_table
from uad.inference.arm import load_arm
from uad.inference.outputs import Outputs, reconstruction_of
from uad.inference.run import run_on_cohort
from uad.methods import Head, Method
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--stores", required=True, nargs="+", type=Path, help="files of the packed scans")
    parser.add_argument("--splits", required=True, nargs="+", type=Path, help="a table per cohort")
    parser.add_argument("--fold", required=True, type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", type=Path, help="weights of the trained arm; nothing for arms that run no network")
    parser.add_argument("--outputs", type=Path, help="table of the reconstructions that the arm rates")
    parser.add_argument("--slices-per-pass", type=int, default=0, help="0: a whole volume at once")
    parser.add_argument("--table", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    name, modality = settings["arm"], settings["modality"]
    stores, splits = open_stores(arguments.stores, modality), {path.stem: path for path in arguments.splits}
    shape = next(iter(stores.values())).images.shape[2:]
    arm = load_arm(settings, arguments.model, shape, arguments.slices_per_pass, arguments.threads)
    if arm.method.asks_for_training:
        _show_training(arm.method, stores, splits, settings["train_cohort"], arguments.fold)
    # a head's reconstructions have the noise of the arm that it starts from
    reconstructs = isinstance(arm.method, Head) and arm.method.gives == "reconstruction"
    noise_of = settings["source"]["arm"] if reconstructs else name
    others = Outputs(arguments.outputs, settings["ensemble"]) if arguments.outputs else None
    rows = []
    for cohort, store in stores.items():
        progress = job_log(f"reconstruct {name} {modality} {cohort}")
        subjects = subjects_in(splits[cohort], arguments.fold, ["val", "test"], store.subjects, progress)
        if not subjects:
            raise InputError(
                f"{splits[cohort]}: fold {arguments.fold} has no validation or test volume that could be packed"
            )
        arm.method.enter(cohort, modality, arguments.fold)
        seed = seed_for(settings["seed"], noise_of, modality, arguments.fold, "reconstruct", cohort)
        path = arguments.table.parent / f"{cohort}.npy"
        given = partial(reconstruction_of, others, arm.method, cohort) if others else None
        row = run_on_cohort(arm, store, subjects, settings["t_tests"], seed, path, progress, given)
        rows.append({"cohort": cohort, **row})
    provenance.write(arguments.table.parent / "provenance.json", volumes=sum(row["volumes"] for row in rows))
    write_table(pd.DataFrame(rows), arguments.table)


def _show_training(
    method: Method, stores: Mapping[str, Store], splits: Mapping[str, Path], cohort: str, fold: int
) -> None:
    progress = job_log(f"training scans of {cohort}")
    subjects = subjects_in(splits[cohort], fold, ["train"], stores[cohort].subjects, progress)
    method.see_training([partial(stores[cohort].scan, subject) for subject in subjects])


if __name__ == "__main__":
    run_program(main)

"""Reconstruct every cohort of one modality with one arm, and cache the result for scoring."""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from uad.cohorts.splits import subjects_in
from uad.common.errors import InputError, run_program
from uad.common.recipe import read_settings
from uad.common.seeds import seed_for
from uad.common.store import Store
from uad.common.tabular import write_table
from uad.inference.run import read_arm_on_cohort
from uad.methods import Method, method_of
from uad.workflow.provenance import Provenance


def trained_network(settings: dict[str, Any], method: Method, store: Store, arguments: argparse.Namespace) -> Any:
    """The arm's network with its weights, on the GPU if there is one."""
    import torch  # arms without a network start without it

    from uad.inference.run import ready_to_read
    from uad.networks.weights import load_model, recipe_of

    torch.set_num_threads(arguments.threads)
    recipe = recipe_of(settings["method"], settings["params"])
    return ready_to_read(load_model(method.network(store.images.shape[2:]), arguments.model, recipe))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--fold", required=True, type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", type=Path, help="weights of the trained arm; nothing for arms that do not train")
    parser.add_argument("--slices-per-pass", type=int, default=0, help="0: a whole volume at once")
    parser.add_argument("--table", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    arm, modality = settings["arm"], settings["modality"]
    method = method_of(settings)
    method.slices_per_pass = arguments.slices_per_pass or None
    network = None
    rows = []
    for cohort in settings["cohorts"]:
        store = Store.open(arguments.results / "store" / f"{cohort}_{modality}")
        if method.trains and network is None:
            network = trained_network(settings, method, store, arguments)

        def progress(line: str, cohort: str = cohort) -> None:
            print(f"[reconstruct {arm} {modality} {cohort}] {line}", file=sys.stderr, flush=True)

        splits = arguments.results / "splits" / f"{cohort}.tsv"
        subjects = subjects_in(splits, arguments.fold, ["val", "test"], store.subjects, progress)
        if not subjects:
            raise InputError(f"{splits}: fold {arguments.fold} has no validation or test volume that could be packed")
        method.enter(cohort, modality, arguments.fold)
        seed = seed_for(settings["seed"], arm, modality, arguments.fold, "reconstruct", cohort)
        row = read_arm_on_cohort(
            method, network, store, subjects, settings["t_tests"], seed,
            arguments.table.parent / f"{cohort}.npy", progress,
        )  # fmt: skip
        rows.append({"cohort": cohort, **row})
    provenance.write(arguments.table.parent / "provenance.json", volumes=sum(row["volumes"] for row in rows))
    write_table(pd.DataFrame(rows), arguments.table)


if __name__ == "__main__":
    run_program(main)

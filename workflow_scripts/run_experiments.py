"""Contrast and conditioning experiments of one modality and fold: what the paper's Figures 2 and 3 show."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from uad.cohorts.splits import subjects_in
from uad.common.errors import InputError, run_program
from uad.common.files import atomic_path
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.seeds import seed_for
from uad.common.store import open_stores
from uad.inference.arm import load_arm
from uad.inference.contrast import CONDITIONED, UNCONDITIONED, contrast_histograms, contrast_slices
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--stores", required=True, nargs="+", type=Path, help="files of the packed scans")
    parser.add_argument("--splits", required=True, nargs="+", type=Path, help="a table per cohort")
    parser.add_argument("--fold", required=True, type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slices-per-pass", type=int, default=0, help="0: a whole volume at once")
    parser.add_argument("--conditioned", required=True, type=Path, help="weights of the conditioned arm")
    parser.add_argument("--unconditioned", required=True, type=Path, help="weights of its counterpart")
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    modality, fold = settings["modality"], arguments.fold

    progress = job_log(f"experiments {modality} fold{fold}")
    stores, splits = open_stores(arguments.stores, modality), {path.stem: path for path in arguments.splits}
    tests = {}
    for cohort, store in stores.items():
        tests[cohort] = subjects_in(splits[cohort], fold, ["test"], store.subjects, progress)
        if not tests[cohort]:
            raise InputError(f"{splits[cohort]}: fold {fold} has no test volume that could be packed")
    healthy = settings["cohorts"][0]
    shape = stores[healthy].images.shape[2:]
    models = {CONDITIONED: arguments.conditioned, UNCONDITIONED: arguments.unconditioned}
    arms = {
        role: load_arm(settings[role], model, shape, arguments.slices_per_pass, arguments.threads)
        for role, model in models.items()
    }
    seed = seed_for(settings["seed"], modality, fold, "experiments")
    scan = stores[healthy].scan(tests[healthy][0])
    arrays = {f"slices/{key}": array for key, array in contrast_slices(arms, scan, settings["single"], seed).items()}
    for cohort, store in stores.items():
        scans = [partial(store.scan, subject) for subject in tests[cohort]]
        found = contrast_histograms(
            arms, scans, settings["ensemble"], seed, lambda line, c=cohort: progress(f"{c} {line}")
        )
        arrays |= {f"histograms/{cohort}/{key}": array for key, array in found.items()}
    with atomic_path(arguments.output) as temporary:
        np.savez_compressed(temporary, **arrays)
    provenance.write(arguments.output.with_suffix(".json"), volumes={cohort: len(tests[cohort]) for cohort in stores})


if __name__ == "__main__":
    run_program(main)

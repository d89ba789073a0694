"""Train one arm, or what it is pre-trained with, on one fold of one modality."""

import argparse
import hashlib
import time
from pathlib import Path

from uad.cohorts.splits import subjects_in
from uad.common.errors import InputError, run_program
from uad.common.files import sha256_of
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.seeds import seed_for
from uad.common.store import Store
from uad.config.model import TrainSettings
from uad.methods import load_method
from uad.methods.pretraining import PRETRAININGS
from uad.networks.weights import recipe_of, save_model
from uad.training.checkpoints import write_curve
from uad.training.loop import precision_here, train_arm
from uad.training.slices import SliceSource
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--store", required=True, help="prefix of the training cohort's store")
    parser.add_argument("--splits", required=True, type=Path)
    parser.add_argument("--fold", required=True, type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start-from", type=Path, help="model file of the arm's pre-training, or weights of its own")
    parser.add_argument("--model", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    arm, modality, fold = settings["arm"], settings["modality"], arguments.fold
    pretraining = settings["stage"] == "pretrain"
    method_class = PRETRAININGS[settings["method"]] if pretraining else load_method(settings["method"])
    method = method_class(method_class.Params.model_validate(settings["params"]))
    train = TrainSettings.model_validate(settings["train"])
    store = Store.open(arguments.store)

    progress = job_log(f"{settings['stage']} {arm} {modality} fold{fold}")

    def source(split: str) -> SliceSource:
        subjects = subjects_in(arguments.splits, fold, [split], store.subjects, progress)
        if not subjects:
            raise InputError(f"{arguments.splits}: fold {fold} has no subject in split '{split}'")
        rows = [store.row(subject) for subject in subjects]
        return SliceSource(store, rows, train, settings["spacing_mm"], method)

    training, validation = source("train"), source("val")
    seed = seed_for(settings["seed"], arm, modality, fold, *["pretrain"] * pretraining)
    # checkpoints belong to one recipe and its data: with another of either, training starts anew
    sites = Path(f"{arguments.store}.tsv") if train.without_sites else None
    read = [Path(f"{arguments.store}.images.npy"), sites, arguments.splits, arguments.start_from]
    inputs = {path.name: sha256_of(path) for path in read if path}
    recipe = hashlib.sha256("".join([arguments.settings.name, *inputs.values()]).encode()).hexdigest()[:10]
    checkpoints = arguments.model.parent / "checkpoints" / recipe
    precision = precision_here(train.precision)
    progress(f"precision {precision}")
    start = time.time()
    network, curve = train_arm(
        method, training, validation, seed=seed, checkpoints=checkpoints,
        threads=arguments.threads, progress=progress, recipe=recipe, start_from=arguments.start_from,
    )  # fmt: skip
    write_curve(curve, arguments.model.parent / "log.csv")
    parameters = sum(p.numel() for p in network.parameters())
    provenance.write(
        arguments.model.parent / "provenance.json",
        seed=seed, inputs=inputs, precision=precision,
        parameters=parameters, training_seconds=round(time.time() - start, 1),
        training_volumes=len(training.rows), validation_volumes=len(validation.rows),
    )  # fmt: skip
    recipe = recipe_of(settings["method"], settings["params"])
    kept = method.kept(network) if pretraining else network
    save_model(kept, arguments.model, {"arm": arm, "settings": arguments.settings.name, **recipe})


if __name__ == "__main__":
    run_program(main)

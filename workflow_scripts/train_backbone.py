"""Train the stand-in for MedicalNet: a small 3-D ResNet-10 that segments the tissues of fresh phantoms."""

import argparse
import tempfile
from pathlib import Path

import torch

from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.seeds import seed_for
from uad.config.model import PackSettings, PerceptualSettings, PhantomSettings
from uad.metrics.perceptual import save_backbone, train_tissue_backbone
from uad.phantoms.tissue import tissue_phantoms
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    torch.set_num_threads(arguments.threads)
    perceptual = PerceptualSettings.model_validate(settings["perceptual"])
    seed = seed_for(settings["seed"], "backbone")
    with tempfile.TemporaryDirectory() as folder:
        images, tissues = tissue_phantoms(
            Path(folder),
            seed,
            PhantomSettings.model_validate(settings["phantom"]).voxel_mm,
            PackSettings.model_validate(settings["pack"]),
        )

    say = job_log("backbone")

    def progress(step: int, loss: float) -> None:
        if step % 20 == 0 or step == perceptual.steps - 1:
            say(f"step {step + 1}/{perceptual.steps}  loss {loss:.3f}")

    network = train_tissue_backbone(images, tissues, perceptual.width, perceptual.steps, seed, progress)
    save_backbone(network, arguments.output)
    provenance.write(arguments.output.with_suffix(".json"), phantoms=len(images), seed=seed)


if __name__ == "__main__":
    run_program(main)

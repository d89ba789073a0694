"""The command line of rule `train` on a small store, started as Snakemake does it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from places import ROOT
from tiny import TINY

from uad.common.recipe import write_settings


class TrainingJob:
    """Trainings of the smallest form of an arm, on 6 scans; each `start` is a shell of its own.

    Further arguments are keys of `train`.
    """

    def __init__(self, folder, method, **train):
        images = np.random.default_rng(0).random((8, 6, 32, 32)).astype(np.float32)
        for name, array in {"images": images, "masks": images > 0, "labels": images > 2}.items():
            np.save(folder / f"ixi_t2.{name}.npy", array if name == "images" else array.astype(np.uint8))
        subjects = [f"scan{i}" for i in range(8)]
        facts = {"site": "", "scanner": "", "age": 40, "lesion_ml": 0.0}
        index = pd.DataFrame({"row": range(8), "subject": subjects, **facts})
        index.to_csv(folder / "ixi_t2.tsv", sep="\t", index=False)
        splits = pd.DataFrame({"subject": subjects, "split": ["train"] * 6 + ["val"] * 2, "fold": 0})
        splits.to_csv(folder / "s.tsv", sep="\t", index=False)
        content = {"arm": method, "method": method, "method_version": 1, "params": TINY[method], "modality": "t2",
                   "train": {"batch_size": 4, "precision": "32-true", "validation_slices": 2, **train},
                   "spacing_mm": 2.0, "seed": 1}  # fmt: skip
        self.folder, self.settings = folder, write_settings(folder, "train", method, content)

    def start(self, results):
        values = {"params.settings": self.settings, "params.store": self.folder / "ixi_t2",
                  "input.splits": self.folder / "s.tsv", "wildcards.fold": 0, "threads": 1,
                  "output.model": results / "model.safetensors", "params.start_from": "",
                  "log": results / "log.txt"}  # fmt: skip
        results.mkdir(exist_ok=True)
        command = shell_of("train")
        for name, value in values.items():
            command = command.replace(f"{{{name}}}", str(value))
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        return subprocess.Popen(
            ["bash", "-c", f"set -euo pipefail; {command}"], cwd=ROOT, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


def shell_of(rule):
    """The command line of a training rule, its placeholders unfilled."""
    text = (ROOT / "rules/train.smk").read_text().split(f"\nrule {rule}:")[1].split("\nrule ")[0]
    line = "".join(re.findall(r'^        "(.*)"$', text.split("    shell:\n")[1], re.MULTILINE))
    return line.replace(":q}", "}")  # no path of a test needs quotes

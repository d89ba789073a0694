"""The reconstruct script on arms that start from another and give reconstructions."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from places import ROOT
from tiny import TINY

from uad.common.recipe import write_settings
from uad.methods import load_method
from uad.networks.weights import recipe_of, save_model

SPLITS = ["train"] * 3 + ["val"] + ["test"] * 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of six scans, and a network of a conditioned arm whose U-Net listens to it."""
    folder = tmp_path_factory.mktemp("run")
    images = np.random.default_rng(0).random((6, 3, 32, 32)).astype(np.float32)
    for name, array in {"images": images, "masks": images > -1, "labels": images > 2}.items():
        np.save(folder / f"ixi_t2.{name}.npy", array if name == "images" else array.astype(np.uint8))
    subjects = [f"scan{i}" for i in range(6)]
    index = pd.DataFrame({"row": range(6), "subject": subjects, "site": "", "scanner": "", "age": 40, "lesion_ml": 0.0})
    index.to_csv(folder / "ixi_t2.tsv", sep="\t", index=False)
    pd.DataFrame({"subject": subjects, "split": SPLITS, "fold": 0}).to_csv(folder / "ixi.tsv", sep="\t", index=False)
    params = cddpm_params()
    torch.manual_seed(0)
    network = load_method("cddpm")(load_method("cddpm").Params(**params)).network((32, 32))
    for weight in network.unet.parameters():  # the layers that begin at zero would not listen
        torch.nn.init.normal_(weight, std=0.1)
    save_model(network, folder / "model.safetensors", recipe_of("cddpm", params))
    return folder


def cddpm_params():
    kind = load_method("cddpm")
    return kind.Params(**TINY["cddpm"]).model_dump(mode="json")


def run(folder, arm, content, *inputs):
    """The script as rule `reconstruct` starts it; [T, N, Z, Y, X] of the validation and test scans."""
    content = {"arm": arm, "modality": "t2", "seed": 5, "t_tests": [250, 500], **content}
    stores = [folder / f"ixi_t2.{end}" for end in ("images.npy", "masks.npy", "labels.npy", "tsv")]
    settings = write_settings(folder, "reconstruct", arm, content)
    done = subprocess.run(
        [sys.executable, "workflow_scripts/reconstruct.py", "--settings", settings, "--stores", *stores,
         "--splits", folder / "ixi.tsv", "--fold", "0", *inputs, "--table", folder / arm / "arrays.tsv"],
        cwd=ROOT, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return np.load(folder / arm / "ixi.npy")


SOURCE = {"arm": "plain", "method": "cddpm", "params": cddpm_params()}


@pytest.fixture(scope="module")
def plain(folder):
    return run(folder, "plain", SOURCE, "--model", folder / "model.safetensors")


def head(folder, condition, **more):
    content = {"method": "recondition", "params": {"condition": condition}, "source": SOURCE, **more}
    return run(folder, condition, content, "--model", folder / "model.safetensors")


def test_an_arm_under_its_own_condition_leaves_the_same_file(folder, plain):
    own = head(folder, "own")
    assert own.shape == (2, 3, 3, 32, 32) and own.dtype == np.float16
    assert np.array_equal(own, plain)


def test_training_scans_come_from_the_fold_alone(folder, plain):
    mean = head(folder, "mean", train_cohort="ixi")
    assert not np.array_equal(mean, plain)
    # other test scans, and the mean stays; another training scan, and it changes
    images = np.load(folder / "ixi_t2.images.npy")
    for scan, same in ((4, True), (1, False)):
        changed = images.copy()
        changed[scan] *= 20  # moves the encoding by more than the files' float16 rounds off
        np.save(folder / "ixi_t2.images.npy", changed)
        again = head(folder, "mean", train_cohort="ixi")
        np.save(folder / "ixi_t2.images.npy", images)
        # the last scan, whose own voxels are as they were
        assert np.array_equal(again[:, 2], mean[:, 2]) == same


def test_a_scoring_head_leaves_a_reconstruction(folder, plain):
    content = {"method": "matched", "params": {"how": "histogram", "reading": "500"}, "source": SOURCE,
               "t_tests": [], "ensemble": [250, 500]}  # fmt: skip
    matched = run(folder, "matched", content, "--outputs", folder / "plain" / "arrays.tsv")
    table = pd.read_csv(folder / "matched" / "arrays.tsv", sep="\t")
    assert table["gives"].tolist() == ["reconstruction"] and matched.shape == (1, 3, 3, 32, 32)
    images = np.load(folder / "ixi_t2.images.npy")[3:]
    ours, order = matched[0, 0].ravel().astype(np.float32), np.argsort(plain[1, 0].ravel(), kind="stable")
    assert (np.diff(ours[order]) >= 0).all()  # in the order of the reconstruction at 500
    assert set(ours) <= set(images[0].ravel().astype(np.float16).astype(np.float32))

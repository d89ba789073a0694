"""Contrast and conditioning experiments: closed forms with stub arms, and the program on tiny networks."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from drawn_figures import assert_nothing_cut, texts_of
from packed_arrays import batch_of
from places import ROOT
from torch import nn

from uad.common.errors import InputError
from uad.inference.arm import Arm
from uad.inference.contrast import (
    CONDITIONED,
    HISTOGRAM_CONTRASTS,
    SLICE_CONTRASTS,
    UNCONDITIONED,
    CentralWidth,
    central_columns,
    contrast_histograms,
    contrast_slices,
    seeing_central_width,
    with_contrast,
)
from uad.methods import Scan, load_method
from uad.methods.base import Method
from uad.methods.settings import ConditionedDiffusionSettings, DiffusionSettings
from uad.networks.conditioned import ConditionedUNet
from uad.networks.weights import recipe_of, save_model
from uad.reporting import style
from uad.reporting.experiments import contrast_figure, histograms_figure, load_experiments

pytestmark = pytest.mark.slow

UNET = {"base": 8, "multipliers": [1, 1], "blocks": 1, "attention_heads": 1, "head_channels": 8}
NOISE = {"octaves": 2, "wavelength": 8}
PARAMS = {
    "ddpm": {"unet": UNET, "noise": NOISE},
    "cddpm": {
        "unet": UNET,
        "noise": NOISE,
        "encoder": {"depth": 10, "width": 4, "drop_path": 0.0},
        "condition": {"dim": 8},
    },
}
ARMS = [{"arm": name, "label": label, "control": False} for name, label in (("ddpm", "DDPM"), ("cddpm", "cDDPM"))]
PAIR = {CONDITIONED: ARMS[1], UNCONDITIONED: ARMS[0]}


class Mean(nn.Module):
    """Slices [B, 1, H, W] -> their means [B, 1]."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return images.mean(dim=(1, 2, 3))[:, None] * self.weight


class SeesMean(Method):
    """Reconstructs a slice as the mean of its condition times t_test / 1000."""

    reads_noise_levels = True

    def reconstruct(self, network, volume, t_tests, generator):
        images = volume.images
        mean = network.encoder(images)[:, :, None, None].expand_as(images)
        return torch.stack([mean * t / 1000 for t in t_tests])


class SeesNoise(Method):
    """Reconstructs t_test / 1000 plus, at the highest level, the noise."""

    reads_noise_levels = True

    def reconstruct(self, network, volume, t_tests, generator):
        images = volume.images
        noise = torch.rand(images.shape, generator=generator)
        return torch.stack([torch.full_like(images, t / 1000) + (noise if t == 1000 else 0) for t in t_tests])


class Copies(Method):
    def reconstruct(self, network, volume, t_tests, generator):
        return volume.images[None]


def stub(method, network=None):
    return Arm(method(None), network or Mean())


def scan(subject="s1", value=0.25, shape=(3, 4, 8)):
    """Brain of 2, 8 and 4 voxels in its slices."""
    mask = np.zeros(shape, bool)
    mask[0, 1, 2:4], mask[1, 1:3, 2:6], mask[2, 1, 2:6] = True, True, True
    return Scan(subject, np.where(mask, value, 0).astype(np.float32), mask, np.zeros(shape, np.uint8))


def seeing_mean():
    return stub(SeesMean, ConditionedUNet(nn.Identity(), Mean()))


def test_contrast_is_a_power_of_the_intensity():
    changed = with_contrast(scan(value=0.25), 0.5)
    assert set(np.unique(changed.image)) == {0.0, 0.5}
    assert changed.image.dtype == np.float32
    assert with_contrast(scan(value=0.5), 2).image.max() == 0.25


def test_central_width_keeps_the_middle_columns():
    assert central_columns(96, 0.5) == (24, 72)
    assert central_columns(45, 1.0) == (0, 45)
    kept = CentralWidth(0.5)(torch.ones(2, 1, 3, 8))
    assert kept[0, 0].tolist() == [[0, 0, 1, 1, 1, 1, 0, 0]] * 3


def test_cropped_condition_changes_what_the_encoder_sees_and_nothing_else():
    method = load_method("cddpm")(ConditionedDiffusionSettings.model_validate(PARAMS["cddpm"]))
    torch.manual_seed(0)
    arm = Arm(method, method.network((16, 16)).eval())
    cropped = seeing_central_width(arm, 0.5)
    images = torch.rand(3, 1, 16, 16)
    empty_sides = images.clone()
    given = batch_of(images)
    empty_sides[..., :4] = empty_sides[..., 12:] = 0
    with torch.inference_mode():
        assert torch.equal(
            method.condition(cropped.network, given), method.condition(arm.network, batch_of(empty_sides))
        )
        assert not torch.equal(method.condition(cropped.network, given), method.condition(arm.network, given))
        # where the sides are empty anyway, both arms are the same
        pair = [
            method.reconstruct(a.network, batch_of(empty_sides), [500], torch.Generator().manual_seed(1))
            for a in (arm, cropped)
        ]
    assert torch.equal(*pair)
    assert arm.network.encoder is not cropped.network.encoder  # the arm itself is as it was


def test_slices_follow_contrast_condition_and_noise_level():
    arms = {CONDITIONED: seeing_mean(), UNCONDITIONED: stub(SeesNoise)}
    whole = scan()
    whole.image[1, 0, 0] = 1  # outside the central half of the width
    found = contrast_slices(arms, whole, 500, seed=1)
    assert found["slice"] == 1 and found["subject"] == "s1"  # the largest brain
    assert found["cropped"].tolist() == [2, 6] and found["t_tests"].tolist() == [500, 1000]
    for row, g in enumerate(SLICE_CONTRASTS):
        centre = 8 * 0.25**g / 32
        assert found["input"][row].max() == 1
        assert found["conditioned-500"][row] == pytest.approx((centre + 1 / 32) / 2)
        assert found["conditioned-1000"][row] == pytest.approx(centre + 1 / 32)
        assert found["conditioned-500-cropped"][row] == pytest.approx(centre / 2)
        assert found["unconditioned-500"][row] == pytest.approx(0.5)
    noise = found["unconditioned-1000"]
    assert noise.shape == (5, 4, 8) and noise[0].std() > 0.1
    assert all(np.array_equal(noise[0], other) for other in noise[1:])  # the same noise at every contrast


def test_histograms_pool_healthy_voxels_of_all_scans():
    first, second = scan(value=0.25), scan("s2", value=0.651)
    first.label[1, 1, 2:6] = 1  # 4 of its 14 voxels
    second.label[2, 1, 2] = 2  # excluded: 13 remain
    lines = []
    arms = {CONDITIONED: stub(Copies), UNCONDITIONED: stub(SeesNoise)}
    found = contrast_histograms(arms, [lambda: first, lambda: second], [250, 500, 750], 1, lines.append)
    assert found["volumes"] == 2 and len(lines) == 2 and "s2" in lines[1]
    for row, g in enumerate(HISTOGRAM_CONTRASTS):
        expected = np.zeros(500)
        expected[math.floor(0.25**g * 500)], expected[math.floor(0.651**g * 500)] = 10 / 23, 13 / 23
        assert found["input"][row] == pytest.approx(expected)
        assert found[CONDITIONED][row] == pytest.approx(expected)
        assert found[UNCONDITIONED][row][250] == 1  # mean of 0.25, 0.5 and 0.75


# --- pictures -----------------------------------------------------------------------------------------------


def experiments():
    """Flat input histogram; DDPM has 1.5 and 0.5, cDDPM 1.25 and 0.75 times its density in the two halves."""
    whole = scan(value=0.5, shape=(3, 12, 16))
    arrays = contrast_slices({CONDITIONED: seeing_mean(), UNCONDITIONED: stub(SeesNoise)}, whole, 500, seed=1)
    result = {f"slices/{key}": value for key, value in arrays.items()}
    halves = np.repeat([1, -1], 250)
    for cohort in ("ixi", "brats21"):
        for name, tilt in (("input", 0), (UNCONDITIONED, 0.5), (CONDITIONED, 0.25)):
            result[f"histograms/{cohort}/{name}"] = np.tile((1 + tilt * halves) / 500, (3, 1))
        result[f"histograms/{cohort}/contrasts"] = np.array(HISTOGRAM_CONTRASTS)
    return result


def divergence(tilt):
    """KL in nats of a flat histogram against (1 + tilt) and (1 - tilt) times it, with 1e-6 on each of 500 shares."""
    tilt /= 1 + 500e-6
    return -(math.log(1 + tilt) + math.log(1 - tilt)) / 2


def test_contrast_figure_shows_six_columns_at_five_contrasts():
    figure = contrast_figure(experiments(), PAIR, ARMS, ("ixi", "t2"))
    assert len(figure.axes) == 30
    columns = [figure.axes[i * 5 : i * 5 + 5] for i in range(6)]
    titles = [column[0].get_title(loc="left").split("\n")[-1] for column in columns]
    assert titles == ["input", "cDDPM, half seen", "cDDPM, all seen", "DDPM", "cDDPM, all seen", "DDPM"]
    assert [panel.get_ylabel() for panel in columns[0]] == ["$x^{0.3}$", "$x^{0.7}$", "$x^{1}$", "$x^{1.5}$", "$x^{2}$"]
    assert columns[0][2].images[0].get_array().max() == 0.5
    assert all(panel.images[0].get_clim() == (0, 1) for panel in figure.axes)
    # brain in columns 2 to 5, two voxels around it; the 16 columns' central half is 4 to 11
    edges = [line.get_xdata()[0] for line in columns[1][3].lines]
    assert edges == [3.5, 11.5]
    assert columns[3][2].texts[0].get_text() == "0.000"  # DDPM gives 0.5 where the input is 0.5
    assert columns[3][4].texts[0].get_text() == "0.250"  # and where it is 0.5^2
    assert_nothing_cut(figure)


@pytest.mark.parametrize("papers", [("ixi", "brats21"), ()])
def test_histogram_figure_prints_divergence_and_ratio(papers):
    places = [("ixi", "t2"), ("brats21", "t2")]
    figure = histograms_figure([experiments()], PAIR, ARMS, places, papers)
    texts = texts_of(figure)
    ddpm, cddpm = divergence(0.5), divergence(0.25)
    assert texts.count(f"KLD {ddpm:.3g}") == texts.count(f"KLD {cddpm:.3g}") == 6
    ratio = f"KLD ratio {ddpm / cddpm:.3g}"
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    paper = [f"\n(paper: {value})" if papers else "" for value in ("4.0", "2.3", "17.0")]  # g = 0.5, 1, 2
    assert labels == [*(f"intensity\n{ratio}{text}" for text in paper), *[f"intensity\n{ratio}"] * 3]
    assert "IXI (T2)\n$g$ = 0.5" in texts and "BraTS21 (T2)\n$g$ = 0.5" in texts
    assert_nothing_cut(figure)


def test_histogram_figure_averages_folds():
    other = experiments()
    other["histograms/ixi/conditioned"] = other["histograms/ixi/input"]  # KLD 0 in this fold
    figure = histograms_figure([experiments(), other], PAIR, ARMS, [("ixi", "t2")], ())
    ddpm, cddpm = divergence(0.5), divergence(0.25)
    texts = texts_of(figure)
    assert texts.count(f"KLD {cddpm / 2:.3g} ± {cddpm / math.sqrt(2):.2g}") == 3
    assert sum(f"KLD ratio {2 * ddpm / cddpm:.3g}" in text for text in texts) == 3


def test_pictures_are_the_same_bytes_each_time(tmp_path):
    written = []
    for name in ("a", "b"):
        paths = style.save(contrast_figure(experiments(), PAIR, ARMS, ("ixi", "t2")), tmp_path / name)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


def test_damaged_file_is_refused(tmp_path):
    path = tmp_path / "fold0.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="not a readable experiments file"):
        load_experiments(path)
    np.savez(path, image=np.zeros(3))
    with pytest.raises(InputError, match="holds no experiments"):
        load_experiments(path)


# --- the program --------------------------------------------------------------------------------------------


def write_store(results, cohort, count):
    volume = np.zeros((4, 16, 16), np.float32)
    volume[:, 3:13, 4:12] = np.random.default_rng(count).uniform(0.1, 1, (4, 10, 8))
    prefix = results / "store" / f"{cohort}_t2"
    prefix.parent.mkdir(exist_ok=True)
    images = np.stack([volume] * count)
    for name, array in (("images", images), ("masks", images > 0), ("labels", np.zeros(images.shape))):
        np.save(f"{prefix}.{name}.npy", array.astype(np.float32 if name == "images" else np.uint8))
    subjects = [f"{cohort}-{i}" for i in range(count)]
    index = pd.DataFrame(
        {"row": range(count), "subject": subjects, "site": "", "scanner": "", "age": "", "lesion_ml": 0}
    )
    index.to_csv(f"{prefix}.tsv", sep="\t", index=False)
    (results / "splits").mkdir(exist_ok=True)
    table = pd.DataFrame({"subject": subjects, "split": "test", "fold": 0})
    table.to_csv(results / "splits" / f"{cohort}.tsv", sep="\t", index=False)


def test_program_writes_what_the_figures_read(tmp_path):
    write_store(tmp_path, "ixi", 2)
    write_store(tmp_path, "brats21", 1)
    settings = {"cohorts": ["ixi", "brats21"], "modality": "t2", "single": 500, "ensemble": [250, 750], "seed": 1}
    for role, name, model in (
        (CONDITIONED, "cddpm", ConditionedDiffusionSettings),
        (UNCONDITIONED, "ddpm", DiffusionSettings),
    ):
        params = model.model_validate(PARAMS[name])
        settings[role] = {"arm": name, "method": name, "params": params.model_dump(mode="json")}
        network = load_method(name)(params).network((16, 16))
        save_model(network, tmp_path / f"{name}.safetensors", recipe_of(name, settings[role]["params"]))
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    run = subprocess.run(
        [sys.executable, "workflow_scripts/run_experiments.py", "--settings", tmp_path / "settings.json",
         "--stores", *tmp_path.glob("store/*"), "--splits", *tmp_path.glob("splits/*"),
         "--fold", "0", "--slices-per-pass", "3", "--output", tmp_path / "fold0.npz",
         "--conditioned", tmp_path / "cddpm.safetensors", "--unconditioned", tmp_path / "ddpm.safetensors"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = load_experiments(tmp_path / "fold0.npz")
    assert found["slices/subject"] == "ixi-0" and found["slices/conditioned-500-cropped"].shape == (5, 16, 16)
    assert found["histograms/ixi/volumes"] == 2 and found["histograms/brats21/volumes"] == 1
    for cohort in ("ixi", "brats21"):
        for name in ("input", CONDITIONED, UNCONDITIONED):
            assert found[f"histograms/{cohort}/{name}"].sum(axis=1) == pytest.approx([1, 1, 1])
    record = json.loads((tmp_path / "fold0.json").read_text())
    assert record["volumes"] == {"ixi": 2, "brats21": 1}
    contrast_figure(found, PAIR, ARMS, ("ixi", "t2"))
    histograms_figure([found], PAIR, ARMS, [("ixi", "t2"), ("brats21", "t2")], ())

"""Scans and anomaly maps of any unit and orientation: what comes out does not depend on them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage

from uad.common.placement import Placement, turns_of
from uad.common.store import Store
from uad.common.tabular import read_table, write_table
from uad.common.volumes import Volume, in_common_unit
from uad.config.model import PackSettings, PlausibleSettings, PreprocessSettings
from uad.inference.outputs import Output
from uad.methods import Scan, load_method
from uad.preprocessing.pack import pack
from uad.preprocessing.register import register_shard
from uad.preprocessing.skull_strip import skull_strip_shard
from uad.scoring.postprocessing import PostProcessing
from uad.scoring.protocol import RowKeys, ScoreSettings, VolumeToScore, score_cohort

FACTORS = (2.0**-40, 2.0**40, 1e-6, 1e6)  # only the powers of two round nothing
SHAPE = (16, 24, 20)  # [Z, Y, X]


# --- scans --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", FACTORS)
def test_the_common_unit_rounds_nothing(factor):
    data = np.random.default_rng(0).normal(size=(9, 9, 9)) ** 3 * factor
    volume = in_common_unit(Volume(data, np.eye(4)))
    ratio = volume.data / data
    assert (ratio == ratio.flat[0]).all() and np.frexp(ratio.flat[0])[0] == 0.5
    assert 512 <= np.percentile(np.abs(volume.data), 99) < 1024


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A scan times a factor, registered or not -> what preprocessing and packing make of it, [Z, Y, X]."""
    template, brain = load_mni152_template(resolution=8), load_mni152_brain_mask(resolution=8)
    folder = tmp_path_factory.mktemp("units")
    nib.save(template, folder / "atlas.nii.gz")
    nib.save(nib.Nifti1Image(np.uint8(brain.get_fdata() > 0), brain.affine), folder / "mask.nii.gz")
    noise = 0.02 * np.random.default_rng(0).random(template.shape)
    head = np.roll(template.get_fdata(), 1, axis=1) + noise  # a little beside the atlas
    settings = PreprocessSettings(
        spacing_mm=8.0, registration={"iterations": [50, 20]}, n4={"levels": 2, "iterations": 10}
    )
    limits = PlausibleSettings(atlas_dice={"refuse": (None, None), "flag": (None, None)})

    def make(factor, registered):
        out = folder / f"{factor}-{registered}"
        if (out / "store.tsv").exists():
            return Store.open(out / "store").images[0]
        out.mkdir()
        nib.save(nib.Nifti1Image((head * factor).astype(np.float32), template.affine), out / "t1.nii.gz")
        row = dict.fromkeys(("site", "scanner", "age", "t2", "label", "sha256"), "")
        row |= {"stripped": "0", "registered": registered, "bias_corrected": "0"}
        row |= {"subject": "s", "t1": str(out / "t1.nii.gz"), "mask": str(folder / "mask.nii.gz")}
        write_table(pd.DataFrame([row]), out / "cohort.tsv")
        rows = read_table(out / "cohort.tsv")
        quiet = {"name": "x", "limits": limits, "progress": lambda line: None}
        skull_strip_shard(rows, settings, out / "s", out / "s.tsv", device="cpu", **quiet)
        atlas = folder / "atlas.nii.gz"
        register_shard(rows, read_table(out / "s.tsv"), atlas, settings, out / "r", out / "r.tsv", seed=1, **quiet)
        box = PackSettings(crop=(24, 24, 16), dtype="float32", factor=1)
        pack([out / "r.tsv"], out / "cohort.tsv", "t1", box, 8.0, out / "store")
        return Store.open(out / "store").images[0]

    return make


@pytest.mark.parametrize("factor", FACTORS)
def test_a_scan_of_any_unit_is_packed_alike(packed, factor):
    # ANTs' affine moves by up to 0.05 mm when intensities change by 2e-7 of themselves; where they are not rounded,
    # nothing moves.
    exact = np.frexp(factor)[0] == 0.5
    expected, found = (packed(each, "0" if exact else "1") for each in (1.0, factor))
    assert expected.std() > 0.1
    if exact:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)


# --- maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", ["exact", "greedy"])
@pytest.mark.parametrize("factor", [*FACTORS, 1e-25, 1e30])
def test_maps_of_any_unit_score_alike(factor, search):
    rng = np.random.default_rng(1)
    mask = np.ones(SHAPE, np.uint8)
    label = np.zeros(SHAPE, np.uint8)
    label[4:10, 6:14, 5:12] = 1
    values = ndimage.gaussian_filter(rng.random(SHAPE), 1) + 0.2 * label
    settings = ScoreSettings(voxel_ml=0.008, variants={"full": PostProcessing(median_size=3, erosion=0)}, search=search)

    def scores(scale):
        anomaly_map = (values * scale).astype(np.float32)
        volume = VolumeToScore("a", "val", "", mask * 0.5, mask, label, Output("map", anomaly_map))
        both = {"val": [volume], "test": [replace(volume, subject="b", split="test")]}
        found = score_cohort(lambda split: iter(both[split]), RowKeys("m", "maps", "t2", 0, "c"), settings)
        return [(row["dice"], row["auprc"], row["auroc"]) for row in found.rows]

    assert scores(1.0)[0][0] > 0.7
    np.testing.assert_allclose(scores(factor), scores(1.0), rtol=1e-4)


def maps_of(folder, **params):
    maps = load_method("maps")
    method = maps(maps.Params(folder=str(folder), **params))
    method.enter("mine", "t2", 0)
    return method


def brain_of(shape=SHAPE):
    """Of no symmetry: reversing or swapping an axis moves a part of it away."""
    axes = np.indices(shape) / np.array(shape).reshape(3, 1, 1, 1)
    return (axes[0] < 0.7) & (axes[1] > 0.25) & (axes[2] < 0.9 - 0.4 * axes[1]) & (axes[0] + axes[1] < 1.4)


def scan_of(brain, subject="s"):
    return Scan(subject, brain.astype(np.float32), brain, np.zeros(brain.shape, np.uint8))


def read(method, brain, subject="s"):
    return method.draw(scan_of(brain, subject), np.random.default_rng(0))


def test_maps_are_turned_as_their_affine_says(tmp_path):
    brain = brain_of()
    values = (np.random.default_rng(0).random(SHAPE) * brain).astype(np.float32)
    image = nib.Nifti1Image(values.transpose(), np.diag([-2.0, -2.0, 2.0, 1.0]))  # x, y, z to L, P, S
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        change = np.array(list(zip(order, signs, strict=True)))
        nib.save(image.as_reoriented(change), tmp_path / "s.nii.gz")
        method = maps_of(tmp_path)
        np.testing.assert_array_equal(read(method, brain), values)
        told = method.doubts()
        assert len(told) == (nib.aff2axcodes(nib.load(tmp_path / "s.nii.gz").affine) != ("L", "P", "S"))


def test_maps_without_a_place_are_taken_as_they_are_and_named(tmp_path):
    brain = brain_of()
    values = (np.random.default_rng(0).random(SHAPE) * brain).astype(np.float32)
    nib.save(nib.Nifti1Image(values.transpose(), np.eye(4)), tmp_path / "s.nii.gz")
    method = maps_of(tmp_path)
    np.testing.assert_array_equal(read(method, brain), values)
    assert method.doubts() == ["maps whose affine is the identity, or none, are taken as [X, Y, Z] on the packed grid"]


@pytest.mark.parametrize("shape", [(12, 12, 12), (10, 14, 14), (10, 12, 14)])
def test_every_turn_is_found(shape):
    # A cube lies in 48 ways, a box with two equal sides in 16, one of three sides in 8.
    turns = turns_of(shape)
    assert len(turns) == {1: 48, 2: 16, 3: 8}[len(set(shape))]
    brain = brain_of(shape)
    values = np.random.default_rng(0).random(shape) * brain
    for turn in turns:
        placement = Placement()
        placement.add(turn.of(values), brain)
        found = placement.better()
        if np.array_equal(turn.of(values), values):
            assert found is None and placement.outside() == pytest.approx(0)
        else:
            assert placement.outside() > 0.02
            np.testing.assert_array_equal(found[0].of(turn.of(values)), values)
            assert found[1] == 0


def test_maps_that_spill_a_little_are_not_called_turned():
    brain = brain_of()
    values = ndimage.uniform_filter(np.random.default_rng(0).random(SHAPE) * brain, 5)
    placement = Placement()
    placement.add(values, brain)
    assert placement.outside() > 0.1 and placement.better() is None


def test_what_speaks_against_maps_is_named(tmp_path):
    brain = brain_of()
    values = (np.random.default_rng(0).random(SHAPE) * brain).astype(np.float32)
    everywhere = values + np.float32(0.1)
    for subject, array in {"a": values, "b": values, "c": 0 * values, "d": everywhere}.items():
        np.save(tmp_path / f"{subject}.npy", array)
    method = maps_of(tmp_path)
    for subject in "abcd":
        read(method, brain, subject)
    share = (everywhere * ~brain).sum() / everywhere.sum() / 3  # of three maps that are not 0, one spills
    assert method.doubts() == [
        "1 of 4 maps are 0 everywhere",
        "1 maps are copies of another subject's: b (that of a)",
        f"{share:.1%} of the maps' sum lies outside of the brain mask; the score leaves it out",
    ]
    tolerant = maps_of(tmp_path, outside=0.5)
    read(tolerant, brain, "d")
    assert tolerant.doubts() == []

"""Limits that do not depend on the cohort: each end of each, closed forms of the measures, and whole stages."""

from __future__ import annotations

import re

import nibabel as nib
import numpy as np
import pytest
from small_heads import FAST, RAI, SMALL, SPACING, ball, run_both, save, strip, table_of

from uad.common.errors import InputError
from uad.common.volumes import Volume
from uad.config.model import Limits, PlausibleSettings
from uad.preprocessing.pack import pack
from uad.preprocessing.plausible import DEFAULT_LIMITS, face_fraction, judged, lost_text, refuse_background, share_lost
from uad.preprocessing.scan import Scan

pytestmark = pytest.mark.slow

SCAN = Scan("s", "t1", "scan.nii.gz", "mask.nii.gz", "label.nii.gz", False, False, False)
GOOD = {
    "status": "ok", "brain_ml": 1400.0, "face_fraction": 0.0, "negative_fraction": 0.0, "atlas_dice": 0.95,
    "n4_min": 0.1, "n4_max": 0.2, "lesion_ml": 20.0, "lesion_outside": 0.0, "lesion_lost": 0.0,
}  # fmt: skip
#        ordinary, unusual, impossible; the file that the message names
VALUES = [
    ("brain_ml", 791, 780, 290, "mask.nii.gz"),  # the smallest of healthy adults; a child; a newborn has 340
    ("brain_ml", 2080, 2200, 2700, "mask.nii.gz"),  # mean and six deviations of men's intracranial volume
    ("face_fraction", 0.19, 0.3, 0.95, "mask.nii.gz"),
    ("negative_fraction", 0.0005, 0.01, 0.5, "scan.nii.gz"),
    ("atlas_dice", 0.91, 0.85, 0.75, "scan.nii.gz"),
    ("n4_max", 0.36, 0.5, 1.1, "scan.nii.gz"),  # over n4_min, which is 0.1
    ("n4_max", 0.11, 0.1, None, "scan.nii.gz"),
    ("lesion_ml", 400, 500, 800, "label.nii.gz"),  # of a brain of 1400 ml
    ("lesion_outside", 0.05, 0.2, 0.6, "label.nii.gz"),
]


@pytest.mark.parametrize(("column", "ordinary", "unusual", "impossible", "file"), VALUES)
def test_each_limit(column, ordinary, unusual, impossible, file):
    def judge(value):
        return judged(SCAN, GOOD | {column: value}, DEFAULT_LIMITS, "")

    key = {"n4_max": "n4_ratio", "lesion_ml": "lesion_share"}.get(column, column)
    assert judge(ordinary) == GOOD | {column: ordinary, "flag": ""}
    near = judge(unusual)
    assert (
        near["status"] == "ok" and near["flag"].startswith(f"{key} is ") and f"(plausible.{key}.flag): " in near["flag"]
    )
    if impossible is not None:
        beyond = judge(impossible)
        assert beyond["status"] == "failed" and beyond["flag"] == ""
        assert beyond["message"].startswith(f"{file}: {key} is ") and f"(plausible.{key}.refuse): " in beyond["message"]


@pytest.mark.parametrize("column", sorted(set(GOOD) - {"status", "lesion_lost"}))
def test_what_cannot_be_measured_does_not_pass(column):
    row = judged(SCAN, GOOD | {column: float("nan")}, DEFAULT_LIMITS, "")
    assert row["status"] == "failed" and "could not be measured" in row["message"]


@pytest.mark.parametrize("lowest", [0.0, -0.3])
def test_a_field_that_is_not_positive_does_not_pass(lowest):
    row = judged(SCAN, GOOD | {"n4_min": lowest}, DEFAULT_LIMITS, "")
    assert row["status"] == "failed" and "n4_ratio" in row["message"]


def test_flags_add_up_and_are_said_once():
    first = judged(SCAN, {"status": "ok", "brain_ml": 700.0}, DEFAULT_LIMITS, "")["flag"]
    again = judged(SCAN, {"status": "ok", "brain_ml": 700.0, "atlas_dice": 0.85}, DEFAULT_LIMITS, first)["flag"]
    assert again.startswith(first + "; atlas_dice is 0.85") and again.count("brain_ml is") == 1


def test_a_lesion_that_the_crop_cuts_off_is_named_with_its_volume():
    assert judged(SCAN, GOOD | {"lesion_lost": 0.2}, DEFAULT_LIMITS, "")["flag"] == ""
    flag = judged(SCAN, GOOD | {"lesion_lost": 1.0}, DEFAULT_LIMITS, "")["flag"]
    assert flag == "the crop to the brain mask cuts off all of the lesion of 20 ml"
    assert lost_text("brain", 1400, 0.257, "the packed box") == "the packed box cuts off 26% of the brain of 1400 ml"


def test_open_ends_judge_nothing_and_a_flag_outside_of_its_refusal_is_refused():
    anything = PlausibleSettings(brain_ml={"refuse": (None, None), "flag": (None, None)})
    assert judged(SCAN, GOOD | {"brain_ml": 9000.0}, anything, "")["flag"] == ""
    with pytest.raises(ValueError, match="has to lie inside"):
        Limits(refuse=(0.9, None), flag=(0.8, None))


class TestFaceFraction:
    @pytest.mark.parametrize("cut", [0, 8, 20, 37])
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_ball_that_is_cut(self, cut, axis):
        # at depth h a ball of radius R has the area pi (2 R h - h^2), its largest is pi R^2
        radius = 50
        mask = ball((120, 120, 120), radius)
        side = [slice(None)] * 3
        side[axis] = slice(120 // 2 - radius + cut, None) if cut else slice(None)
        expected = 1 - (1 - (cut + 0.5) / radius) ** 2 if cut else 0
        assert face_fraction(mask[tuple(side)]) == pytest.approx(expected, abs=0.01)

    def test_whole_box(self):
        assert face_fraction(np.ones((4, 5, 6), np.uint8)) == 1


class TestBackground:
    brain = ball((20, 22, 18), 7)
    values = np.random.default_rng(0).uniform(50, 150, brain.shape).astype(np.float32)

    @pytest.mark.parametrize("background", [-1, -0.6213, 0.001, 1000])
    def test_a_constant_other_than_0_is_named(self, background):
        image = Volume(np.where(self.brain, self.values, np.float32(background)), RAI)
        with pytest.raises(InputError, match=rf"x\.nii: its background is {background:.4g}, not 0"):
            refuse_background(image, "x.nii")

    def test_z_scored_over_the_box(self):
        data = self.values * self.brain
        with pytest.raises(InputError, match="its background is -"):
            refuse_background(Volume((data - data.mean()) / data.std(), RAI), "x.nii")

    def test_0_or_a_brain_at_the_face_passes(self):
        refuse_background(Volume(self.values * self.brain, RAI), "x.nii")
        refuse_background(Volume((self.values * self.brain)[6:], RAI), "x.nii")


class TestFirstStage:
    def measured(self, tmp_path, data, mask=None, **state):
        files = {"t1": save(tmp_path / "t1.nii.gz", data.astype(np.float32), np.diag([-SPACING, -SPACING, SPACING, 1]))}
        if mask is not None:
            files["mask"] = save(tmp_path / "m.nii.gz", mask, np.diag([-SPACING, -SPACING, SPACING, 1]))
        settings = FAST.model_copy(update={"max_failures": 1})
        return strip(table_of({"subject": "s", **files, **state}), tmp_path, settings).loc[0]

    def test_noise_around_a_stripped_brain_fills_the_box(self, tmp_path):
        noise = np.random.default_rng(0).uniform(1e-4, 1e-3, (30, 30, 30))
        row = self.measured(tmp_path, np.where(ball(noise.shape, 11), 100 + noise, noise), stripped="1")
        assert row["status"] == "failed" and "face_fraction is 1, above 0.9" in row["message"]

    def test_the_top_cut_off_is_flagged(self, tmp_path):
        brain = ball((40, 40, 40), 17)[:, :, :33]  # 4 voxels are lost: 1 - (1 - 4 / 17)^2 is 0.42
        row = self.measured(tmp_path, 100 + np.random.default_rng(0).normal(0, 5, brain.shape), brain)
        assert row["status"] == "ok" and row["flag"].startswith("face_fraction is 0.4")

    def test_negative_values_are_legitimate_where_neither_registration_nor_n4_follows(self, tmp_path):
        brain = ball((40, 40, 40), 17)
        data = np.random.default_rng(0).normal(0, 1, brain.shape) * brain
        for done, status in (("0", "failed"), ("1", "ok")):
            state = {"stripped": "1", "registered": done, "bias_corrected": done}
            row = self.measured(tmp_path, data, **state)
            assert row["status"] == status and ("negative_fraction is 0.5" in row["message"]) == (status == "failed")


class TestBothStages:
    def test_other_limits_judge_again_what_is_kept(self, head, atlas, tmp_path):
        rows = table_of({"subject": "s", **head})
        run_both(rows, tmp_path, atlas)
        lines = []
        strict = PlausibleSettings(atlas_dice={"refuse": (0.9, None), "flag": (0.99, None)})
        table = run_both(rows, tmp_path, atlas, limits=strict, progress=lines.append)
        assert table.loc[0, "flag"].startswith("atlas_dice is 0.9")
        assert lines[0].startswith("1/1 s t1 kept, flagged: atlas_dice is 0.9")

    def test_flags_of_the_first_stage_stay(self, head, atlas, tmp_path):
        image = nib.load(head["label"])
        label = np.asarray(image.dataobj).copy()
        label[2:4, 2:5, 2:3] = 1  # 6 voxels outside of the brain, 35 inside
        rows = table_of({"subject": "s", **head, "label": save(tmp_path / "l.nii.gz", label, image.affine)})
        table = run_both(rows, tmp_path, atlas)
        assert table.loc[0, "status"] == "ok" and table.loc[0, "flag"].startswith("lesion_outside is 0.14")


class TestPacking:
    def test_lesion_and_brain_outside_of_the_box_are_named(self, cohort):
        tables, table, prefix = cohort
        assert pack(tables, table, "t2", SMALL, 1.0, prefix) == {}
        label = np.zeros((22, 26, 18), np.uint8)
        label[11, 13, 15:17] = 1
        nib.save(nib.Nifti1Image(label, RAI), tables[0].parent / "s1_label.nii.gz")
        flags = pack(tables, table, "t2", SMALL.model_copy(update={"crop": (24, 28, 8)}), 1.0, prefix)
        assert flags.keys() == {"s1", "s2", "s3"}
        assert flags["s1"].endswith("; the packed box cuts off all of the lesion of 0.002 ml")
        # two caps of height h = 4 of a ball of radius R = 8: 2 pi h^2 (3 R - h) / 3 over 4 pi R^3 / 3 is 0.3125
        share, ml = re.search(r"cuts off (\d+)% of the brain of ([\d.]+) ml", flags["s2"]).groups()
        assert int(share) == pytest.approx(31, abs=2) and float(ml) == pytest.approx(4 / 3 * np.pi * 0.512, rel=0.03)

    def test_share_lost(self):
        before = np.zeros((10, 1, 1))
        before[:4] = 1
        assert share_lost(before, before[1:]) == 0.25
        assert share_lost(before, before[4:]) == 1
        assert share_lost(np.zeros(3), np.zeros(2)) == 0

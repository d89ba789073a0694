"""Preprocessing of small scans made from the MNI152 template: both stages and their failures."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_brain_mask
from small_heads import FAST, SPACING, TOY, run_both, save, strip, table_of, volumes_of

from uad.common.errors import InputError
from uad.common.tabular import read_table
from uad.common.volumes import read_image, read_label
from uad.config.model import PreprocessSettings
from uad.preprocessing import register
from uad.preprocessing.bias_field import correct_bias_field
from uad.preprocessing.itk import ants
from uad.preprocessing.scan import members

pytestmark = pytest.mark.slow


class TestBothStages:
    @pytest.fixture(scope="class")
    def result(self, head, atlas, tmp_path_factory):
        folder = tmp_path_factory.mktemp("both")
        lines = []
        rows = table_of({"subject": "s1", **head}, {"subject": "s2", **head, "label": ""})
        table = run_both(rows, folder, atlas, workers=2, progress=lines.append)
        return folder, table, lines, rows

    def test_table(self, result):
        folder, table, lines, _ = result
        assert table["status"].tolist() == ["ok", "ok"]
        assert table["flag"].tolist() == ["", ""]
        assert table.loc[0, "image"] == str(folder / "final" / "s1_t1.nii.gz")
        assert table["label"].tolist() == [str(folder / "final" / "s1_t1_label.nii.gz"), ""]
        written = read_table(folder / "shard-0.tsv")
        assert written["subject"].tolist() == ["s1", "s2"]
        assert [line[:3] for line in lines] == ["1/2", "2/2"]

    def test_brain_meets_the_atlas(self, result, head):
        _, table, _, _ = result
        brain = load_mni152_brain_mask(resolution=int(SPACING)).get_fdata() > 0
        unregistered = np.asarray(nib.load(head["mask"]).dataobj) > 0
        before = 2 * (brain & unregistered).sum() / (brain.sum() + unregistered.sum())
        assert before < 0.90 < 0.95 < table.loc[0, "atlas_dice"]
        # The affine is undone, so the brain has the template's volume again.
        assert table.loc[0, "brain_ml"] == pytest.approx(brain.sum() * SPACING**3 / 1000, rel=0.05)

    def test_files(self, result):
        _, table, _, _ = result
        image, mask, label = (
            read_image(table.loc[0, "image"]),
            *(read_label(table.loc[0, r]) for r in ("mask", "label")),
        )
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        np.testing.assert_allclose(image.spacing, SPACING)
        assert set(np.unique(mask.data)) == {0, 1}
        assert set(np.unique(label.data)) == {0, 1}
        for axis in range(3):  # cropped to the bounding box
            planes = mask.data.any(axis=tuple(a for a in range(3) if a != axis))
            assert planes[0]
            assert planes[-1]

    def test_label_lands_where_the_transform_says(self, result, head):
        folder, table, _, _ = result
        label, raw = read_label(table.loc[0, "label"]), nib.load(head["label"])
        centre = apply_affine(raw.affine, np.argwhere(np.asarray(raw.dataobj) == 4).mean(axis=0))
        transform = ants.read_transform(str(folder / "final" / "s1_t1.mat"))
        lps = np.array([-1, -1, 1])
        expected = lps * np.array(transform.invert().apply_to_point((lps * centre).tolist()))
        found = np.argwhere(label.data)
        distances = np.linalg.norm(apply_affine(label.affine, found) - expected, axis=1)
        assert distances.min() < SPACING  # the lesion's centre is one of its voxels

    def test_two_runs_are_bit_identical(self, result, atlas, tmp_path):
        folder, _, _, rows = result
        run_both(rows, tmp_path, atlas, workers=1)
        assert volumes_of(tmp_path) == volumes_of(folder)

    def test_finished_scans_are_kept(self, result, atlas, tmp_path):
        folder, table, _, rows = result
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        final = copy / "final"
        stamps = {p.name: p.stat().st_mtime_ns for p in final.glob("*.nii.gz")}
        (final / "s2_t1.nii.gz").write_bytes(b"damaged")
        lines = []
        again = run_both(rows, copy, atlas, progress=lines.append)
        assert lines[0] == "1/2 s1 t1 kept"
        assert lines[1].startswith("2/2 s2 t1 ")
        assert "kept" not in lines[1]
        assert again["sha256"].tolist() == table["sha256"].tolist()
        changed = {p.name for p in final.glob("*.nii.gz") if p.stat().st_mtime_ns != stamps[p.name]}
        assert changed == {"s2_t1.nii.gz", "s2_t1_mask.nii.gz"}

    def test_other_settings_are_another_recipe(self, result):
        folder, _, _, rows = result
        lines = []
        strip(rows, folder, progress=lines.append)
        assert all(line.endswith("kept") for line in lines)
        note = json.loads((folder / "stripped" / "s1_t1.json").read_text())
        strip(rows, folder, FAST.model_copy(update={"spacing_mm": 5.0}), progress=lines.append)
        assert json.loads((folder / "stripped" / "s1_t1.json").read_text())["recipe"] != note["recipe"]
        assert not any(line.endswith("kept") for line in lines[2:])


class TestFailures:
    def test_bad_scans_are_named_and_good_ones_kept(self, head, tmp_path):
        nan = np.asarray(nib.load(head["t1"]).dataobj).copy()
        nan[3, 3, 3] = np.nan
        empty = np.zeros(nan.shape, dtype=np.uint8)
        affine = nib.load(head["t1"]).affine
        rows = table_of(
            {"subject": "good", **head},
            {"subject": "nan", **head, "t1": save(tmp_path / "nan.nii.gz", nan, affine)},
            {"subject": "nomask", **head, "mask": save(tmp_path / "empty.nii.gz", empty, affine)},
            {"subject": "absent", **head, "t1": str(tmp_path / "absent.nii.gz")},
            {"subject": "grid", **head, "label": save(tmp_path / "small.nii.gz", empty[:-1], affine)},
        )
        with pytest.raises(InputError, match=r"ixi shard 0: 4 of 5 scans failed \(allowed 0\)") as error:
            strip(rows, tmp_path)
        for message in (
            "nan t1 (", "not finite", "nomask t1 (", "brain mask is empty", "absent t1 (", "does not exist",
            "grid t1 (", "resample it to the scan's grid",
        ):  # fmt: skip
            assert message in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "stripped.tsv").exists()
        table = read_table(tmp_path / "stripped.failed.tsv")
        assert table.set_index("subject")["status"].to_dict() == {
            "absent": "failed", "good": "ok", "grid": "failed", "nan": "failed", "nomask": "failed"
        }  # fmt: skip
        lines = []
        strip(rows, tmp_path, FAST.model_copy(update={"max_failures": 4}), progress=lines.append)
        assert lines[0] == "1/5 good t1 kept"
        assert not (tmp_path / "stripped.failed.tsv").exists()

    def test_allowed_failures_stay_in_the_next_table(self, head, atlas, tmp_path):
        settings = FAST.model_copy(update={"max_failures": 1})
        done = dict.fromkeys(("stripped", "registered", "bias_corrected"), "1")
        rows = table_of({"subject": "good", **head, **done}, {"subject": "bad", **head, "t1": "absent.nii.gz", **done})
        table = run_both(rows, tmp_path, atlas, settings).set_index("subject")
        assert table["status"].to_dict() == {"bad": "failed", "good": "ok"}
        assert table.loc["bad", "message"].startswith("absent.nii.gz: does not exist")

    def test_label_in_another_scanner_space(self, head, tmp_path):
        label = nib.load(head["label"])
        far = label.affine.copy()
        far[:3, 3] += 1000
        path = save(tmp_path / "far.nii.gz", np.asarray(label.dataobj), far)
        rows = table_of({"subject": "s", **head, "label": path})
        with pytest.raises(InputError, match="no labelled voxel lies inside the scan"):
            strip(rows, tmp_path, label_on_own_grid=True)

    def test_missing_hd_bet_parameters(self, head, tmp_path):
        settings = FAST.model_copy(update={"hd_bet": FAST.hd_bet.model_copy(update={"parameters": str(tmp_path)})})
        with pytest.raises(InputError, match=r"dataset\.json: does not exist; preprocess\.hd_bet\.parameters"):
            strip(table_of({"subject": "s", "t1": head["t1"]}), tmp_path, settings)

    def test_checkpoint_with_another_hash_is_not_loaded(self, head, tmp_path):
        for name in ("dataset.json", "plans.json", "fold_all/checkpoint_final.pth"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("{}")
        hd_bet = FAST.hd_bet.model_copy(update={"parameters": str(tmp_path), "sha256": "0" * 64})
        settings = FAST.model_copy(update={"hd_bet": hd_bet})
        with pytest.raises(InputError, match=r"checkpoint_final\.pth: sha256 is 44136fa3.* it was not loaded"):
            strip(table_of({"subject": "s", "t1": head["t1"]}), tmp_path, settings)


class TestSkullStrip:
    def stripped_scan(self, tmp_path):
        """A brain-extracted ball with a hole of zeros inside, 2 mm voxels."""
        axes = np.meshgrid(*[np.arange(30) - 14.5] * 3, indexing="ij")
        radius = np.sqrt(sum(axis**2 for axis in axes))
        data = np.where((radius < 12) & (radius > 2), 100 + 3 * axes[0], 0).astype(np.float32)
        return save(tmp_path / "t2.nii.gz", data, np.diag([-2.0, -2.0, 2.0, 1.0])), radius < 12

    @pytest.mark.parametrize("rule", ["nonzero", "get_mask"])
    def test_mask_of_scans_that_come_stripped(self, tmp_path, rule):
        path, brain = self.stripped_scan(tmp_path)
        settings = PreprocessSettings(spacing_mm=2.0, stripped_mask=rule)
        table = strip(table_of({"subject": "s", "t2": path, "stripped": "1"}), tmp_path, settings, limits=TOY)
        mask = read_label(table.loc[0, "mask"]).data > 0
        if rule == "nonzero":
            np.testing.assert_array_equal(mask, brain)  # the hole is filled
        else:
            assert 2 * (mask & brain).sum() / (mask.sum() + brain.sum()) > 0.95
        np.testing.assert_array_equal(
            read_image(table.loc[0, "image"]).data, read_image(path).data
        )  # the spacing is right already: untouched

    def test_label_values(self, head, tmp_path):
        rows = table_of({"subject": "s", **head})
        raw = np.asarray(nib.load(head["label"]).dataobj)
        for exclude, expected in ((None, {4: 1, 2: 1}), (2, {4: 1, 2: 2})):
            table = strip(rows, tmp_path / str(exclude), exclude_label=exclude)
            label = read_label(table.loc[0, "label"]).data
            for value, result in expected.items():
                assert (label == result).sum() >= (raw == value).sum()
            assert set(np.unique(label)) == {0, *expected.values()}

    def test_label_on_a_grid_of_its_own(self, head, tmp_path):
        # The same lesion in 4 x 4 x 12 mm slices of the scanner space (WMH): one slice covers three.
        raw = nib.load(head["label"])
        label = np.asarray(raw.dataobj)
        affine = raw.affine @ np.diag([1, 1, 3, 1])
        affine[:3, 3] += raw.affine[:3, 2]
        thick = save(tmp_path / "thick.nii.gz", np.ascontiguousarray(label[:, :, 1::3][:, :, :15]), affine)
        rows = table_of({"subject": "s", **head, "label": thick})
        with pytest.raises(InputError, match="has shape"):
            strip(rows, tmp_path / "refused")
        table = strip(rows, tmp_path, label_on_own_grid=True)
        moved = read_label(table.loc[0, "label"])
        centre = apply_affine(moved.affine, np.argwhere(moved.data).mean(axis=0))
        truth = apply_affine(raw.affine, np.argwhere(label[:, :, 1::3].repeat(3, axis=2)).mean(axis=0))
        assert np.linalg.norm(centre - truth) < SPACING

    def test_half_voxel_header_shift_is_unified(self, head, tmp_path):
        mask = nib.load(head["mask"])
        affine = mask.affine.copy()
        affine[:3, 3] += SPACING / 2
        shifted = save(tmp_path / "shifted.nii.gz", np.asarray(mask.dataobj), affine)
        same = [
            read_label(strip(table_of({"subject": "s", **head, "mask": path}), tmp_path / name).loc[0, "mask"])
            for name, path in (("a", head["mask"]), ("b", shifted))
        ]
        np.testing.assert_array_equal(same[0].data, same[1].data)

    def test_shards_partition_the_cohort(self):
        cohort = pd.DataFrame({"subject": [f"IXI{n:03d}" for n in range(50)]})
        parts = [members(cohort, shard, 4)["subject"].tolist() for shard in range(4)]
        assert sorted(subject for part in parts for subject in part) == cohort["subject"].tolist()
        # CRC-32 of "123456789" is 0xCBF43926, the check value of the algorithm.
        assert len(members(pd.DataFrame({"subject": ["123456789"]}), 0xCBF43926 % 7, 7)) == 1


@pytest.mark.parametrize("interpolation", ["linear", "nearestNeighbor"])
def test_a_linearly_moved_mask_weighs_in_n4_by_its_values(head, atlas, tmp_path, monkeypatch, interpolation):
    seen = []

    def corrected(image, brain, settings, weights):  # docs/paper.md#n4: theirs pass N4 the values in (0, 1]
        seen.append((brain.data, weights.data))
        return correct_bias_field(image, brain, settings, weights)

    monkeypatch.setattr(register, "correct_bias_field", corrected)
    registration = FAST.registration.model_copy(update={"label_interpolation": interpolation})
    run_both(
        table_of({"subject": "s", **head}), tmp_path, atlas, FAST.model_copy(update={"registration": registration})
    )
    ((brain, weights),) = seen
    np.testing.assert_array_equal(weights > 0, brain > 0)
    between = (weights > 0.01) & (weights < 0.99)
    assert weights.max() == pytest.approx(1) and between.any() == (interpolation == "linear")


def test_a_shard_without_members_has_an_empty_table(tmp_path, atlas):
    table = run_both(table_of({"subject": "s", "t1": "x.nii.gz"}).iloc[:0], tmp_path, atlas)
    assert table.empty
    assert list(read_table(tmp_path / "shard-0.tsv").columns) == list(table.columns)

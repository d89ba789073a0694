"""Scans that come registered or stripped already: what passes unchanged, and what the authors do with them."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.ndimage import binary_dilation
from small_heads import FAST, SPACING, TOY, run_both, save, table_of

from uad.common.errors import InputError
from uad.common.volumes import read_image, read_label
from uad.preprocessing.atlas import load_atlas
from uad.preprocessing.crop import bounding_box

pytestmark = pytest.mark.slow


class TestSecondDoor:
    def test_fully_preprocessed_scans_pass_unchanged(self, tmp_path, atlas):
        rng = np.random.default_rng(0)
        data = np.zeros((20, 24, 18), dtype=np.float32)
        data[4:15, 5:20, 3:16] = rng.normal(0, 1, (11, 15, 13))  # z-scored: negative values are legitimate
        affine = np.diag([-SPACING, -SPACING, SPACING, 1])  # nowhere near the atlas
        flags = dict.fromkeys(("stripped", "registered", "bias_corrected"), "1")
        rows = table_of({"subject": "s", "t1": save(tmp_path / "t1.nii.gz", data, affine), **flags})
        table = run_both(rows, tmp_path, atlas, limits=TOY)
        image = read_image(table.loc[0, "image"])
        np.testing.assert_array_equal(image.data, data[4:15, 5:20, 3:16])
        np.testing.assert_allclose(apply_affine(image.affine, [0, 0, 0]), apply_affine(affine, [4, 5, 3]))
        assert np.isnan(table["n4_min"].astype(float)).all()

    def test_registered_scan_on_the_atlas_grid_is_not_interpolated(self, tmp_path, atlas):
        loaded = load_atlas(atlas, "RAI", SPACING)
        path = save(tmp_path / "t2.nii.gz", loaded.image.data, loaded.image.affine)
        flags = {"stripped": "1", "registered": "1", "bias_corrected": "0"}
        settings = FAST.model_copy(update={"n4": FAST.n4.model_copy(update={"tolerance": 1e3, "iterations": 1})})
        table = run_both(table_of({"subject": "s", "t2": path, **flags}), tmp_path, atlas, settings)
        mask = read_label(table.loc[0, "mask"])
        assert table.loc[0, "atlas_dice"] > 0.99  # 1 but for the holes that are filled
        box = bounding_box(loaded.brain.data, "keep")
        assert mask.data.shape == loaded.brain.data[box].shape

    def test_registered_scan_outside_the_atlas(self, tmp_path, atlas):
        loaded = load_atlas(atlas, "RAI", SPACING)
        affine = loaded.image.affine.copy()
        affine[2, 3] += 120
        path = save(tmp_path / "t2.nii.gz", loaded.image.data, affine)
        rows = table_of({"subject": "s", "t2": path, "stripped": "1", "registered": "1"})
        with pytest.raises(InputError, match=r"% of its brain lies outside the atlas grid"):
            run_both(rows, tmp_path, atlas)

    def test_authors_register_what_is_registered(self, tmp_path, atlas):
        loaded = load_atlas(atlas, "RAI", SPACING)
        affine = loaded.image.affine.copy()
        affine[:3, 3] += 8  # registered, but not well
        path = save(tmp_path / "t2.nii.gz", loaded.image.data, affine)
        rows = table_of({"subject": "s", "t2": path, "stripped": "1", "registered": "1"})
        kept = run_both(rows, tmp_path / "kept", atlas).loc[0]
        settings = FAST.model_copy(update={"register_stripped_registered": True})
        again = run_both(rows, tmp_path / "again", atlas, settings).loc[0]
        assert kept["atlas_dice"] < 0.9 < 0.97 < again["atlas_dice"]
        assert again["mutual_information"] > kept["mutual_information"] + 0.5

    @pytest.mark.parametrize(("rule", "whole"), [("get_mask", True), ("nonzero", False)])
    def test_authors_keep_stripped_scans_whole(self, tmp_path, atlas, rule, whole):
        # docs/paper.md#packing: get_mask counts as brain mask, but the image is not multiplied by it
        loaded = load_atlas(atlas, "RAI", SPACING)
        faint = binary_dilation(loaded.brain.data > 0, iterations=2) & (loaded.brain.data == 0)
        image = loaded.image.data * (loaded.brain.data > 0) + 5 * faint
        path = save(tmp_path / "t2.nii.gz", image.astype(np.float32), loaded.image.affine)
        settings = FAST.model_copy(update={"stripped_mask": rule})
        row = {"subject": "s", "t2": path, "stripped": "1", "registered": "1"}
        table = run_both(table_of(row), tmp_path, atlas, settings)
        outside = read_label(table.loc[0, "mask"]).data == 0
        assert (read_image(table.loc[0, "image"]).data[outside] > 1).any() == whole

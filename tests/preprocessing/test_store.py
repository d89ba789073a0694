"""Packing: closed forms of each step, agreement with TorchIO, and what a store refuses."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small_heads import SMALL, ball

from uad.common.errors import InputError
from uad.common.store import Store
from uad.config.model import PackSettings
from uad.preprocessing.pack import (
    crop_or_pad,
    curvature_flow,
    final_shape,
    nearest,
    pack,
    pack_volume,
    rescale_intensity,
    resize,
)


class TestCropOrPad:
    @pytest.mark.parametrize("old", [(5, 6, 7), (10, 9, 12), (7, 10, 8)])
    @pytest.mark.parametrize("new", [(8, 8, 8), (9, 6, 7)])
    def test_same_as_torchio(self, old, new):
        torchio = pytest.importorskip("torchio", reason="torchio is a development dependency")
        values = np.random.default_rng(0).random(old).astype(np.float32) + 1
        expected = torchio.CropOrPad(new)(torchio.ScalarImage(tensor=torch.from_numpy(values)[None])).numpy()[0]
        np.testing.assert_array_equal(crop_or_pad(values, new), expected)


class TestRescaleIntensity:
    def test_percentiles_of_a_ramp(self):
        # The values 0 ... 100 have percentiles 1 and 99 at 1 and 99.
        image = np.arange(101, dtype=np.float32)
        scaled = rescale_intensity(image, np.ones(101, dtype=bool), (1, 99))
        np.testing.assert_allclose(scaled, np.clip((image - 1) / 98, 0, 1), rtol=1e-6)

    def test_background_does_not_count(self):
        image = np.concatenate([np.arange(101), np.full(500, 1e4)]).astype(np.float32)
        inside = np.arange(601) < 101
        scaled = rescale_intensity(image, inside, (1, 99))
        assert scaled[50] == pytest.approx(0.5)
        assert (scaled[101:] == 1).all()

    def test_negative_values(self):
        scaled = rescale_intensity(np.arange(-50, 51, dtype=np.float32), np.ones(101, dtype=bool), (0, 100))
        assert (scaled[0], scaled[50], scaled[-1]) == (0, 0.5, 1)

    def test_constant_brain(self):
        with pytest.raises(InputError, match="constant inside the brain"):
            rescale_intensity(np.ones(9, dtype=np.float32), np.ones(9, dtype=bool), (1, 99))


class TestResize:
    def test_half_puts_centres_at_half_plus_two_k(self):
        x, y, z = np.meshgrid(np.arange(24.0), np.arange(20.0), np.arange(16.0), indexing="ij")
        halved = resize((x + 100 * y + 10000 * z).astype(np.float32), 0.5)
        assert halved.shape == (12, 10, 8)
        k = [np.arange(n) * 2 + 0.5 for n in halved.shape]
        expected = k[0][:, None, None] + 100 * k[1][None, :, None] + 10000 * k[2]
        inner = (slice(3, -3),) * 3  # splines reproduce a linear ramp away from the mirrored border
        np.testing.assert_allclose(halved[inner], expected[inner], rtol=2e-4)

    @pytest.mark.parametrize(("voxels", "factor", "expected"), [(192, 0.5, 96), (100, 0.5, 50), (34, 0.75, 25)])
    def test_sizes(self, voxels, factor, expected):
        assert final_shape(PackSettings(crop=(voxels, 192, 100), factor=factor))[0] == expected

    def test_any_factor_keeps_the_centre(self):
        ramp = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 12, 12)).astype(np.float32)
        smaller = resize(ramp, 0.75)
        assert smaller.shape == (30, 9, 9)
        # 40 voxels become 30 of 4/3: the first lies at 19.5 - 14.5 * 4/3 = 1/6.
        np.testing.assert_allclose(smaller[4:-4, 4, 4], (1 / 6 + np.arange(30) * 4 / 3)[4:-4], atol=1e-3)

    def test_splines_are_of_order_three(self):
        from scipy.ndimage import map_coordinates

        values = np.random.default_rng(0).random((30, 30, 30)).astype(np.float32)
        grid = np.meshgrid(*[np.arange(15) * 2 + 0.5] * 3, indexing="ij")
        expected = map_coordinates(values, grid, order=3, mode="mirror")
        np.testing.assert_allclose(resize(values, 0.5), expected, atol=1e-3)

    def test_labels_keep_their_values(self):
        label = np.random.default_rng(0).integers(0, 3, (12, 12, 12)).astype(np.uint8)
        halved = nearest(label, 0.5)
        assert halved.dtype == np.uint8
        assert set(np.unique(halved)) == {0, 1, 2}

    def test_labels_come_from_the_later_of_two_voxels_in_every_plane(self):
        # docs/paper.md#packing: ITK's filter took plane 58 for 59 at this size
        label = np.random.default_rng(0).integers(0, 3, (192, 192, 100)).astype(np.uint8)
        np.testing.assert_array_equal(nearest(label, 0.5), label[1::2, 1::2, 1::2])

    def test_labels_lie_where_the_image_does(self):
        # 16 voxels become 12, at 1/6 + 4k/3
        line = np.arange(16, dtype=np.uint8)[:, None, None]
        assert nearest(line, 0.75)[:, 0, 0].tolist() == [0, 2, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15]


class TestPackVolume:
    def volume(self, shape=(22, 26, 18), radius=8):
        mask = ball(shape, radius)
        image = np.random.default_rng(0).uniform(50, 150, shape).astype(np.float32) * mask
        return image, mask, ball(shape, 3)

    def test_contract(self):
        packed = pack_volume(*self.volume(), SMALL)
        assert packed.image.shape == packed.mask.shape == packed.label.shape == (12, 14, 10)
        assert packed.image.min() == 0
        assert packed.image.max() <= 1
        assert not packed.image[packed.mask == 0].any()
        assert packed.image[packed.mask == 1].std() > 0.1

    def test_kept_background_is_that_of_the_authors(self):
        # docs/paper.md#packing: smoothed, cropped, rescaled with the mask's percentiles, halved; no zeros, no clipping
        torchio = pytest.importorskip("torchio", reason="torchio is a development dependency")
        image, mask, label = self.volume()
        keep = SMALL.model_copy(update={"background": "keep"})
        smooth = sitk.CurvatureFlow(sitk.GetImageFromArray(image), 0.125, 3)
        both = torchio.Subject(
            image=torchio.ScalarImage(tensor=torch.from_numpy(sitk.GetArrayFromImage(smooth))[None]),
            mask=torchio.LabelMap(tensor=torch.from_numpy(mask)[None]),
        )
        both = torchio.CropOrPad(keep.crop)(both)
        both = torchio.RescaleIntensity((0, 1), percentiles=(1, 99), masking_method="mask")(both)
        expected = torchio.Resample(2, image_interpolation="bspline")(both).image.numpy()[0]
        packed = pack_volume(image, mask, label, keep)
        np.testing.assert_allclose(packed.image, expected, atol=1e-5)
        assert packed.image.min() < -0.01 and packed.image.max() > 1.01
        zero = pack_volume(image, mask, label, SMALL)
        np.testing.assert_array_equal(packed.mask, zero.mask)

    def test_both_orders_show_the_same_field_of_view(self):
        # The brain lies inside the crop, so both orders take percentiles of the same voxels (D9).
        code = pack_volume(*self.volume(), SMALL)
        text = pack_volume(*self.volume(), SMALL.model_copy(update={"order": "pad_resize_cut"}))
        np.testing.assert_array_equal(text.mask, code.mask)
        np.testing.assert_array_equal(text.label, code.label)
        np.testing.assert_allclose(text.image, code.image, atol=5e-3)  # splines see another border

    def test_percentiles_before_or_after_the_crop(self):
        # Bright voxels above the field of view count only where percentiles come before the cut.
        shape = (22, 26, 32)
        mask = np.ones(shape, dtype=np.uint8)
        image = np.random.default_rng(0).uniform(50, 150, shape).astype(np.float32)
        image[..., :5] *= 10
        label = np.zeros(shape, dtype=np.uint8)
        code = pack_volume(image, mask, label, SMALL)
        text = pack_volume(image, mask, label, SMALL.model_copy(update={"order": "pad_resize_cut"}))
        assert text.image.shape == code.image.shape
        assert text.image[4:8, 4:8, 4:8].mean() < 0.5 * code.image[4:8, 4:8, 4:8].mean()

    def test_paper_grid(self):
        # docs/paper.md#packing: 192 x 192 x 100 voxels become 96 x 96 x 50; the text cuts 15 of 80 slices at each end.
        assert final_shape(PackSettings()) == (96, 96, 50)
        image = np.zeros((150, 180, 150), dtype=np.float32)
        image[..., 25:125] = np.random.default_rng(0).uniform(1, 2, (150, 180, 100))
        mask = np.ones(image.shape, dtype=np.uint8)
        settings = PackSettings(order="pad_resize_cut", curvature_flow={"iterations": 0})
        assert pack_volume(image, mask, mask, settings).image.shape == (96, 96, 50)

    def test_no_brain_in_the_crop(self):
        image, mask = np.ones((60, 10, 10), dtype=np.float32), np.zeros((60, 10, 10), dtype=np.uint8)
        mask[:4] = 1
        with pytest.raises(InputError, match="no brain is left inside the crop"):
            pack_volume(image, mask, mask, SMALL)

    def test_curvature_flow_smooths_and_can_be_off(self):
        image, _, _ = self.volume()
        flow = PackSettings().curvature_flow
        assert curvature_flow(image, flow).std() < image.std()
        assert curvature_flow(image, flow.model_copy(update={"iterations": 0})) is image


class TestStore:
    def packed(self, cohort, settings=SMALL):
        tables, table, prefix = cohort
        pack(tables, table, "t2", settings, 1.0, prefix)
        return Store.open(prefix)

    def test_layout(self, cohort):
        store = self.packed(cohort)
        assert store.images.shape == store.masks.shape == store.labels.shape == (3, 10, 14, 12)
        assert store.index["subject"].tolist() == ["s1", "s2", "s3"]
        assert store.images.dtype == np.float32
        assert store.masks.dtype == store.labels.dtype == np.uint8
        assert store.index["age"].tolist()[0] == 31.5
        assert np.isnan(store.index["age"].tolist()[1])

    def test_axes_are_z_y_x(self, cohort):
        store = self.packed(cohort)
        image = nib.load(str(cohort[0][0].parent / "s3_image.nii.gz")).get_fdata(dtype=np.float32)
        mask = nib.load(str(cohort[0][0].parent / "s3_mask.nii.gz")).get_fdata().astype(np.uint8)
        expected = pack_volume(image, mask, mask * 0, SMALL).image
        np.testing.assert_array_equal(store.images[store.row("s3")], expected.transpose(2, 1, 0))

    def test_lesion_volume_counts_label_1_at_the_final_voxel_size(self, cohort):
        store = self.packed(cohort)
        ones = (store.labels[0] == 1).sum()
        assert ones > 0
        assert (store.labels[0] == 2).any()
        assert store.index["lesion_ml"].tolist() == [pytest.approx(ones * 8 / 1000), 0, 0]

    def test_half_precision(self, cohort):
        full = np.array(self.packed(cohort).images)
        half = self.packed(cohort, SMALL.model_copy(update={"dtype": "float16"})).images
        assert half.dtype == np.float16
        np.testing.assert_allclose(half, full, atol=2**-11)

    def test_scan(self, cohort):
        scan = self.packed(cohort).scan("s2")
        assert (scan.image.dtype, scan.mask.dtype, scan.label.dtype) == (np.float32, bool, np.uint8)

    def test_twice_is_identical(self, cohort):
        self.packed(cohort)
        prefix = cohort[2]
        first = [f.read_bytes() for f in sorted(prefix.parent.iterdir())]
        self.packed(cohort)
        assert [f.read_bytes() for f in sorted(prefix.parent.iterdir())] == first

    def test_a_failed_repack_leaves_the_store(self, cohort):
        before = np.array(self.packed(cohort).images)
        (cohort[0][0].parent / "s2_image.nii.gz").unlink()
        with pytest.raises(InputError, match=r"s2_image\.nii\.gz: does not exist"):
            self.packed(cohort)
        np.testing.assert_array_equal(Store.open(cohort[2]).images, before)
        assert len(list(cohort[2].parent.iterdir())) == 4

    def test_unknown_subject(self, cohort):
        with pytest.raises(InputError, match="s9: is not in the store"):
            self.packed(cohort).row("s9")

    def test_no_scan_of_a_modality(self, cohort):
        tables, table, prefix = cohort
        with pytest.raises(InputError, match="no finished t1 scan in 2 shard tables"):
            pack(tables, table, "t1", SMALL, 1.0, prefix)

    def test_wrong_spacing(self, cohort):
        tables, table, prefix = cohort
        with pytest.raises(InputError, match=r"s1_image\.nii\.gz: is not at 2\.0 mm"):
            pack(tables, table, "t2", SMALL, 2.0, prefix)

    def test_index_that_does_not_fit(self, cohort):
        self.packed(cohort)
        index = cohort[2].with_suffix(".tsv")
        index.write_text("".join(index.read_text().splitlines(keepends=True)[:-1]))
        with pytest.raises(InputError, match=r"index \(2 rows\) do not fit"):
            Store.open(cohort[2])

    def test_damaged_array(self, cohort):
        self.packed(cohort)
        array = cohort[2].parent / "x_t2.masks.npy"
        array.write_bytes(array.read_bytes()[:-100])
        with pytest.raises(InputError, match=r"x_t2\.masks\.npy: missing or damaged"):
            Store.open(cohort[2])

"""Reading scans: each defect of a file gets its own message; geometry agrees with ANTs."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from uad.common.errors import InputError
from uad.common.volumes import Volume, itk_code, on_grid_of, read_image, read_label, reorient, write_volume
from uad.preprocessing.itk import ants, from_ants, to_ants

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def saved(path, data, affine=AFFINE):
    nib.save(nib.Nifti1Image(np.asarray(data, dtype=np.float32), affine), path)
    return path


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(100, 20, (6, 7, 8)).astype(np.float32)


def oblique_affine():
    """A left-right first, oblique grid with three voxel sizes."""
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.array([[0, 1, 0], [0, 0, -1], [1, 0, 0]])) * [0.9, 1.1, 3.0]
    affine[:3, 3] = [10, -20, 30]
    return affine


class TestBadFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match=r"absent\.nii\.gz: does not exist"):
            read_image(tmp_path / "absent.nii.gz")

    def test_truncated_gzip(self, tmp_path):
        whole = saved(tmp_path / "whole.nii.gz", np.random.default_rng(0).random((32, 32, 32)))
        cut = tmp_path / "cut.nii.gz"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(InputError, match=r"cut\.nii\.gz: cannot be read as NIfTI"):
            read_image(cut)

    @pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
    def test_not_nifti(self, tmp_path, content):
        path = tmp_path / "page.nii.gz"
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as NIfTI"):
            read_image(path)

    def test_four_axes(self, tmp_path, values):
        path = saved(tmp_path / "bold.nii.gz", np.stack([values, values], axis=3))
        with pytest.raises(InputError, match=r"shape \(6, 7, 8, 2\); one 3-D volume"):
            read_image(path)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite(self, tmp_path, values, bad):
        values[1, 2, 3] = bad
        with pytest.raises(InputError, match="not finite"):
            read_image(saved(tmp_path / "nan.nii.gz", values))

    def test_constant(self, tmp_path):
        with pytest.raises(InputError, match="every voxel has the value 7"):
            read_image(saved(tmp_path / "flat.nii.gz", np.full((4, 4, 4), 7)))

    def test_degenerate_affine(self, tmp_path, values):
        image = nib.Nifti1Image(values, None)
        image.set_sform(np.diag([2.0, 0.0, 3.0, 1.0]), 1)
        nib.save(image, tmp_path / "zero.nii")
        with pytest.raises(InputError, match="zero or undefined voxel size"):
            read_image(tmp_path / "zero.nii")

    def test_sheared_affine(self, tmp_path, values):
        affine = AFFINE.copy()
        affine[0, 1] = 0.5
        with pytest.raises(InputError, match="sheared"):
            read_image(saved(tmp_path / "shear.nii.gz", values, affine))

    @pytest.mark.parametrize(("value", "message"), [(0.4, "whole numbers"), (-1, "from 0 to 255")])
    def test_label_values(self, tmp_path, value, message):
        label = np.zeros((4, 4, 4))
        label[1, 1, 1] = value
        with pytest.raises(InputError, match=message):
            read_label(saved(tmp_path / "label.nii.gz", label))


def test_trailing_axis_is_dropped(tmp_path, values):
    volume = read_image(saved(tmp_path / "atlas.nii.gz", values[..., None]))
    np.testing.assert_array_equal(volume.data, values)


class TestLabelGrid:
    def at(self, shape=(6, 7, 8), shift=0.0):
        affine = AFFINE.copy()
        affine[:3, 3] = np.array([2, 2, 3]) * shift
        return Volume(np.ones(shape, dtype=np.uint8), affine)

    def test_half_a_voxel_takes_the_scans_header(self):
        label = on_grid_of(self.at(shift=-0.5), self.at(), "mask.nii.gz")
        np.testing.assert_array_equal(label.affine, AFFINE)

    def test_more_is_another_grid(self):
        with pytest.raises(InputError, match=r"mask\.nii\.gz: lies 0\.60 voxels away"):
            on_grid_of(self.at(shift=0.6), self.at(), "mask.nii.gz")

    def test_another_shape(self):
        with pytest.raises(InputError, match=r"shape \(6, 7, 9\), its scan \(6, 7, 8\)"):
            on_grid_of(self.at(shape=(6, 7, 9)), self.at(), "mask.nii.gz")

    def test_mirrored_label_is_refused(self):
        mirrored = Volume(np.ones((6, 7, 8), dtype=np.uint8), AFFINE @ np.diag([-1, 1, 1, 1]))
        with pytest.raises(InputError, match="voxels away"):
            on_grid_of(mirrored, self.at(), "mask.nii.gz")


class TestAgreementWithAnts:
    @pytest.mark.parametrize("affine", [AFFINE, oblique_affine()], ids=["straight", "oblique"])
    def test_geometry(self, tmp_path, values, affine):
        path = saved(tmp_path / "scan.nii.gz", values, affine)
        ours, theirs = to_ants(read_image(path)), ants.image_read(str(path))
        np.testing.assert_allclose(ours.spacing, theirs.spacing, rtol=1e-5)
        np.testing.assert_allclose(ours.origin, theirs.origin, atol=1e-4)
        np.testing.assert_allclose(ours.direction, theirs.direction, atol=1e-5)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())

    @pytest.mark.parametrize("code", ["RAI", "LPI"])
    def test_reorient(self, tmp_path, values, code):
        path = saved(tmp_path / "scan.nii.gz", values, oblique_affine())
        ours = reorient(read_image(path), code)
        theirs = from_ants(ants.reorient_image2(ants.image_read(str(path)), code))
        np.testing.assert_array_equal(ours.data, theirs.data)
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
        assert itk_code(ours) == code

    def test_rai_is_nibabels_lps(self, values):
        assert nib.aff2axcodes(reorient(Volume(values, AFFINE), "RAI").affine) == ("L", "P", "S")


def test_written_volumes_are_equal_bytes_and_read_back(tmp_path, values):
    volume = Volume(values, oblique_affine())
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    again = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.data, values)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)
    assert nib.load(tmp_path / "a.nii.gz").get_data_dtype() == np.float32

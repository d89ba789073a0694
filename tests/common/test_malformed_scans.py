"""Malformed scans at ingest and reading: a clear error or the right answer, whatever the bytes."""

from __future__ import annotations

import gzip
import io
import tempfile
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from uad.common.errors import InputError
from uad.common.nifti import read_header
from uad.common.volumes import label_values, read_image, read_label, reorient

SHAPE = (5, 6, 7)
VOXELS = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.int16)
NOISE = np.random.default_rng(1).integers(0, 2**15, (20, 21, 22)).astype(np.int16)  # larger than any read-ahead
AFFINE = np.array([[0, 0, -1.25, 30], [-0.94, 0, 0, 20], [0, 0.94, 0, -10], [0, 0, 0, 1]])

fast = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
pytestmark = pytest.mark.filterwarnings("ignore")


def nifti(data=VOXELS, affine=AFFINE) -> bytes:
    return nib.Nifti1Image(data, affine).to_bytes()


def opened(content: bytes, suffix: str, read=read_image):
    """What reading a file of these bytes gives: a result, or None for a clear error."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"scan{suffix}"
        path.write_bytes(content)
        try:
            return read(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            return None


@fast
@given(st.integers(0, 351), st.integers(0, 7))
def test_a_flipped_bit_in_the_header(place, bit):
    """Whatever bit flips, no exception but InputError; and header, image and label agree on what they accept."""
    content = bytearray(nifti())
    content[place] ^= 1 << bit
    header, image = (opened(bytes(content), ".nii", read) for read in (read_header, read_image))
    assert image is None or (header is not None and header.shape == image.data.shape)
    labels, values = opened(bytes(content), ".nii", read_label), opened(bytes(content), ".nii", label_values)
    assert (labels is None) == (values is None)
    if labels is not None:
        assert values == np.unique(labels.data).tolist()
    if image is not None:
        assert image.data.size == VOXELS.size and np.isfinite(image.data).all()
        assert image.spacing.min() >= 0.1 and image.spacing.max() <= 20


@fast
@given(st.lists(st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_overwritten_header_fields(changes):
    content = bytearray(nifti())
    for place, new in changes:
        content[place : place + len(new)] = new[: 352 - place]
    header, image = (opened(bytes(content), ".nii", read) for read in (read_header, read_image))
    assert image is None or header is not None


@fast
@given(st.binary(max_size=600), st.sampled_from([".nii", ".nii.gz"]))
def test_any_bytes_are_answered(content, suffix):
    assert opened(content, suffix) is None


@fast
@given(st.integers(0, 10**6), st.booleans())
def test_every_truncation_is_noticed_by_header_and_voxels(cut, compressed):
    content = gzip.compress(nifti(), mtime=0) if compressed else nifti()
    cut %= len(content)
    for read in (read_header, read_image, label_values):
        assert opened(content[:cut], ".nii.gz" if compressed else ".nii", read) is None


@fast
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_in_a_gzip_stream_is_an_error_or_harmless(place, bit):
    content = bytearray(gzip.compress(nifti(NOISE), mtime=0))
    content[place % len(content)] ^= 1 << bit
    image = opened(bytes(content), ".nii.gz")
    assert image is None or np.array_equal(image.data, NOISE)  # flags and time of the gzip header say nothing


def test_a_gzip_file_of_several_streams_is_read():
    content = nifti()
    image = opened(gzip.compress(content[:400]) + gzip.compress(content[400:]), ".nii.gz")
    np.testing.assert_array_equal(image.data, VOXELS)
    assert opened(gzip.compress(content[:400]) + gzip.compress(content[400:-1]), ".nii.gz", read_header) is None


@fast
@given(
    st.permutations(range(3)), st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3), st.tuples(*[st.floats(-300, 300)] * 3),
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
)  # fmt: skip
def test_any_orientation_and_spacing_is_read_right(axes, signs, spacing, origin, angles):
    """Physical positions survive reading and turning: checked on one marked voxel, by ITK's own arithmetic."""
    from scipy.spatial.transform import Rotation

    matrix = Rotation.from_euler("xyz", angles).as_matrix() @ (np.eye(3)[:, axes] * signs) * spacing
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, origin
    data = np.zeros(SHAPE, np.int16)
    data[1, 4, 2] = 9
    assume(np.abs(affine).max() < 1e4)
    image = opened(nifti(data, affine), ".nii")
    assert image is not None
    upright = reorient(image)
    assert nib.aff2axcodes(upright.affine) == ("L", "P", "S")
    place = np.argwhere(upright.data == 9)[0]
    found = upright.affine[:3, :3] @ place + upright.affine[:3, 3]
    np.testing.assert_allclose(found, matrix @ [1, 4, 2] + origin, atol=1e-2)
    np.testing.assert_allclose(sorted(upright.spacing), sorted(spacing), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_number_type_and_byte_order(dtype, order):
    data = (VOXELS % 100).astype(dtype)
    image = nib.Nifti1Image(data, AFFINE, nib.Nifti1Header(endianness=order), dtype=dtype)
    stream = io.BytesIO(image.to_bytes())
    volume = opened(stream.getvalue(), ".nii")
    np.testing.assert_array_equal(volume.data, data)
    assert opened(stream.getvalue(), ".nii", label_values) == np.unique(data).tolist()


def test_scaled_values_are_scaled():
    image = nib.Nifti1Image(VOXELS, AFFINE)
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([2.0, 5.0], "<f4").tobytes()  # scl_slope, scl_inter
    np.testing.assert_array_equal(opened(bytes(content), ".nii").data, 2 * VOXELS + 5)
    small = bytearray(nib.Nifti1Image(VOXELS % 2, AFFINE).to_bytes())
    small[112:120] = np.array([2.0, 5.0], "<f4").tobytes()
    assert opened(bytes(small), ".nii", label_values) == [5, 7]

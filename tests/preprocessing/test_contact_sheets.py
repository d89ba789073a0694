"""Contact sheets of preprocessed scans: pages, frames, and what a thumbnail shows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from uad.common.volumes import Volume, write_volume
from uad.preprocessing.contact_sheets import COLUMNS, HEIGHT, ROWS, WIDTH, draw_sheets, thumbnail

FLAG = (213, 94, 0)
AFFINE = np.diag([-2.0, -2.0, 2.0, 1.0])  # ITK RAI: x to the left, y to posterior, z up


@pytest.fixture
def scan(tmp_path):
    """A brain of 36 x 44 x 28 voxels, half as bright as its front left quarter, and its mask."""
    inside = np.zeros((40, 48, 32), np.uint8)
    inside[2:38, 2:46, 2:30] = 1
    values = 500.0 * inside
    values[20:38, 2:24] *= 2
    paths = [str(tmp_path / f"{name}.nii.gz") for name in ("image", "mask", "label")]
    lesion = np.zeros_like(inside)
    lesion[8:14, 30:36, 14:18] = 1
    for path, data in zip(paths, (values.astype(np.float32), inside, lesion), strict=True):
        write_volume(path, Volume(data, AFFINE))
    return paths


def rows_of(scan, count, modality="t2"):
    rows = pd.DataFrame("", index=range(count), columns=["subject", "modality", "status", "message", "flag", "outlier"])
    rows["subject"] = [f"s{number:03d}" for number in range(count)]
    rows["modality"], rows["status"] = modality, "ok"
    return rows.assign(image=scan[0], mask=scan[1], label="")


def test_an_axial_slice_is_upright_in_radiological_convention(scan):
    """Front is up and the patient's left is on the right."""
    axial = np.asarray(thumbnail(scan[0], scan[1], ""))[:, : thumbnail(scan[0], scan[1], "").width * 40 // 128]
    grey = axial.astype(float).max(axis=2)
    height, width = grey.shape
    up, down = slice(height // 6, height // 3), slice(2 * height // 3, 5 * height // 6)
    right, left = slice(2 * width // 3, 5 * width // 6), slice(width // 6, width // 3)
    assert grey[up, right].min() > 245  # the 99th percentile is white
    assert all(100 < np.median(grey[place]) < 150 for place in ((up, left), (down, left), (down, right)))


def test_grey_values_do_not_depend_on_the_scanners_units(scan, tmp_path):
    brighter = str(tmp_path / "brighter.nii.gz")
    image = np.asarray(thumbnail(scan[0], scan[1], ""))
    values = np.zeros((40, 48, 32), np.float32)
    values[2:38, 2:46, 2:30] = 5e4
    values[20:38, 2:24, 2:30] = 1e5
    write_volume(brighter, Volume(values, AFFINE))
    np.testing.assert_array_equal(np.asarray(thumbnail(brighter, scan[1], "")), image)


def test_brain_and_lesion_are_outlined(scan):
    def colours(label):
        return {tuple(pixel) for pixel in np.asarray(thumbnail(scan[0], scan[1], label)).reshape(-1, 3).tolist()}

    coloured = [{c for c in colours(label) if len(set(c)) > 1} for label in ("", scan[2])]
    assert coloured[0] and coloured[0] < coloured[1]


def test_all_scans_are_on_pages_and_flagged_ones_come_first(scan, tmp_path):
    rows = rows_of(scan, COLUMNS * ROWS + 3)
    rows.loc[40, "outlier"] = "atlas_dice 0.62 (z -8.1)"
    rows.loc[41, ["status", "message", "image"]] = "failed", "truncated", ""
    rows.loc[42, ["status", "message"]] = "failed", "brain_ml is 200"  # measured, hence pictured
    rows.loc[43, "flag"] = "brain_ml is 700"
    rows = pd.concat([rows, rows_of(scan, 1, "t1")], ignore_index=True)
    paths = draw_sheets(rows, tmp_path / "sheets")
    assert [path.name for path in paths] == ["t1-01.png", "t2-01.png", "t2-02.png"]
    sheets = {path.name: np.asarray(Image.open(path)) for path in paths}
    assert sheets["t2-01.png"].shape == (ROWS * HEIGHT, COLUMNS * WIDTH, 3)
    assert sheets["t1-01.png"].shape == (HEIGHT, WIDTH, 3)
    assert sheets["t2-02.png"].shape == (HEIGHT, 2 * WIDTH, 3)  # two are left: one of the 75 has failed
    corners = sheets["t2-01.png"][::HEIGHT, ::WIDTH]
    framed = (corners == FLAG).all(axis=2)
    assert framed[0, :3].all() and framed.sum() == 3
    assert not (sheets["t2-02.png"] == FLAG).all(axis=2).any()


def test_a_refused_scan_shows_the_reason_and_not_the_path(scan, tmp_path):
    sheets = []
    for number, path in enumerate(("", "/my scans/s_mask.nii.gz: ")):
        rows = rows_of(scan, 1)
        rows.loc[0, ["status", "message"]] = "failed", f"{path}brain_ml is 200"
        sheets.append(draw_sheets(rows, tmp_path / str(number))[0].read_bytes())
    assert sheets[0] == sheets[1]


def test_equal_scans_give_equal_bytes(scan, tmp_path):
    first, second = (draw_sheets(rows_of(scan, 2), tmp_path / name)[0].read_bytes() for name in "ab")
    assert first == second

"""`compare` on phantoms with one known departure each: that step is named, with its size, and no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from compare_preprocessing import Finding, compare
from places import ROOT
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.spatial.transform import Rotation

from uad.common.errors import InputError
from uad.common.volumes import Volume, reorient, write_volume
from uad.phantoms.anatomy import Subject, covering_grid
from uad.phantoms.contrast import Scanner, render
from uad.preprocessing.crop import bounding_box, crop

pytestmark = pytest.mark.slow

VOXEL = 3.0


@dataclass(frozen=True)
class Preprocessed:
    image: Volume
    brain: Volume


def preprocessed(motion: np.ndarray | None = None, voxel_mm: float = VOXEL, last_plane: str = "keep") -> Preprocessed:
    """A stripped head in atlas space, cropped to its brain; `motion` [4, 4] moves the head in space (mm, RAS)."""
    subject = Subject(3, "brats21", 0, "atlas", 50)
    if motion is not None:
        subject.world_to_head = subject.world_to_head @ np.linalg.inv(motion)
    scene = subject.on(covering_grid((-98.5, -134.5, -72.5), (98.5, 98.5, 116.5), (voxel_mm,) * 3, "LPS"))
    scanner = Scanner(gm=0.0, wm=0.0, gamma=1.0, gain=500, noise=0.005, bias=0.0)
    image = render(scene, "t2", scanner, stripped=True).astype(np.float32)
    brain = scene.brain.astype(np.uint8)
    image *= 300 / np.median(image[brain > 0])  # the phantom draws its gain anew on every grid
    box = bounding_box(brain, last_plane)
    affine = scene.grid.affine.astype(float)
    return Preprocessed(crop(Volume(image * brain, affine), box), crop(Volume(brain, affine), box))


@pytest.fixture(scope="module")
def ours() -> Preprocessed:
    return preprocessed()


def changed(scan: Preprocessed, function) -> Preprocessed:
    inside = scan.brain.data > 0
    data = np.where(inside, function(scan.image.data), 0).astype(np.float32)
    return Preprocessed(scan.image.with_data(data), scan.brain)


def departures(ours: Preprocessed, theirs: Preprocessed, mask=True, placed=True) -> dict[str, Finding]:
    findings = compare(ours.image, ours.brain, theirs.image, theirs.brain if mask else None, placed)
    assert [finding.step for finding in findings] == [
        "orientation", "voxel size (mm)", "brain mask", "registration", "field of view", "bias field",
        "intensity (1 to 99 %)", "smoothing",
    ]  # fmt: skip
    return {finding.step: finding for finding in findings if finding.departs}


def number(finding: Finding, before: str) -> float:
    """The number that follows a phrase in a finding's text."""
    return float(re.match(r"[-+.e0-9]+", finding.how_much.split(before)[1])[0].rstrip("."))


def only(found: dict[str, Finding], step: str) -> Finding:
    assert list(found) == [step], {name: finding.how_much for name, finding in found.items()}
    return found[step]


def test_a_scan_does_not_depart_from_itself(ours):
    assert departures(ours, ours) == {}
    assert departures(ours, ours, mask=False) == {}


def test_orientation(ours):
    turned = Preprocessed(reorient(ours.image, "LPI"), reorient(ours.brain, "LPI"))
    finding = only(departures(ours, turned), "orientation")
    assert (finding.ours, finding.theirs) == ("RAI", "LPI")


def test_voxel_size(ours):
    found = departures(ours, preprocessed(voxel_mm=2.4))
    assert "20.0%" in found["voxel size (mm)"].how_much
    assert set(found) <= {"voxel size (mm)", "field of view", "smoothing"}  # finer voxels also show finer edges


@pytest.mark.parametrize("shift", [(6, 0, 0), (-3, 9, 3)])
def test_shift(ours, shift):
    affine = ours.image.affine.copy()
    affine[:3, 3] += shift
    moved = Preprocessed(Volume(ours.image.data, affine), Volume(ours.brain.data, affine))
    finding = only(departures(ours, moved), "registration")
    assert number(finding, "off by ") == pytest.approx(np.linalg.norm(shift), abs=0.3)
    assert departures(ours, moved, placed=False) == {}  # a header without place


def test_turn_and_size(ours):
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("z", 5, degrees=True).as_matrix() @ np.diag([1, 1.06, 1])
    found = departures(ours, preprocessed(motion))
    text = found["registration"].how_much
    size = [float(part) for part in text.split("size ")[1].split(" x ")]
    assert number(found["registration"], "turned by ") == pytest.approx(5, abs=0.7)
    np.testing.assert_allclose(size, [1, 1.06, 1], atol=0.015)
    assert set(found) <= {"registration", "field of view"}  # the box of a turned brain is another one


def test_last_plane_of_the_authors_crop(ours):
    finding = only(departures(ours, preprocessed(last_plane="drop")), "field of view")
    assert finding.how_much == "-1 planes last L, -1 planes last P, -1 planes last S"


def test_padding(ours):
    affine = ours.image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [4, 0, 2]
    pads = ((4, 0), (0, 0), (2, 3))
    padded = Preprocessed(Volume(np.pad(ours.image.data, pads), affine), Volume(np.pad(ours.brain.data, pads), affine))
    finding = only(departures(ours, padded), "field of view")
    assert finding.how_much == "+4 planes first L, +2 planes first S, +3 planes last S"


def test_brain_mask(ours):
    larger = binary_dilation(np.pad(ours.brain.data, 3), iterations=2)
    affine = ours.image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [3, 3, 3]
    noise = np.random.default_rng(0).uniform(20, 40, larger.shape)
    data = np.where(larger, np.pad(ours.image.data, 3), 0)
    data = np.where(larger & (data == 0), noise, data).astype(np.float32)
    found = departures(ours, Preprocessed(Volume(data, affine), Volume(larger.astype(np.uint8), affine)))
    finding = found["brain mask"]
    added = (larger.sum() - ours.brain.data.sum()) * VOXEL**3 / 1000
    assert f"{added:+.0f} ml" in finding.how_much
    assert set(found) <= {"brain mask", "field of view", "smoothing"}  # room for the rim, and its noise


def test_bias_field(ours):
    slope = np.linspace(-0.2, 0.2, ours.image.data.shape[1])[None, :, None]
    finding = only(departures(ours, changed(ours, lambda data: data * (1 + slope))), "bias field")
    place = np.broadcast_to(slope, ours.image.data.shape)[ours.brain.data > 0]
    low, high = 1 + np.percentile(place, (5, 95))
    assert number(finding, "factor of ") == pytest.approx(high / low, rel=0.03)


@pytest.mark.parametrize(("gain", "offset"), [(2.0, 0), (1, 100), (0.01, -3)])
def test_intensity_scale(ours, gain, offset):
    finding = only(departures(ours, changed(ours, lambda data: gain * data + offset)), "intensity (1 to 99 %)")
    assert number(finding, "theirs = ") == pytest.approx(gain, rel=0.03)
    span = gain * np.ptp(np.percentile(ours.image.data[ours.brain.data > 0], (1, 99)))
    assert number(finding, "* ours ") == pytest.approx(offset, abs=0.03 * span)


def test_intensity_window(ours):
    top = np.percentile(ours.image.data[ours.brain.data > 0], 95)
    finding = only(departures(ours, changed(ours, lambda data: np.minimum(data, top))), "intensity (1 to 99 %)")
    assert number(finding, " and ") == pytest.approx(5, abs=0.3)


def test_smoothing(ours):
    def smoothed(data):
        share = gaussian_filter((data > 0).astype(float), 1.5)
        return gaussian_filter(data, 1.5) / np.where(share > 0, share, 1)

    smooth = changed(ours, smoothed)
    found = departures(ours, smooth)
    assert "smoother" in found["smoothing"].how_much
    assert set(found) <= {"smoothing", "intensity (1 to 99 %)"}  # the extremes of a smoothed image are nearer


def test_two_departures_are_both_named(ours):
    affine = ours.image.affine.copy()
    affine[:3, 3] += [0, 6, 0]
    moved = Preprocessed(Volume(ours.image.data * 2, affine), Volume(ours.brain.data, affine))
    assert list(departures(ours, moved)) == ["registration", "intensity (1 to 99 %)"]


def test_mask_of_another_scan(ours):
    with pytest.raises(InputError, match="give the scan's own mask"):
        compare(ours.image, ours.brain, ours.image, Volume(ours.brain.data[1:], ours.brain.affine), True)


def program(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools/compare_preprocessing.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_program(ours, tmp_path):
    write_volume(tmp_path / "s_t2.nii.gz", ours.image)
    write_volume(tmp_path / "s_t2_mask.nii.gz", ours.brain)
    write_volume(tmp_path / "mine.nii.gz", changed(ours, lambda data: data / 2).image)
    done = program("--ours", tmp_path / "s_t2.nii.gz", "--theirs", tmp_path / "mine.nii.gz")
    assert done.returncode == 0, done.stderr
    assert "departs in: intensity (1 to 99 %)" in done.stdout
    done = program("--ours", tmp_path / "x_t2.nii.gz", "--theirs", tmp_path / "mine.nii.gz")
    assert done.returncode == 1 and "x_t2.nii.gz: does not exist" in done.stderr


def test_program_against_a_store(ours, tmp_path):
    store = tmp_path / "ixi_t2"
    for name, data in (
        ("images", ours.image.data / ours.image.data.max()),
        ("masks", ours.brain.data),
        ("labels", 0 * ours.brain.data),
    ):
        kind = np.float32 if name == "images" else np.uint8
        np.save(f"{store}.{name}.npy", data.transpose(2, 1, 0)[None].astype(kind))
    Path(f"{store}.tsv").write_text("row\tsubject\tsite\tscanner\tage\tlesion_ml\n0\ts\t\t\t\t0\n")
    Path(f"{store}.json").write_text(json.dumps({"settings": {"spacing_mm": VOXEL, "pack": {"factor": 1}}}))
    write_volume(tmp_path / "mine.nii.gz", ours.image)
    done = program("--ours", store, "--subject", "s", "--theirs", tmp_path / "mine.nii.gz")
    assert done.returncode == 0, done.stderr
    assert "departs in: intensity (1 to 99 %)" in done.stdout  # our [0, 1] against raw values
    assert f"theirs = {ours.image.data.max():.3g} * ours" in done.stdout

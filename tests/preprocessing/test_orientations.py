"""Every order in which the axes of one phantom can be stored ends in the same registered volume."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy.ndimage import gaussian_filter

from uad.cohorts import ingest
from uad.cohorts.folder import FolderAdapter
from uad.common.files import sha256_of
from uad.common.tabular import read_table
from uad.config.model import PreprocessSettings
from uad.preprocessing.register import register_shard
from uad.preprocessing.skull_strip import skull_strip_shard

pytestmark = pytest.mark.slow

ORDERS = [
    "".join(letters)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*axes)
]  # fmt: skip
SETTINGS = PreprocessSettings(
    spacing_mm=4.0, registration={"iterations": [50, 20]}, n4={"levels": 1, "iterations": 2}, max_failures=0
)
# Spacing and origin are sums of powers of two, so that headers store them exactly in every order.
SPACING, ORIGIN = np.array([3.0, 4.5, 5.0]), np.array([-66.0, -90.0, -70.0])


def head() -> dict[str, np.ndarray]:
    """A lopsided head [X, Y, Z] in RAS: nothing about it is the same on two sides."""
    place = np.meshgrid(*[np.linspace(-1, 1, n) for n in (44, 40, 30)], indexing="ij")
    radius = np.sqrt((place[0] / 0.75) ** 2 + (place[1] / 0.8) ** 2 + (place[2] / 0.8 + 0.1 * place[0]) ** 2)
    brain = radius < 1
    texture = gaussian_filter(np.random.default_rng(0).normal(0, 1, brain.shape), 2)
    image = 500 * brain + 80 * place[0] * brain + 120 * place[1] * brain + 900 * texture * brain
    lesion = np.zeros(brain.shape, np.uint8)
    lesion[12:16, 24:29, 15:18] = 1
    return {"t2": np.where(brain, image, 5).astype(np.float32), "mask": brain.astype(np.uint8), "seg": lesion}


def test_there_are_48_orders():
    assert len(set(ORDERS)) == 48


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """The phantom in all orders, and its cohort table."""
    folder = tmp_path_factory.mktemp("orders")
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = ORIGIN
    for code in ORDERS:
        change = ornt_transform(io_orientation(affine), axcodes2ornt(code))
        for kind, data in head().items():
            turned = apply_orientation(data, change)
            image = nib.Nifti1Image(turned, affine @ inv_ornt_aff(change, data.shape), dtype=data.dtype)
            assert "".join(nib.aff2axcodes(image.affine)) == code
            (folder / "raw").mkdir(exist_ok=True)
            nib.save(image, folder / "raw" / f"{code}_{kind}.nii.gz")
    return folder, read_table_of(folder)


def read_table_of(folder: Path) -> pd.DataFrame:
    ingest(
        FolderAdapter(), folder / "raw", folder / "unpacked", ["t2"], folder / "cohort.tsv", report_path=folder / "c.md"
    )
    return read_table(folder / "cohort.tsv")


@pytest.fixture(scope="module")
def stripped(cohort) -> pd.DataFrame:
    folder, rows = cohort
    skull_strip_shard(
        rows, SETTINGS, folder / "stripped", folder / "stripped.tsv", name="all orders", progress=lambda line: None
    )
    return read_table(folder / "stripped.tsv")


def test_ingest_sees_48_scans_in_48_orientations(cohort):
    folder, rows = cohort
    assert len(rows) == 48
    report = (folder / "c.md").read_text()
    assert "| subjects kept | 48 |" in report


@pytest.mark.parametrize("role", ["image", "mask", "label"])
def test_all_orders_are_one_file_after_the_first_stage(stripped, role):
    assert len(stripped) == 48
    assert len({sha256_of(path) for path in stripped[role]}) == 1


def test_the_one_file_is_the_phantom_in_its_place(stripped):
    """Against the phantom's own formula: the marked side of the brain and the centre of the lesion."""
    label = nib.load(stripped["label"][0])
    centre = nib.affines.apply_affine(label.affine, np.argwhere(np.asarray(label.dataobj)).mean(axis=0))
    np.testing.assert_allclose(centre, ORIGIN + SPACING * [13.5, 26, 16], atol=2)  # half a voxel
    assert nib.aff2axcodes(label.affine) == ("L", "P", "S")


def test_registration_ends_in_the_same_volume(cohort, stripped, tmp_path):
    """What registration reads is equal byte for byte; three of the orders show that nothing else comes in."""
    _, rows = cohort
    some = ["RAS", "PIL", "SLA"]
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    affine[:3, 3] = [80, 100, -60]
    place = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 50, 34)], indexing="ij")
    ball = np.where(sum(axis**2 for axis in place) < 0.6, 100 + 20 * place[1] + 10 * place[2], 0).astype(np.float32)
    nib.save(nib.Nifti1Image(ball, affine), tmp_path / "atlas.nii.gz")
    table = register_shard(
        rows[rows["subject"].isin(some)], stripped[stripped["subject"].isin(some)], tmp_path / "atlas.nii.gz", SETTINGS,
        tmp_path / "final", tmp_path / "final.tsv", name="some orders", seed=1, progress=lambda line: None,
    )  # fmt: skip
    assert table["status"].tolist() == ["ok"] * 3
    for role in ("image", "mask", "label"):
        assert len({sha256_of(path) for path in table[role]}) == 1

"""Readings of the reconstructions that an arm has left."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from uad.common.packed import Scan
from uad.common.tabular import write_table
from uad.inference.outputs import Outputs, combined, write_outputs

LEVELS, SHAPE = [250, 500, 750], (2, 3, 4)


@pytest.fixture
def outputs(tmp_path):
    """Outputs of one scan at three levels, the scan, and its reconstructions [T, Z, Y, X]."""
    rng = np.random.default_rng(0)
    values = rng.random((3, *SHAPE)).astype(np.float16)
    row = write_outputs(tmp_path / "wmh.npy", "reconstruction", LEVELS, ["a"], SHAPE, [values])
    write_table(pd.DataFrame([{"cohort": "wmh", "doubts": "", **row}]), tmp_path / "arrays.tsv")
    image = rng.random(SHAPE).astype(np.float32)
    scan = Scan("a", image, np.ones(SHAPE, bool), np.zeros(SHAPE, np.uint8), "t2")
    return Outputs(tmp_path / "arrays.tsv", LEVELS[:2]), scan, values.astype(np.float32)


def test_ens_is_the_mean_of_the_reconstructions_over_its_levels(outputs):
    table, scan, values = outputs
    output = table.volume("wmh", scan, "ens")
    assert output.kind == "reconstruction"
    np.testing.assert_array_equal(output.values, (values[0] + values[1]) / 2)
    np.testing.assert_array_equal(table.volume("wmh", scan, "750").values, values[2])


def test_gmean_and_max_are_maps_of_the_residuals_over_the_same_levels(outputs):
    table, scan, values = outputs
    residuals = np.abs(scan.image - values[:2])
    gmean, largest = (table.volume("wmh", scan, reading) for reading in ("gmean", "max"))
    assert gmean.kind == largest.kind == "map"
    np.testing.assert_allclose(gmean.values, stats.gmean(residuals, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(largest.values, np.maximum(*residuals))


def test_a_voxel_restored_exactly_at_one_level_has_a_geometric_mean_of_0():
    assert combined(np.array([[0.0, 0.2], [0.5, 0.2]], np.float32), "gmean").tolist() == pytest.approx([0, 0.2])

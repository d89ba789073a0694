"""The figures that phantoms and real scans are compared by, on arrays whose answer is known."""

import numpy as np
import pytest
from phantoms_against_real import (
    COMPONENTS,
    VOXEL_ML,
    deep_fluid,
    deep_in,
    histogram_distance,
    pca_error,
    spread,
    texture,
)

RNG = np.random.default_rng(0)
MASKS = np.ones((24, 12, 16, 16), np.uint8)


def test_pca_has_no_error_on_brains_of_few_kinds_and_all_of_it_on_noise():
    patterns = RNG.random((COMPONENTS - 1, *MASKS.shape[1:]))
    few = np.tensordot(RNG.random((24, COMPONENTS - 1)), patterns, 1)
    assert pca_error((few, MASKS)) == pytest.approx(0, abs=1e-9)
    noise = RNG.standard_normal(MASKS.shape)
    # of 256 pixels, 8 directions are taken away and the mean of 18 brains adds 1/18 of the variance
    assert pca_error((noise, MASKS)) == pytest.approx(np.sqrt(1 + 1 / 18 - 8 / 256), abs=0.03)


def test_histograms_that_share_nothing_are_1_apart():
    low, high = np.full(MASKS.shape, 0.2), np.full(MASKS.shape, 0.8)
    half = np.where(np.arange(16) < 8, low, high)
    assert histogram_distance((low, MASKS), (low, MASKS)) == 0
    assert histogram_distance((low, MASKS), (high, MASKS)) == 1
    assert histogram_distance((low, MASKS), (half, MASKS)) == 0.5


def test_only_dark_voxels_deep_in_the_brain_are_fluid():
    images = np.ones(MASKS.shape)
    images[:, 5:7, 7:9, 7:9] = 0.1  # 8 voxels
    images[:, :2] = 0.1  # at the surface
    mean, deviation = deep_fluid((images, MASKS))
    assert (mean, deviation) == (pytest.approx(8 * VOXEL_ML), 0)


def test_spread_and_texture_are_shares_of_the_brains_deviation():
    levels = np.array([0.4, 0.6]).repeat(12)[:, None, None, None] * np.ones(MASKS.shape)
    # all variance is between scans; n-1 of 24 scans
    assert spread((levels, MASKS), deep_in) == pytest.approx(np.sqrt(24 / 23))
    assert texture((levels, MASKS)) == pytest.approx(0, abs=1e-9)

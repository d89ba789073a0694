"""Matching a reconstruction to its scan: closed forms, and scikit-image's histogram matching."""

import numpy as np
import pytest
from skimage.exposure import match_histograms

from uad.methods import Scan, load_method

SHAPE = (10, 24, 20)
MATCHED = load_method("matched")


def scan_of(seed=0):
    rng = np.random.default_rng(seed)
    _, y, x = np.indices(SHAPE)
    mask = ((y - 12) / 10) ** 2 + ((x - 10) / 8) ** 2 < 1
    image = ((0.2 + 0.6 * rng.random(SHAPE)) * mask).astype(np.float32)
    return Scan("a", image, mask, np.zeros(SHAPE, np.uint8), "t2")


def matched(scan, reconstruction, **params):
    return MATCHED(MATCHED.Params(**params)).rate(scan, reconstruction.astype(np.float32))


@pytest.mark.parametrize("how", ["gain", "histogram"])
@pytest.mark.parametrize("factor", [0.5, 1.7])
def test_a_scan_times_a_constant_comes_back(how, factor):
    scan = scan_of()
    background = np.where(scan.mask, 0, 0.9)  # what the reconstruction has outside of the brain does not leak in
    found = matched(scan, factor * scan.image + background, how=how, sigma=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, scan.image, rtol=2e-6)


def test_a_smooth_gain_is_undone_as_far_as_it_is_smooth():
    scan = scan_of()
    field = np.exp(0.4 * np.cos(np.indices(SHAPE)[1] / 24 * np.pi))
    errors = [
        np.abs(matched(scan, scan.image * field, how="gain", sigma=sigma) - scan.image)[scan.mask].mean()
        for sigma in (1, 3, 30)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 0.1 * np.abs(scan.image * field - scan.image)[scan.mask].mean()


def test_the_gain_is_that_of_sums_under_a_window_in_the_brain():
    # with a Gaussian much wider than the volume, it is the quotient of the two sums over the brain
    scan, rng = scan_of(), np.random.default_rng(1)
    reconstruction = 0.5 * rng.random(SHAPE)
    found = matched(scan, reconstruction, how="gain", sigma=500)
    gain = scan.image[scan.mask].sum() / reconstruction[scan.mask].sum()
    np.testing.assert_allclose(found[scan.mask], gain * reconstruction[scan.mask], rtol=1e-4)


@pytest.mark.parametrize(("factor", "gain"), [(0.01, 4), (100, 1 / 4)])
def test_the_gain_is_bounded(factor, gain):
    scan = scan_of()
    found = matched(scan, factor * scan.image, how="gain")
    np.testing.assert_allclose(found, factor * gain * scan.image, rtol=1e-6)


@pytest.mark.parametrize("change", [np.sqrt, np.exp, lambda x: 3 * x**3 - 2])
def test_histogram_matching_undoes_what_keeps_the_order(change):
    scan = scan_of()
    found = matched(scan, change(scan.image.astype(np.float64)), how="histogram")
    np.testing.assert_array_equal(found, scan.image)


def test_histogram_matching_is_that_of_scikit_image():
    scan, rng = scan_of(), np.random.default_rng(2)
    reconstruction = np.round(rng.random(SHAPE), 2)  # with equal values
    assert len(np.unique(scan.image[scan.mask])) == scan.mask.sum()  # no equal values, between which it interpolates
    expected = match_histograms(reconstruction[scan.mask], scan.image[scan.mask].astype(np.float64))
    np.testing.assert_allclose(matched(scan, reconstruction, how="histogram")[scan.mask], expected, rtol=1e-5)


@pytest.mark.parametrize("how", ["gain", "histogram"])
def test_outside_the_brain_it_is_0(how):
    scan, rng = scan_of(), np.random.default_rng(3)
    found = matched(scan, rng.random(SHAPE), how=how)
    assert not found[~scan.mask].any() and np.isfinite(found).all()
    empty = scan._replace(mask=np.zeros(SHAPE, bool))
    assert not matched(empty, rng.random(SHAPE), how=how).any()
    assert np.isfinite(matched(scan, np.zeros(SHAPE), how=how)).all()
    assert np.isfinite(matched(scan, -np.ones(SHAPE), how=how)).all()

"""Erosion, median and component filter against SciPy and scikit-image, whole volumes.  docs/paper.md#post-processing"""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops

from uad.inference.outputs import Output
from uad.scoring.postprocessing import (
    UNTOUCHED,
    PostProcessing,
    clean_map,
    erode_slices,
    median_filter,
    remove_small_components,
)
from uad.scoring.predict import anomaly_map, predict

SHAPE = (12, 30, 54)  # width 54: two iterations of erosion


def _ellipsoid(shape=SHAPE, reach=0.8):
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return (sum(axis**2 for axis in axes) < reach**2).astype(np.uint8)


@pytest.fixture
def residual():
    noise = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    return np.where(np.random.default_rng(2).random(SHAPE) < 0.3, 0, noise).astype(np.float32)


def _erode_by_hand(mask, iterations):
    eroded = mask > 0
    for _ in range(iterations):
        grown = np.pad(eroded, ((0, 0), (1, 1), (1, 1)))
        eroded = (
            grown[:, 1:-1, 1:-1] & grown[:, :-2, 1:-1] & grown[:, 2:, 1:-1] & grown[:, 1:-1, :-2] & grown[:, 1:-1, 2:]
        )
    return eroded


@pytest.mark.parametrize("width, iterations", [(96, 3), (75, 3), (74, 2), (24, 0)])
def test_erosion_takes_width_over_25_iterations(width, iterations):
    mask = _ellipsoid((5, 40, width), 0.95)
    assert np.array_equal(erode_slices(mask, None), _erode_by_hand(mask, iterations))


def test_erosion_does_not_reach_across_slices():
    mask = np.zeros((3, 9, 9), np.uint8)
    mask[1] = 1
    assert erode_slices(mask, 2)[1].sum() == 25


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("reach", [0.3, 0.8, 2.0])  # small box, box near the rim, full volume
def test_median_equals_scipy_on_the_whole_volume(residual, size, reach):
    masked = residual * _ellipsoid(reach=reach)
    assert np.array_equal(median_filter(masked, size), ndimage.median_filter(masked, size))


@pytest.mark.parametrize("corner", [(0, 0, 0), (1, 1, 1), (8, 25, 49), (2, 3, 40)])
def test_median_equals_scipy_for_boxes_at_the_border(corner):
    volume = np.zeros(SHAPE, np.float32)
    z, y, x = corner
    part = volume[z : z + 4, y : y + 5, x : x + 5]
    part[:] = np.random.default_rng(3).random(part.shape) + 0.1
    expected = ndimage.median_filter(volume, 5)
    assert expected.any()
    assert np.array_equal(median_filter(volume, 5), expected)


@pytest.mark.parametrize("layout", ["F", "C"])
def test_median_of_other_layouts_and_types(residual, layout):
    volume = np.array(residual * _ellipsoid(), np.float64, order=layout)
    assert np.array_equal(median_filter(volume, 7), ndimage.median_filter(volume, 7))


def test_median_of_nothing_is_nothing():
    assert not median_filter(np.zeros(SHAPE, np.float32), 5).any()


def test_clean_map_follows_the_order(residual):
    mask = _ellipsoid()
    brain, eroded = mask > 0, _erode_by_hand(mask, 2)
    code = ndimage.median_filter(residual * eroded, 5)
    text = ndimage.median_filter(residual * brain, 5) * eroded
    assert not np.array_equal(code, text)
    assert np.array_equal(clean_map(residual, mask, PostProcessing()), code)
    assert np.array_equal(clean_map(residual, mask, PostProcessing(order=("median", "erode"))), text)


def test_clean_map_can_leave_steps_out(residual):
    mask = _ellipsoid()
    masked = residual * (mask > 0)
    assert np.array_equal(clean_map(residual, mask, PostProcessing(order=())), masked)
    assert np.array_equal(clean_map(residual, mask, PostProcessing(order=["erode"], erosion=0)), masked)
    only_median = clean_map(residual, mask, PostProcessing(order=("median",), median_size=3))
    assert np.array_equal(only_median, ndimage.median_filter(masked, 3))
    assert only_median.dtype == np.float32


def _filled_area_rule(binary, max_size, connectivity):
    """The authors' rule in scikit-image: drop regions whose filled area is at most `max_size`."""
    kept = np.zeros(binary.shape, bool)
    for region in regionprops(label(binary, connectivity={6: 1, 18: 2, 26: 3}[connectivity])):
        if region.area_filled > max_size:
            kept[tuple(region.coords.T)] = True
    return kept


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("density", [0.03, 0.12, 0.5, 0.97])
def test_components_follow_the_filled_area_rule(density, connectivity):
    binary = np.random.default_rng(4).random((10, 20, 20)) < density
    expected = _filled_area_rule(binary, 7, connectivity)
    assert np.array_equal(remove_small_components(binary, 7, connectivity), expected)


def test_component_size_limit_is_inclusive():
    binary = np.zeros((3, 3, 40), bool)
    binary[1, 1, 1:8] = True  # 7 voxels
    binary[1, 1, 10:18] = True  # 8 voxels
    kept = remove_small_components(binary, 7)
    assert kept.sum() == 8 and kept[1, 1, 10:18].all()
    assert np.array_equal(remove_small_components(binary, 0), binary)


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": ("blur",)},
        {"order": ("median", "median")},
        {"median_size": 4},
        {"erosion": -1},
        {"component_max_size": -1},
        {"connectivity": 8},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PostProcessing(**wrong)


def test_a_residual_may_be_masked_and_a_map_stays_as_it_was_drawn():
    image, values = np.full((2, 3, 3), 0.25, np.float32), np.full((2, 3, 3), 0.75, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[0] = True
    assert np.array_equal(anomaly_map(Output("reconstruction", values), image), np.full(image.shape, 0.5))
    assert np.array_equal(anomaly_map(Output("reconstruction", values), image, mask), 0.5 * mask)
    assert np.array_equal(anomaly_map(Output("map", values), image, mask), values)


def test_a_control_loses_no_voxel():
    drawn = np.zeros((4, 5, 6), np.float32)
    drawn[0, 0, 0], drawn[3, 4, 5] = 0.5, 1.0  # alone, and at the rim
    cleaned = clean_map(drawn, np.zeros(drawn.shape, bool), UNTOUCHED)
    assert np.array_equal(cleaned, drawn)
    assert np.array_equal(predict(cleaned, 0.5, UNTOUCHED), drawn == 1)
    assert not predict(cleaned, 0.5, PostProcessing()).any()

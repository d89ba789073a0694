"""Measures of single lesions, counted by hand on small volumes."""

import math

import numpy as np
import pytest

from uad.metrics.lesion import (
    LesionSite,
    contrast_to_noise,
    depths,
    errors_inside,
    lesion_sites,
    local_average_precision,
    sphere_mm,
)


@pytest.mark.parametrize("width, points", [(1, 6), (2, 32), (3, 122)])
def test_the_shell_of_a_voxel_has_the_lattice_points_of_a_ball(width, points):
    """Lattice points in a ball of radius 1, 2, 3: 7, 33, 123 (OEIS A000605)."""
    parts = np.zeros((9, 9, 9), int)
    parts[4, 4, 4] = 1
    (site,) = lesion_sites(parts, np.ones(parts.shape, bool), width)
    assert site.shell.sum() == points and site.lesion.sum() == 1
    assert [along.start for along in site.box] == [4 - width] * 3


def test_a_shell_is_healthy_brain_alone_and_ends_at_the_rim():
    parts = np.zeros((1, 1, 7), int)
    parts[0, 0, 0], parts[0, 0, 2] = 1, 2
    healthy = np.array([[[False, True, False, True, False, True, True]]])
    first, second = lesion_sites(parts, healthy, 3)
    assert np.flatnonzero(first.shell).tolist() == [1, 3]
    assert np.flatnonzero(second.shell).tolist() == [1, 3, 5]
    assert first.lesion.sum() == second.lesion.sum() == 1


def test_the_sphere_of_a_litre_and_of_a_known_diameter():
    assert sphere_mm(1000) == pytest.approx(124.07, abs=0.005)  # 2 * (3 / (4 pi))^(1/3) dm
    assert sphere_mm(math.pi / 6) == pytest.approx(10)  # pi / 6 d^3 with d = 1 cm


def test_depth_counts_from_the_nearest_voxel_outside_of_the_brain_and_of_the_volume():
    brain = np.ones((5, 5, 5), bool)
    whole = depths(brain, 2.0)
    assert (whole[2, 2, 2], whole[1, 2, 2], whole[0, 2, 2]) == (6, 4, 2)
    brain[2, 2, 0] = False
    assert depths(brain, 2.0)[2, 2, 1] == 2 and depths(brain, 2.0)[2, 2, 0] == 0
    assert depths(brain, 2.0)[2, 1, 1] == pytest.approx(2 * math.sqrt(2))


def site_of(lesion, shell):
    return LesionSite((slice(None),), np.array(lesion, bool), np.array(shell, bool))


def test_contrast_is_in_deviations_of_the_shell():
    values = np.array([9.0, 7.0, 1.0, 3.0, 100.0])  # lesion 9 and 7, shell 1 and 3: (8 - 2) / 1
    assert contrast_to_noise(values, site_of([1, 1, 0, 0, 0], [0, 0, 1, 1, 0])) == 6
    assert contrast_to_noise(-values, site_of([1, 1, 0, 0, 0], [0, 0, 1, 1, 0])) == -6
    assert math.isnan(contrast_to_noise(values, site_of([1, 1, 0, 0, 0], [0, 0, 0, 0, 0])))
    assert math.isnan(contrast_to_noise(np.ones(5), site_of([1, 1, 0, 0, 0], [0, 0, 1, 1, 0])))


def test_local_precision_is_that_of_lesion_and_shell():
    values = np.array([0.9, 0.7, 0.8, 0.1, 5.0])  # ranks: lesion, shell, lesion, shell; 5.0 is neither
    found = local_average_precision(values, site_of([1, 1, 0, 0, 0], [0, 0, 1, 1, 0]))
    assert found == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert math.isnan(local_average_precision(values, site_of([1, 1, 0, 0, 0], [0, 0, 0, 0, 0])))


def test_errors_are_absolute_and_signed():
    image, truth = np.array([0.5, 0.2, 0.9], np.float16), np.array([0.25, 0.2, 0.0])
    image[1] = 0.0
    assert errors_inside(image, truth, np.array([True, True, False])) == pytest.approx((0.225, 0.025))
    assert np.isnan(errors_inside(image, truth, np.zeros(3, bool))).all()

"""Weights and operations that are counted before anything has run."""

import pytest

from uad.inference.cost import flop_per_sample, flop_per_slice, parameters
from uad.methods import load_method

SHAPE, DEPTH = (96, 96), 50


def cddpm(**params):
    kind = load_method("cddpm")
    return kind(kind.Params(**params))


def test_weights_are_those_of_the_paper():
    assert parameters(cddpm(), SHAPE) == 68_619_329  # docs/methods/cddpm.md


def test_neighbours_cost_channels_of_the_first_layer_alone():
    one, five = cddpm(), cddpm(condition={"slices": 5})
    assert parameters(five, SHAPE) - parameters(one, SHAPE) == 4 * 64 * 7 * 7
    # 7 x 7 windows of four more channels at half the size, a multiply-add counted as two
    more = 2 * 4 * 64 * 7 * 7 * 48 * 48
    assert flop_per_slice(five, SHAPE, DEPTH) - flop_per_slice(one, SHAPE, DEPTH) == pytest.approx(more)
    assert flop_per_sample(five, SHAPE, DEPTH) == flop_per_slice(five, SHAPE, DEPTH)


def test_a_volume_is_encoded_once_at_inference_and_once_per_slice_in_training():
    volume = cddpm(condition={"slices": "volume"}, encoder={"depth": 10})
    shared, alone = flop_per_slice(volume, SHAPE, DEPTH), flop_per_sample(volume, SHAPE, DEPTH)
    # docs/paper.md#u-net: 149.12 GFLOP of the U-Net; the two MLPs of a slice, on condition and place
    unet = 149.124939776e9
    rest = shared - (alone - shared) / (DEPTH - 1)
    assert rest == pytest.approx(unet, rel=1e-3)
    # the first window of the volume: 7^3, 64 channels, at half the size
    assert (alone - shared) * DEPTH / (DEPTH - 1) > 2 * 7**3 * 64 * 25 * 48 * 48

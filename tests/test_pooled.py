"""Thresholds of many volumes in bounded memory, against the same thresholds of all voxels in one array."""

import numpy as np
import pytest

from uad.metrics import pooled
from uad.metrics.pooled import false_positive_thresholds, pooled_exact_threshold
from uad.metrics.segmentation import pooled_curve
from uad.metrics.threshold import exact_threshold

SHAPE = (8, 20, 24)


class Reads:
    """Volumes that can be asked for again, and how often they were."""

    def __init__(self, volumes):
        self.volumes, self.count = volumes, 0

    def __call__(self):
        self.count += 1
        return iter(self.volumes)


def scan_with_lesion(seed, contrast, ties=False):
    """Residual with a lesion of 2 % of its voxels, brighter by `contrast`; a few voxels are not evaluated."""
    draw = np.random.default_rng(seed)
    truth = draw.random(SHAPE) < 0.02
    values = np.abs(draw.normal(size=SHAPE)) * 0.2 + contrast * truth
    values = np.round(values, 1) if ties else values
    return values.astype(np.float32) * (draw.random(SHAPE) < 0.6), truth, draw.random(SHAPE) < 0.98


def exact(volumes):
    return exact_threshold(pooled_curve(volumes))


@pytest.fixture(params=["kept", "read again"])
def room(request, monkeypatch):
    """Voxels are counted after every volume; what is found again is kept, or too much for the memory."""
    monkeypatch.setattr(pooled, "_COUNTED_AT_ONCE", 100)
    if request.param == "read again":
        monkeypatch.setattr(pooled, "_MOST_KEPT", 50)
    return request.param


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("contrasts", [[0.8] * 8, [0.4, 1.0] * 4, [1.0, 0.2, 0.5, 0.3, 0.1, 0.9]])
def test_the_threshold_of_a_stream_is_the_exact_one(room, contrasts, ties):
    volumes = [scan_with_lesion(seed, contrast, ties) for seed, contrast in enumerate(contrasts)]
    assert pooled_exact_threshold(Reads(volumes)) == exact(volumes)


@pytest.mark.parametrize("seed", range(40))
def test_the_threshold_is_the_exact_one_whatever_the_values(room, seed):
    """Few or many voxels, equal values, gaps over many powers of two, values that differ in the last bit, no lesion."""
    draw = np.random.default_rng(seed)
    volumes = []
    for _ in range(draw.integers(1, 6)):
        size = int(draw.integers(1, 200))
        values = draw.choice([0, 1e-30, 1e-3, 0.5, 1, 3e5], size) * draw.random(size)
        near = np.nextafter(np.float32(0.5), np.float32(draw.integers(0, 2)))
        values = np.where(draw.random(size) < 0.3, near, values).astype(np.float32)
        volumes.append((values, draw.random(size) < draw.choice([0, 0.1, 0.9]), None))
    np.testing.assert_equal(pooled_exact_threshold(Reads(volumes)), exact(volumes))


def test_like_volumes_are_read_once_and_mostly_passed_over(monkeypatch):
    monkeypatch.setattr(pooled, "_COUNTED_AT_ONCE", 100)
    reads = Reads([scan_with_lesion(seed, 0.8) for seed in range(20)])
    assert pooled_exact_threshold(reads) == exact(reads.volumes)
    assert reads.count == 1
    highest = pooled._HighestVoxels(reads)
    assert 0 < highest.called[highest.floor] < 0.4 * len(pooled_curve(reads.volumes).values)


def test_a_stream_that_turns_harder_is_read_again(room):
    """An easy scan with a small lesion raises the floor; nearly all lesion voxels of the others are below it."""
    draw = np.random.default_rng(0)
    truth = draw.random(SHAPE) < 0.5
    easy = (np.where(np.arange(truth.size).reshape(SHAPE) < 10, 1.0, 0.5 * draw.random(SHAPE))).astype(np.float32)
    volumes = [(easy, easy == 1.0, None)] + 3 * [((truth * 0.2).astype(np.float32), truth, None)]
    reads = Reads(volumes)
    assert pooled_exact_threshold(reads) == exact(volumes)
    assert reads.count >= 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-3, -np.inf])
def test_a_stream_refuses_impossible_values_also_below_its_floor(room, bad):
    volumes = [scan_with_lesion(seed, 0.8) for seed in range(3)]
    volumes[2][0][0, 0, 0] = bad
    volumes[2][2][0, 0, 0] = True
    with pytest.raises(ValueError, match="finite and at least 0"):
        pooled_exact_threshold(Reads(volumes))
    with pytest.raises(ValueError, match="finite and at least 0"):
        false_positive_thresholds(Reads([(values, valid) for values, _, valid in volumes]), [0.1])


def test_a_negative_zero_is_a_zero():
    values, truth = np.array([-0.0, 0.5, 0.25], np.float32), np.array([1, 1, 0])
    assert pooled_exact_threshold(Reads([(values, truth, None)])) == exact([(values, truth, None)]) == 0.25
    assert np.isnan(pooled_exact_threshold(Reads([(values, np.zeros(3), None)])))
    assert false_positive_thresholds(Reads([(values, np.ones(3))]), [1.0]) == {1.0: 0}


@pytest.mark.parametrize("zero_share", [0.1, 0.9])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 1.0])
def test_false_positive_thresholds_bound_the_share_of_brain(room, rate, zero_share):
    draw = np.random.default_rng(1)
    masks = [draw.random(SHAPE) < 0.5 for _ in range(2)]
    maps = [(draw.gamma(2, 0.1, SHAPE) * (draw.random(SHAPE) > zero_share)).astype(np.float32) for _ in range(2)]
    threshold = false_positive_thresholds(Reads(list(zip(maps, masks, strict=True))), [rate])[rate]
    brain = np.concatenate([values[mask] for values, mask in zip(maps, masks, strict=True)])
    assert (brain > np.float32(threshold)).mean() <= rate
    lower = brain[brain < np.float32(threshold)]
    assert not len(lower) or (brain > lower.max()).mean() > rate


def test_false_positive_thresholds_of_known_values():
    values = np.arange(1, 101, dtype=np.float32).reshape(4, 5, 5)
    found = false_positive_thresholds(Reads([(values, np.ones((4, 5, 5)))]), [0.01, 0.05, 0.1, 0.29])
    assert found == {0.01: 99, 0.05: 95, 0.1: 90, 0.29: 71}
    assert np.isnan(false_positive_thresholds(Reads([]), [0.01])[0.01])

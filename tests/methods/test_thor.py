"""THOR on a chain whose network is known."""

import numpy as np
import pytest
import torch
from packed_arrays import batch_of
from scipy import stats
from torch import nn

from uad.diffusion.process import to_signed
from uad.methods import load_method
from uad.methods.thor import difference, harmonic_mean, region

SHAPE = (5, 1, 32, 28)


class Known(nn.Module):
    """Predicts fixed slices in [-1, 1]; keeps what it was given."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.seen = answer, {}

    def forward(self, x_t, t, condition=None):
        self.seen[int(t[0]) + 1] = x_t
        return self.answer(x_t) if callable(self.answer) else self.answer


def volume_of(seed=0):
    images = 0.2 + 0.6 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))
    images[:, :, :4] = 0  # no brain
    return batch_of(images)


def head(source="ddpm", **params):
    source, thor = load_method(source), load_method("thor")
    source, method = source(source.Params(noise={"shared": True})), thor(thor.Params(**params))
    method.attach(source)
    return method


def map_of(method, network, volume, seed=1):
    with torch.inference_mode():
        return method.anomaly_map(network, volume, torch.Generator().manual_seed(seed))


def with_lesion(images):
    """Healthy slices beside the scan: darker in a square, everywhere else the same."""
    healthy = images.clone()
    healthy[:, :, 14:18, 12:16] -= 0.2
    return healthy


@pytest.mark.parametrize("source", ["ddpm", "pddpm"])
def test_a_network_that_knows_the_scan_leaves_an_empty_map(source):
    volume = volume_of()
    found = map_of(head(source), Known(to_signed(volume.images)), volume)
    assert found.shape == SHAPE and found.max() < 1e-4


def test_the_map_is_where_the_healthy_slice_differs():
    volume = volume_of()
    found = map_of(head(), Known(to_signed(with_lesion(volume.images))), volume)[:, 0]
    lesion = torch.zeros(SHAPE[2:], dtype=torch.bool)
    lesion[14:18, 12:16] = True
    assert (found[:, lesion] > 0).all() and found[:, ~lesion].max() < 1e-4
    torch.testing.assert_close(found.amax((1, 2)), torch.ones(5), atol=1e-3, rtol=0)  # scaled slice by slice


def test_guidance_keeps_the_scan_where_nothing_is_anomalous():
    """At the level after one of guidance, such a pixel is the scan with the first noise; the lesion's is not."""
    volume = volume_of()
    method = head(t_test=250, guidance=[150], steps=5)
    network = Known(to_signed(with_lesion(volume.images)))
    map_of(method, network, volume)
    assert list(network.seen) == [250, 200, 150, 100, 50]
    schedule = method.source.denoiser.schedule
    x = to_signed(volume.images)
    noise = (network.seen[250] - schedule.signal[249] * x) / schedule.noise[249]
    off = network.seen[100] - (schedule.signal[99] * x + schedule.noise[99] * noise)
    # closing reaches no further than the lesion, dilation half of 13 pixels around it
    far = torch.ones(SHAPE[2:], dtype=torch.bool)
    far[8:24, 6:22] = False
    assert off[:, 0, far].abs().max() < 1e-5
    # in the lesion the weight is at least 1/2: 0.2 in [0, 1] is 0.4 in [-1, 1]
    inside = off[:, 0, 14:18, 12:16]
    assert (inside < -0.2 * schedule.signal[99] + 1e-4).all() and (inside > -0.4 * schedule.signal[99] - 1e-4).all()


def test_maps_are_drawn_at_guidance_at_further_levels_and_at_the_end(monkeypatch):
    from uad.methods import thor

    volume, drawn = volume_of(), []
    monkeypatch.setattr(thor, "harmonic_mean", lambda maps: drawn.append(len(maps)) or harmonic_mean(maps))
    network = Known(to_signed(volume.images))
    map_of(head(t_test=350, guidance=[300, 150, 50], maps=[250, 200, 100], steps=2), network, volume)
    assert list(network.seen) == [350, 300, 250, 200, 175, 150, 100, 50] and drawn == [6]  # 50 is the last as well
    map_of(head(), network, volume)
    assert drawn[1:] == [5]  # 200, 150, 100, 50 and 10


def test_a_volume_gives_what_its_slices_give_alone():
    volume = volume_of()
    method = head(steps=5)
    network = Known(lambda x_t: torch.tanh(x_t) - 0.1)
    whole = map_of(method, network, volume)
    alone = torch.cat([map_of(method, network, batch_of(volume.images[z : z + 1])) for z in range(5)])
    torch.testing.assert_close(alone, whole)


def test_difference_is_scaled_and_stays_in_the_brain():
    rng = np.random.default_rng(0)
    image, restored = rng.random((2, 3, 20, 20))
    mask = np.ones(image.shape, bool)
    mask[:, :5] = mask[2] = False
    found = difference(image * mask, restored, mask)
    assert np.allclose(found[:2].max((1, 2)), 1, atol=1e-6) and (found[~mask] == 0).all()
    assert (difference(image * mask, image * mask, mask) == 0).all()


def test_region_of_a_point_is_a_square_and_the_point_itself():
    found = np.zeros((1, 40, 40))
    found[0, 20, 20] = 1
    expected = np.zeros((40, 40))
    expected[14:27, 14:27] = 0.5
    expected[20, 20] = 1
    assert np.array_equal(region(found)[0], expected)
    assert np.array_equal(region(np.ones((1, 20, 20))), np.ones((1, 20, 20)))


def test_harmonic_mean_is_scipys():
    maps = list(np.random.default_rng(0).random((4, 2, 5, 5)))
    maps[1][0, 2] = 0
    np.testing.assert_allclose(harmonic_mean(maps), stats.hmean(np.stack(maps), axis=0), rtol=1e-6)
    assert (harmonic_mean(maps)[0, 2] == 0).all()


@pytest.mark.parametrize("params", [{"t_test": 200}, {"maps": [250]}, {"guidance": []}, {"guidance": [0]}])
def test_levels_lie_below_the_start(params):
    with pytest.raises(ValueError, match=r"guidance|maps"):
        load_method("thor").Params(**params)


def test_only_a_diffusion_arm_can_lend_its_network():
    thor, ae = load_method("thor"), load_method("ae")
    with pytest.raises(ValueError, match="name a diffusion arm"):
        thor(thor.Params()).attach(ae(ae.Params()))

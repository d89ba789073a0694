"""AutoDDPM on a chain whose network is known."""

import numpy as np
import pytest
import torch
from packed_arrays import batch_of
from scipy import ndimage
from torch import nn

from uad.diffusion import noise as noises
from uad.diffusion.process import to_signed, to_unit
from uad.methods import load_method
from uad.methods.autoddpm import soft_mask

SHAPE = (4, 1, 32, 28)
LESION = (slice(12, 18), slice(10, 16))


class Known(nn.Module):
    """Predicts fixed slices in [-1, 1], or a function of x_t; keeps what it was given, in order."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.seen = answer, []

    def forward(self, x_t, t, condition=None):
        self.seen.append((int(t[0]) + 1, x_t))
        return self.answer(x_t) if callable(self.answer) else self.answer


def volume_of(seed=0):
    images = 0.3 + 0.4 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))
    images[:, :, :4] = 0  # no brain
    return batch_of(images)


def head(source="ddpm", **params):
    source, autoddpm = load_method(source), load_method("autoddpm")
    source, method = source(source.Params(noise={"shared": True})), autoddpm(autoddpm.Params(**params))
    method.attach(source)
    return method


def map_of(method, network, volume, seed=1):
    with torch.inference_mode():
        return method.anomaly_map(network, volume, torch.Generator().manual_seed(seed))


def healthy(images):
    """The scan without its lesion: darker in a square, everywhere else the same."""
    without = images.clone()
    without[:, 0, *LESION] -= 0.3
    return without


@pytest.mark.parametrize("source", ["ddpm", "pddpm"])
def test_a_network_that_knows_the_scan_leaves_an_empty_map(source):
    volume = volume_of()
    network = Known(to_signed(volume.images))
    found = map_of(head(source), network, volume)
    assert found.shape == SHAPE and found.max() < 1e-5
    assert len(network.seen) == 70 * (4 if source == "pddpm" else 1)


def test_the_map_is_the_difference_to_the_healthy_slice_times_the_soft_mask():
    volume = volume_of()
    without = healthy(volume.images)
    found = map_of(head(), Known(to_signed(without)), volume)[:, 0]
    image, mask = volume.images[:, 0].numpy(), volume.masks[:, 0].numpy()
    soft = soft_mask(image, without[:, 0].numpy(), mask)
    assert (soft[:, *LESION] > 0.13).any()
    masked = ndimage.grey_dilation(soft, (1, 3, 3)) > 0.13
    expected = np.abs(image - without[:, 0].numpy()) * soft * masked
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_lies_outside_the_mask_is_the_scan_at_every_step(monkeypatch):
    """Without noise, the chain sees the scan itself there, scaled to the level; at last the scan as it is."""
    monkeypatch.setattr(noises, "noise_like", lambda images, *_: torch.zeros_like(images))
    volume, method = volume_of(), head(fine_steps=5, rounds=3)
    x, schedule = to_signed(volume.images), method.source.denoiser.schedule
    found = torch.zeros(SHAPE, dtype=torch.bool)
    found[:, 0, *LESION] = True
    network = Known(lambda x_t: torch.full_like(x_t, -0.5))
    predict = method.source.predictor(network, volume)
    last = method.stitched(predict, x, torch.zeros_like(x), found, torch.Generator())
    assert [level for level, _ in network.seen] == [50] * 3 + [40] * 3 + [30] * 3 + [20] * 3 + [10] * 3
    assert not network.seen[0][1].any()  # it starts from the coarse restoration, here 0
    for level, x_t in network.seen[1:]:
        torch.testing.assert_close(x_t[~found], schedule.signal[level - 1] * x[~found])
    assert torch.equal(last[~found], x[~found]) and torch.allclose(last[found], torch.tensor(-0.5))


def test_noise_around_the_mask_is_of_the_level(monkeypatch):
    """Drawn around it anew, as strong as the schedule says: no reverse step changes that."""
    gaussian = lambda images, generator, _: torch.randn(images.shape, generator=generator)  # noqa: E731
    monkeypatch.setattr(noises, "noise_like", gaussian)
    x = torch.full((40, 1, 32, 32), 0.3)
    method = head(fine_steps=5, rounds=2)
    network = Known(lambda x_t: torch.zeros_like(x_t))
    predict = method.source.predictor(network, batch_of(to_unit(x)))
    method.stitched(predict, x, x, torch.zeros(x.shape, dtype=torch.bool), torch.Generator().manual_seed(0))
    schedule = method.source.denoiser.schedule
    for level, x_t in network.seen:
        assert x_t.std().item() == pytest.approx(schedule.noise[level - 1].item(), rel=0.02)
        assert x_t.mean().item() == pytest.approx(0.3 * schedule.signal[level - 1].item(), abs=0.005)


def test_a_volume_gives_what_its_slices_give_alone():
    volume, method = volume_of(), head(coarse_steps=4, fine_steps=3, rounds=2, threshold=0.01)
    network = Known(lambda x_t: 0.8 * torch.tanh(x_t) - 0.1)
    whole = map_of(method, network, volume)
    alone = torch.cat([map_of(method, network, batch_of(volume.images[z : z + 1])) for z in range(SHAPE[0])])
    assert whole.max() > 0
    torch.testing.assert_close(alone, whole)


def test_soft_mask_ends_at_1_and_in_the_brain():
    rng = np.random.default_rng(0)
    image = 0.2 + 0.6 * rng.random((3, 40, 40))
    mask = np.ones(image.shape, bool)
    mask[:, :10] = mask[2] = False
    restored = image.copy()
    restored[:, 20:30, 20:30] = 1 - image[:, 20:30, 20:30]  # turned about: of another structure
    found = soft_mask(image * mask, restored, mask)
    assert found.dtype == np.float32 and found.min() == 0 and 0.3 < found.max() < 1
    changed = np.zeros(image.shape, bool)
    changed[:2, 20:30, 20:30] = True
    assert (found[~changed] == 0).all()


def test_only_a_diffusion_arm_can_lend_its_network():
    autoddpm, ae = load_method("autoddpm"), load_method("ae")
    with pytest.raises(ValueError, match="name a diffusion arm"):
        autoddpm(autoddpm.Params()).attach(ae(ae.Params()))

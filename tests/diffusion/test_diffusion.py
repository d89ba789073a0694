"""Noise schedule, OpenSimplex noise and the diffusion process.

docs/paper.md#diffusion, docs/paper.md#noise, docs/paper.md#inference
"""

from __future__ import annotations

import numpy as np
import opensimplex
import pytest
import torch
from torch import nn

from uad.diffusion.noise import NoiseOptions, noise_like, pyramid_noise
from uad.diffusion.process import Denoiser, q_sample
from uad.diffusion.schedule import cosine_schedule
from uad.diffusion.simplex import noise2, octave_noise

SCHEDULE = cosine_schedule()
DENOISER = Denoiser(NoiseOptions())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("index", "signal", "noise"),
    [
        (249, 0.920, 0.391),
        (499, 0.703, 0.711),
        (749, 0.380, 0.925),
        (999, 0, 1),
    ],
)
def test_schedule_at_the_printed_digits(index, signal, noise):
    assert round(SCHEDULE.signal[index].item(), 3) == signal
    assert round(SCHEDULE.noise[index].item(), 3) == noise


def test_schedule_is_consistent():
    assert SCHEDULE.steps == 1000
    assert SCHEDULE.betas.max().item() == pytest.approx(0.999)
    assert (SCHEDULE.abar.diff() < 0).all()
    torch.testing.assert_close(SCHEDULE.signal**2 + SCHEDULE.noise**2, torch.ones(1000))


def test_simplex_equals_the_opensimplex_package():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-300, 300, (300, 2)), rng.uniform(-2, 2, (300, 2)), [[0, 0]]])
    seeds = np.array([0, 3, -5, 2**62 + 17])
    ours = noise2(torch.from_numpy(points[:, 0]), torch.from_numpy(points[:, 1]), seeds)
    for field, seed in zip(ours, seeds.tolist(), strict=True):
        package = opensimplex.OpenSimplex(seed)
        theirs = np.array([package.noise2(x, y) for x, y in points.tolist()])
        assert np.abs(theirs).max() > 0.5
        np.testing.assert_allclose(field.numpy(), theirs, atol=1e-10)


def test_octaves_equal_the_sum_over_the_package():
    height, width, seed = 9, 13, 42
    package = opensimplex.OpenSimplex(seed)
    expected = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            expected[y, x] = sum(0.8**k * package.noise2(x / (64 / 2**k), y / (64 / 2**k)) for k in range(6))
    field = octave_noise(height, width, np.array([7, seed]))[1]
    assert field.dtype == torch.float32
    np.testing.assert_allclose(field.numpy(), expected, atol=2e-6)


def test_noise_statistics_of_the_authors():
    fields = octave_noise(96, 96, np.arange(600) * 104_729)
    # The values of docs/paper.md#noise, which come from an unknown number of fields themselves.
    assert fields.std().item() == pytest.approx(0.590, abs=0.02)
    assert fields.std(dim=(1, 2)).mean().item() == pytest.approx(0.545, abs=0.015)
    assert fields.mean(dim=(1, 2)).std().item() == pytest.approx(0.22, abs=0.03)
    assert fields.abs().max() < 3
    assert (fields[:, 0, 0] == 0).all()
    # The standard deviation rises away from that corner.
    assert (fields[:, 0, :4].std(dim=0).diff() > 0).all()


def test_random_offset_makes_the_noise_stationary():
    seeds = np.random.default_rng(0).integers(0, 2**62, 1000)
    fields = octave_noise(16, 16, seeds, offset=True)
    # The octaves are independent, of standard deviation 0.37 each (docs/paper.md#noise). A standard deviation from
    # 1000 fields has an error of 1 / sqrt(2000) = 2.2 %, and 256 pixels stray by up to 4 of them.
    expected = 0.37 * sum(0.64**k for k in range(6)) ** 0.5
    np.testing.assert_allclose(fields.std(dim=0), expected, rtol=0.1)
    torch.testing.assert_close(fields[5], octave_noise(16, 16, seeds[5:6], offset=True)[0])


@pytest.mark.parametrize("shared", [True, False])
def test_noise_like_shares_one_field_or_draws_one_per_sample(shared):
    images = torch.zeros(3, 1, 20, 24)
    options = NoiseOptions(shared=shared)
    noise = noise_like(images, seeded(), options)
    assert noise.shape == images.shape
    assert noise.dtype == torch.float32
    assert torch.equal(noise, noise.half().float())
    assert torch.equal(noise[0], noise[1]) == shared
    assert torch.equal(noise, noise_like(images, seeded(), options))
    full = noise_like(images, seeded(), options._replace(half=False))
    assert 0 < (full - noise).abs().max() < 2**-10


class Recorder(nn.Module):
    """Answers with a fixed tensor (or a function of x_t) and keeps what it was given."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x_t, t, condition=None):
        self.x_t, self.t, self.condition = x_t, t, condition
        return self.answer(x_t) if callable(self.answer) else self.answer


def test_q_sample_at_the_ends():
    x0, noise = torch.rand(2, 1, 4, 4, generator=seeded()), torch.randn(2, 1, 4, 4, generator=seeded(1))
    x_t = q_sample(x0, torch.tensor([0, 999]), noise, SCHEDULE)
    torch.testing.assert_close(x_t[0], x0[0], atol=0.03, rtol=0)
    torch.testing.assert_close(x_t[1], noise[1], atol=1e-3, rtol=0)


def test_slices_are_noised_on_their_own_device():
    """One method object may serve a CPU and then a GPU; `meta` is a device that every machine has."""
    x0, t = torch.zeros(2, 1, 4, 4, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")
    assert q_sample(x0, t, x0, SCHEDULE).device.type == "meta"


def test_training_loss_is_the_mean_absolute_error_in_the_signed_range():
    x0 = torch.rand(4, 1, 8, 8, generator=seeded())
    loss = DENOISER.loss(Recorder(torch.zeros_like(x0)), x0, seeded())
    assert loss.item() == pytest.approx((2 * x0 - 1).abs().mean().item())
    perfect = DENOISER.loss(Recorder(2 * x0 - 1), x0, seeded())
    assert perfect.item() == 0


def test_training_draws_every_t_uniformly_and_passes_the_condition():
    x0, condition = torch.full((3000, 1, 2, 2), 0.5), torch.ones(3000, 3)
    network = Recorder(torch.zeros_like(x0))
    DENOISER.loss(network, x0, seeded(), condition)
    assert network.condition is condition
    assert network.t.min() < 10
    assert network.t.max() > 989
    assert network.t.max() <= 999
    assert network.t.float().mean().item() == pytest.approx(499.5, abs=5 * 288.7 / 3000**0.5)


def test_residual_objective_subtracts_the_output_from_x_t():
    x0 = torch.rand(2, 1, 8, 8, generator=seeded())
    network = Recorder(lambda x_t: x_t - (2 * x0 - 1))
    denoiser = Denoiser(NoiseOptions(), "residual")
    assert denoiser.loss(network, x0, seeded()).item() == pytest.approx(0, abs=1e-6)
    reconstruction = denoiser.reconstruct(network, x0, 500, seeded())
    torch.testing.assert_close(reconstruction, x0)
    with pytest.raises(ValueError, match="epsilon"):
        Denoiser(NoiseOptions(), "epsilon")


def test_reconstruct_noises_at_index_499_and_does_not_clamp():
    x0 = torch.rand(5, 1, 12, 12, generator=seeded())
    network = Recorder(torch.full_like(x0, 3).double())
    reconstruction = DENOISER.reconstruct(network, x0, 500, seeded(3))
    assert reconstruction.dtype == torch.float32
    assert torch.equal(reconstruction, torch.full_like(x0, 2))  # (3 + 1) / 2
    assert network.t.tolist() == [499] * 5
    noise = noise_like(x0, seeded(3), NoiseOptions())
    torch.testing.assert_close(network.x_t, 0.703 * (2 * x0 - 1) + 0.711 * noise, atol=3e-3, rtol=0)


@pytest.mark.parametrize("kind", ["gaussian", "pyramid"])
def test_other_noise_has_the_variance_of_its_formula(kind):
    options = NoiseOptions(shared=False, half=False, kind=kind)
    noise = noise_like(torch.zeros(8, 1, 96, 96), seeded(), options)
    assert noise.shape == (8, 1, 96, 96) and noise.mean().abs() < 0.2
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert not torch.equal(noise[0], noise[1])


def test_a_pyramid_is_smoother_the_more_its_coarse_levels_count():
    # white noise has no correlation between neighbours, the coarse levels have almost 1
    def neighbours(discount):
        noise = pyramid_noise((16, 1, 64, 64), seeded(1), discount)
        return (noise[..., 1:] * noise[..., :-1]).mean().item()

    assert neighbours(1e-6) == pytest.approx(0, abs=0.01)
    # two white fields of variance 1; the coarse levels bring less than 0.8^2 + 0.8^4 + ... = 1.8
    assert 0.1 < neighbours(0.8) < 1.8 / 3.8
    assert neighbours(0.8) < neighbours(1.0)


@pytest.mark.parametrize("t_test", [0, 1001])
def test_reconstruct_refuses_noise_levels_outside_the_schedule(t_test):
    with pytest.raises(ValueError, match=str(t_test)):
        DENOISER.reconstruct(Recorder(None), torch.zeros(1, 1, 4, 4), t_test, seeded())


def test_noise_first_drawn_by_a_reconstruction_serves_a_training():
    """Both share what was laid out for an image size, and no gradient can go through a tensor of inference mode."""
    with torch.inference_mode():
        drawn = octave_noise(11, 13, np.array([5]))
    weight = torch.ones(1, requires_grad=True)
    again = octave_noise(11, 13, np.array([5]))
    (weight * again).sum().backward()
    assert torch.equal(drawn, again) and weight.grad == again.sum()

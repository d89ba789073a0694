"""The reverse chain in steps: what it must be for a perfect network and for Gaussian data."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from packed_arrays import batch_of

from uad.diffusion.noise import NoiseOptions, noise_like
from uad.diffusion.patched import PatchedDenoiser
from uad.diffusion.process import Denoiser, q_sample, to_signed, to_unit
from uad.diffusion.sampling import descent, noised, renoised, restored, stepped
from uad.diffusion.schedule import cosine_schedule
from uad.methods import load_method

SCHEDULE = cosine_schedule()
STEPS = [(1000, 999), (500, 499), (500, 250), (250, 1), (50, 45), (2, 1)]  # from, to


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def abar(level: int) -> float:
    return SCHEDULE.abar[level - 1].item() if level else 1.0


def rest(level: int) -> float:
    """1 - abar, which float32 keeps better as the square of its root."""
    return SCHEDULE.noise[level - 1].item() ** 2 if level else 0.0


def coefficients(t: int, s: int) -> tuple[float, float, float]:
    """How much of x_t, of x0 and of the noise an ancestral step hands on."""
    zero, one = torch.zeros(1), torch.ones(1)
    inputs = ((one, zero, zero), (zero, one, zero), (zero, zero, one))
    x, x0, n = (stepped(x, x0, t, s, SCHEDULE, n).item() for x, x0, n in inputs)
    return x, x0, n


def test_levels_fall_evenly_to_0_through_the_ones_that_are_asked_for():
    assert descent(250, 5) == [250, 200, 150, 100, 50, 0]
    assert descent(350, 2, through=[300, 150, 50]) == [350, 300, 175, 150, 50, 0]
    assert descent(100, 4, through=[300, 100, 0]) == [100, 75, 50, 25, 0]
    assert descent(3, 10) == [3, 2, 1, 0]


def test_noised_is_the_forward_process_and_level_0_the_slice_itself():
    x0, n = torch.randn(2, 1, 4, 4, generator=seeded()), torch.randn(2, 1, 4, 4, generator=seeded(1))
    torch.testing.assert_close(noised(x0, 500, n, SCHEDULE), q_sample(x0, torch.tensor([499, 499]), n, SCHEDULE))
    assert torch.equal(noised(x0, 0, n, SCHEDULE), x0)


def test_with_a_perfect_network_the_chain_keeps_its_noise():
    x0, n = torch.randn(2, 1, 8, 8, generator=seeded()), torch.randn(2, 1, 8, 8, generator=seeded(1))
    seen = []

    def oracle(x_t, level):
        seen.append(level)
        torch.testing.assert_close(x_t, noised(x0, level, n, SCHEDULE), atol=2e-5, rtol=0)
        return x0

    levels = descent(500, 10)
    torch.testing.assert_close(restored(oracle, noised(x0, 500, n, SCHEDULE), levels, SCHEDULE), x0)
    assert seen == levels[:-1]


@pytest.mark.parametrize("patched", [False, True])
def test_one_step_to_0_is_the_reconstruction_of_one_pass(patched):
    denoiser = (PatchedDenoiser if patched else Denoiser)(NoiseOptions())
    images = torch.rand(3, 1, 8, 8, generator=seeded())
    x0 = to_signed(images)

    def network(x_t, t, condition):
        return torch.tanh(3 * x_t) * (t / 1000)[:, None, None, None] + condition

    expected = denoiser.reconstruct(network, images, 500, seeded(2), torch.full_like(x0, 0.1))
    x_t = noised(x0, 500, noise_like(x0, seeded(2), NoiseOptions()), SCHEDULE)
    predict = denoiser.predictor(network, x0, torch.full_like(x0, 0.1))
    torch.testing.assert_close(to_unit(restored(predict, x_t, [500, 0], SCHEDULE)), expected)


@pytest.mark.parametrize("t", [1000, 500, 50, 2])
def test_an_ancestral_step_to_the_level_before_is_ddpms_posterior(t):
    beta = SCHEDULE.betas[t - 1].item()
    x, x0, n = coefficients(t, t - 1)
    # Ho et al. 2020, equation 7
    assert x0 == pytest.approx(abar(t - 1) ** 0.5 * beta / rest(t), rel=2e-4)
    assert x == pytest.approx((1 - beta) ** 0.5 * rest(t - 1) / rest(t), rel=2e-4)
    assert n**2 == pytest.approx(rest(t - 1) / rest(t) * beta, rel=2e-4)


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_up_again_is_the_forward_process_from_there(t, s):
    """What a lower level holds of x0 and of noise must become what the higher level holds."""
    one, zero = torch.ones(1), torch.zeros(1)
    signal, spread = renoised(one, s, t, zero, SCHEDULE).item(), renoised(zero, s, t, one, SCHEDULE).item()
    assert signal * abar(s) ** 0.5 == pytest.approx(abar(t) ** 0.5, rel=1e-4)
    assert signal**2 * rest(s) + spread**2 == pytest.approx(rest(t), rel=1e-4)


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_ancestral_steps_keep_the_variance_of_gaussian_data(t, s, data=0.3):
    """x0 drawn from its posterior for data N(0, data^2): x_s then has the variance of the forward process."""
    variance = abar(t) * data**2 + rest(t)
    gain = abar(t) ** 0.5 * data**2 / variance  # E[x0 | x_t] = gain x_t
    left = data**2 * rest(t) / variance  # Var[x0 | x_t]
    x, x0, n = coefficients(t, s)
    found = (x + x0 * gain) ** 2 * variance + x0**2 * left + n**2
    assert found == pytest.approx(abar(s) * data**2 + rest(s), rel=1e-4)


def test_ddim_keeps_the_variance_of_gaussian_data_in_small_steps(data=0.3):
    """The mean E[x0 | x_t] of data N(0, data^2) leads a value of one standard deviation to one at level 0."""

    def mean(x_t, level):
        return abar(level) ** 0.5 * data**2 / (abar(level) * data**2 + rest(level)) * x_t

    start = torch.full((1,), (abar(500) * data**2 + rest(500)) ** 0.5)
    errors = [restored(mean, start, descent(500, steps), SCHEDULE).item() - data for steps in (50, 500)]
    assert abs(errors[1]) < 0.01 * data and abs(errors[1]) < abs(errors[0]) / 5


@pytest.mark.parametrize("name", ["ddpm", "cddpm", "pddpm"])
def test_a_diffusion_arm_hands_out_its_prediction(name):
    """One pass is what `reconstruct` gives; the condition is computed once for all steps."""
    small = {"unet": {"base": 8, "multipliers": [1, 2], "blocks": 1, "attention_heads": 1, "head_channels": 8}}
    if name == "cddpm":
        small |= {"encoder": {"depth": 10, "width": 8}, "condition": {"dim": 8}}
    method = load_method(name)
    method = method(method.Params(**small))
    torch.manual_seed(0)
    network = method.network((16, 16)).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    conditions = []
    if name == "cddpm":
        network.encoder.register_forward_hook(lambda *_: conditions.append(1))
    volume = batch_of(torch.rand(5, 1, 16, 16, generator=seeded()))
    x0 = to_signed(volume.images)
    x_t = noised(x0, 300, noise_like(x0, seeded(2), method.denoiser.noise), SCHEDULE)
    with torch.inference_mode():
        expected = method.reconstruct(network, volume, [300], seeded(2))[0]
        conditions.clear()
        method.slices_per_pass = 2
        predict = method.predictor(network, volume)
        torch.testing.assert_close(to_unit(predict(x_t, 300)), expected, rtol=1e-4, atol=1e-5)
        chain = partial(restored, predict, x_t, descent(300, 3), SCHEDULE)
        assert torch.equal(chain(), chain())
    assert len(conditions) == (3 if name == "cddpm" else 0)  # three portions of slices, once

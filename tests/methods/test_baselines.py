"""The trained baselines vae, svae, dae and pddpm.

docs/paper.md#vae, docs/paper.md#svae, docs/paper.md#dae, docs/paper.md#pddpm
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from packed_arrays import batch_of
from torch.utils.flop_counter import FlopCounterMode

from uad.diffusion.noise import NoiseOptions, noise_like
from uad.diffusion.patched import PatchedDenoiser, quarter_boxes
from uad.diffusion.process import q_sample, to_signed
from uad.methods import load_method
from uad.methods.dae import coarse_noise, shifted
from uad.methods.vae import kl_to_standard_normal, sample_latent
from uad.networks.autoencoder import Autoencoder
from uad.networks.denoiser import DenoisingUNet, StandardisedConv, middle_divisor
from uad.networks.variational import SequenceVariationalAutoencoder, VariationalAutoencoder


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def parameter_count(constructor, *arguments, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in constructor(*arguments, **options).parameters())


def built(name, **params):
    method = load_method(name)
    return method(method.Params(**params))


def randomised(network):
    """Random parameters and running statistics, in evaluation mode."""
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=seeded(1)))
    return network.eval()


class Recorder(torch.nn.Module):
    """Answers every image with a constant and keeps what it was given."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.inputs = answer, []

    def forward(self, x, *_):
        self.inputs.append(x)
        return torch.full_like(x, self.answer)


# --- VAE ------------------------------------------------------------------------------------------------------


def test_vae_has_one_more_head_than_the_autoencoder():
    count = parameter_count(VariationalAutoencoder, 96, 96)
    assert count == parameter_count(Autoencoder, 96, 96) + 16 * 12 * 12 * 128 + 128
    assert count / 1e6 == pytest.approx(1.8, abs=0.05)


def test_kl_is_that_of_monte_carlo_and_of_torch():
    mu, logvar = torch.tensor([0.0, 1.5, -0.7]), torch.tensor([0.0, -1.0, 0.8])
    posterior = torch.distributions.Normal(mu, (logvar / 2).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), torch.distributions.kl_divergence(posterior, prior))
    z = sample_latent(mu.expand(200_000, 3), logvar.expand(200_000, 3), seeded())
    estimate = (posterior.log_prob(z) - prior.log_prob(z)).mean(0)
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), estimate, atol=0.015, rtol=0)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("mean_sum", 0.5 + 0.1 * 3), ("sum_sum", 8 + 0.1 * 3), ("mean_mean", 0.5 + 0.1 * 0.5)],
)
def test_vae_reductions(reduction, expected):
    # 16 pixels off by 1/2; 6 latents with mean 1 and variance 1, KL 1/2 each
    class Fixed:
        def encode(self, x):
            return torch.ones(len(x), 6), torch.zeros(len(x), 6)

        def decode(self, z):
            return torch.full((len(z), 1, 4, 4), 0.5)

    loss = built("vae", beta=0.1, reduction=reduction).loss(Fixed(), batch_of(torch.zeros(3, 1, 4, 4)), seeded())
    assert loss.item() == pytest.approx(expected)


def test_vae_samples_from_the_given_generator_in_training_and_decodes_the_mean_at_test():
    method = built("vae", z_dim=8)
    network = randomised(method.network((16, 20)))
    images = torch.rand(3, 1, 16, 20, generator=seeded())
    state = torch.get_rng_state()
    first, again, other = (method.loss(network, batch_of(images), seeded(seed)).item() for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(state, torch.get_rng_state())
    mean = network.decode(network.encode(images)[0])
    assert torch.equal(method.reconstruct(network, batch_of(images), [500], seeded())[0], mean)


# --- SVAE -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "millions"), [({}, 1.8), ({"mixer": "gru", "layers": 1}, 1.6)])
def test_svae_parameters(options, millions):
    assert parameter_count(SequenceVariationalAutoencoder, 96, 96, **options) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("mixer", ["transformer", "gru"])
def test_svae_without_its_mixer_is_the_vae(mixer):
    class Nothing(torch.nn.Module):
        def forward(self, features):
            return torch.zeros_like(features)

    sequence = randomised(SequenceVariationalAutoencoder(16, 20, 8, mixer).double())
    plain = VariationalAutoencoder(16, 20, 8).double().eval()
    weights = {k: v for k, v in sequence.state_dict().items() if not k.startswith(("mixer", "to_features", "to_mu"))}
    stem = sequence.to_features
    for name in ("to_mu", "to_logvar"):  # two linear layers in a row are one
        head = getattr(sequence, name)
        weights[f"{name}.weight"] = head.weight @ stem.weight
        weights[f"{name}.bias"] = head.weight @ stem.bias + head.bias
    plain.load_state_dict(weights)
    volumes = torch.rand(2, 5, 1, 16, 20, dtype=torch.float64, generator=seeded())
    expected = [values.unflatten(0, (2, 5)) for values in (*plain.encode(volumes.flatten(0, 1)), plain(volumes[0]))[:2]]
    assert (sequence.encode(volumes)[0] - expected[0]).abs().max() > 1e-3  # the mixer does something
    sequence.mixer = Nothing()
    for ours, theirs in zip(sequence.encode(volumes), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(sequence(volumes)[1], plain(volumes[1]), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("mixer", ["transformer", "gru"])
def test_svae_slices_see_their_own_volume_in_order(mixer):
    network = randomised(SequenceVariationalAutoencoder(16, 16, 8, mixer)).double()
    volumes = torch.rand(2, 4, 1, 16, 16, generator=seeded(), dtype=torch.float64)
    mu, _ = network.encode(volumes)
    changed = volumes.clone()
    changed[0, 3] = 0
    other, _ = network.encode(changed)
    assert (other[0, 0] - mu[0, 0]).abs().max() > 1e-6
    torch.testing.assert_close(other[1], mu[1])
    backwards, _ = network.encode(volumes.flip(1))
    assert (backwards.flip(1) - mu).abs().max() > 1e-6


# --- DAE ------------------------------------------------------------------------------------------------------


def test_dae_network_has_the_published_size_and_cost():
    widths = [64, 128, 256, 512]

    def block(a, b):  # two convolutions with bias, two norms
        return 9 * a * b + 9 * b * b + 6 * b

    expected = sum(block(a, b) for a, b in pairwise([1, *widths])) + 65
    expected += sum(4 * a * b + b + block(a, b) for a, b in pairwise(widths[::-1]))
    assert parameter_count(DenoisingUNet) == expected
    assert expected / 1e6 == pytest.approx(7.7, abs=0.05)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        DenoisingUNet()(torch.zeros(1, 1, 96, 96))
    assert counter.get_total_flops() / 1e9 == pytest.approx(10.4, abs=0.1)
    assert [middle_divisor(width) for width in widths] == [8, 16, 16, 32]


@pytest.mark.parametrize(("height", "width"), [(24, 20), (37, 51), (9, 9)])
def test_dae_network_restores_any_size(height, width):
    assert DenoisingUNet(width=4, depth=4)(torch.rand(2, 1, height, width)).shape == (2, 1, height, width)


def test_dae_refuses_slices_that_are_too_small():
    with pytest.raises(ValueError, match="8x30"):
        built("dae", width=4, depth=4).network((8, 30))


def test_standardised_convolution_ignores_scale_and_mean_of_its_weights():
    conv, x = StandardisedConv(3, 5), torch.rand(1, 3, 6, 7, generator=seeded())
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(100).add_(2)
    torch.testing.assert_close(conv(x), before, atol=1e-2, rtol=1e-3)
    # filters of mean 0 answer a constant image with the bias alone, at a mirrored border too
    torch.testing.assert_close(conv(torch.ones(1, 3, 6, 7)), conv.bias[None, :, None, None].expand(1, 5, 6, 7))


def test_coarse_noise_is_normal_at_the_nodes_and_linear_between():
    noise = coarse_noise(torch.zeros(400, 1, 31, 31), 16, seeded())  # nodes at every second pixel
    nodes = noise[:, :, ::2, ::2]
    assert nodes.std().item() == pytest.approx(1, abs=0.01)  # 102,400 values
    assert nodes.mean().item() == pytest.approx(0, abs=0.015)
    torch.testing.assert_close(noise[:, :, ::2, 1::2], (nodes[..., :-1] + nodes[..., 1:]) / 2)


def test_dae_reconstructs_the_foreground_only():
    dae = load_method("dae")
    method = dae(dae.Params(width=8, depth=3))
    network, images = method.network((24, 20)).eval(), torch.zeros(2, 1, 24, 20)
    images[:, :, 4:12, 4:12] = 0.5
    with torch.inference_mode():
        output = method.reconstruct(network, batch_of(images), [0], torch.Generator())[0]
        assert torch.equal(output[images == 0.5], network(images)[images == 0.5])
    assert not output[images == 0].any()


def test_dae_noise_has_its_strength_in_the_foreground_only():
    network = Recorder(0.25)
    method = built("dae", noise_res=16)  # on 16 pixels: every pixel is a node
    images = torch.full((300, 1, 16, 16), 0.5)
    images[:, :, :8] = 0.01  # at the limit, still background
    loss = method.loss(network, batch_of(images), seeded())
    noise = network.inputs[0] - images
    assert noise[:, :, 8:].std().item() == pytest.approx(0.2, abs=0.003)
    assert torch.equal(noise[:, :, :8], torch.zeros(300, 1, 8, 16))
    assert loss.item() == pytest.approx(0.25**2 / 2)  # half of the pixels, mean over all
    method.reconstruct(network, batch_of(images), [500], seeded())
    assert torch.equal(network.inputs[1], images)  # no noise at test


def test_dae_shifts_the_noise_round_both_axes():
    noise = torch.arange(12.0).reshape(1, 1, 3, 4).expand(50, 1, 3, 4)
    rolls = {(y, x): torch.roll(noise[0], (y, x), (1, 2)) for y in range(3) for x in range(4)}

    def shifts(moved):
        return [next(shift for shift, rolled in rolls.items() if torch.equal(rolled, sample)) for sample in moved]

    batches = [shifts(shifted(noise, "batch", seeded(seed))) for seed in range(60)]
    assert all(len(set(batch)) == 1 for batch in batches)
    assert len({batch[0] for batch in batches}) > 9  # 12 equally likely shifts
    assert len(set(shifts(shifted(noise, "sample", seeded())))) > 9


# --- pDDPM ----------------------------------------------------------------------------------------------------

PATCHED = PatchedDenoiser(NoiseOptions(shared=False, offset=True, half=False, octaves=3, wavelength=16))


def test_boxes_split_the_slice_at_its_middle():
    boxes = quarter_boxes(5, 7)
    assert torch.equal(boxes.sum(0), torch.ones(1, 5, 7, dtype=torch.long))
    assert [int(box.sum()) for box in boxes] == [2 * 3, 2 * 4, 3 * 3, 3 * 4]
    assert quarter_boxes(96, 96)[0, 0, :48, :48].all()


def test_pddpm_training_noises_one_box_and_counts_its_share_alone():
    images = torch.rand(40, 1, 10, 13, generator=seeded())
    network = Recorder(0.3)
    loss = PATCHED.loss(network, images, seeded(4))
    x0, boxes = to_signed(images), quarter_boxes(10, 13)
    noised = (network.inputs[0] != x0)[:, 0]
    which = [next(k for k, box in enumerate(boxes) if not (sample & ~box[0]).any()) for sample in noised]
    assert set(which) == {0, 1, 2, 3}
    share = noised.sum() / torch.stack([boxes[k] for k in which]).sum()
    assert share > 0.99  # the whole box is noised
    expected = sum(((0.3 - x)[boxes[k]].abs().sum() / (10 * 13)) for x, k in zip(x0, which, strict=True)) / 40
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_pddpm_does_not_depend_on_the_order_of_the_boxes(monkeypatch):
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(1, 1, 5, padding=2)

    def network(x, *_):
        return convolution(x)

    images, boxes = torch.rand(3, 1, 11, 14, generator=seeded()), quarter_boxes(11, 14)
    first = PATCHED.reconstruct(network, images, 500, seeded(2))
    monkeypatch.setattr("uad.diffusion.patched.quarter_boxes", lambda *shape: boxes[[2, 0, 3, 1]])
    assert torch.equal(PATCHED.reconstruct(network, images, 500, seeded(2)), first)
    with pytest.raises(ValueError, match="t_test is 0"):
        PATCHED.reconstruct(network, images, 0, seeded())


def test_pddpm_boxes_share_one_noise_field_per_level():
    method = built("pddpm", noise=PATCHED.noise._asdict())
    images = torch.rand(3, 1, 11, 14, generator=seeded())
    network = Recorder(0.0)
    result = method.reconstruct(network, batch_of(images), [250, 500], seeded(2))
    assert result.shape == (2, 3, 1, 11, 14) and torch.equal(result, torch.full_like(result, 0.5))
    assert [len(x) for x in network.inputs] == [3] * 8  # one forward per level and box
    generator, x0 = seeded(2), to_signed(images)
    for level, t_test in enumerate((250, 500)):
        field = noise_like(x0, generator, PATCHED.noise)
        whole = q_sample(x0, torch.full((3,), t_test - 1), field, PATCHED.schedule)
        for box, seen in zip(quarter_boxes(11, 14), network.inputs[4 * level :], strict=False):
            assert torch.equal(seen, torch.where(box, whole, x0))

"""RA: its losses in closed form and who moves when.  docs/methods/ra.md"""

import math

import pytest
import torch
from packed_arrays import batch_of
from torch.distributions import Normal, kl_divergence

from uad.methods.ra import RAParams, ReversedAutoencoder, features_difference, likelihood, squared_error
from uad.methods.vae import kl_to_standard_normal
from uad.networks.introspective import IntrospectiveAutoencoder

METHOD = ReversedAutoencoder(RAParams(channels=[4, 8], z_dim=6))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def slices(count=5, shape=(24, 20)):
    return torch.rand(count, 1, *shape, generator=seeded(1))


def built(shape=(24, 20)):
    torch.manual_seed(0)
    return METHOD.network(shape)


def test_the_maps_are_halved_down_to_the_seed_of_the_published_network():
    # 128 pixels, five levels: maps of 64 to 4 pixels, and a linear layer of 512 * 4 * 4 inputs
    with torch.device("meta"):
        network = IntrospectiveAutoencoder(128, 128, RAParams().channels, 128)
        mu, logvar, maps = network.encoder(torch.zeros(2, 1, 128, 128))
        assert network.decoder(mu).shape == (2, 1, 128, 128)
    shapes = [(64, 64), (128, 32), (256, 16), (512, 8), (512, 4)]
    assert [tuple(found.shape[1:3]) for found in maps] == shapes
    assert mu.shape == logvar.shape == (2, 128) and network.encoder.to_latent.in_features == 512 * 4 * 4


@pytest.mark.parametrize("shape", [(16, 16), (36, 45), (33, 20)])
def test_slices_that_do_not_divide_keep_their_size(shape):
    network = built(shape).eval()
    found = METHOD.reconstruct(network, batch_of(slices(2, shape)), [], seeded())
    assert found.shape == (1, 2, 1, *shape) and found.min() >= 0 and found.max() <= 1


def test_the_divergence_is_that_of_two_normal_distributions():
    mu, logvar = (torch.randn(4, 6, generator=seeded(seed)) for seed in (1, 2))
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), expected)


def test_the_likelihood_lies_between_its_limits():
    pixels = 96 * 96
    evidence = torch.tensor([0.0, pixels / 2, 1e9])
    torch.testing.assert_close(likelihood(evidence, pixels), torch.tensor([1.0, math.exp(-1), 0.0]))


def test_features_that_are_equal_or_opposite():
    maps = [torch.randn(3, 4, 5, 5, generator=seeded(seed)) for seed in (1, 2)]
    assert features_difference(maps, maps).item() == pytest.approx(0, abs=1e-6)
    opposite = features_difference(maps, [-m for m in maps])
    assert opposite.item() == pytest.approx(sum(2 * m.square().mean().item() + 2 for m in maps), rel=1e-5)


class Fixed(torch.nn.Module):
    """An encoder that gives every image one distribution of latents, and a decoder that draws one image."""

    def __init__(self, mu, logvar, image):
        super().__init__()
        self.latents, self.image = (mu, logvar), image

    def encoder(self, images):
        mu, logvar = (torch.full((len(images), 6), value) for value in self.latents)
        return mu, logvar, [images]

    def decoder(self, latents):
        return self.image.expand(len(latents), 1, 24, 20)


def test_the_losses_of_fixed_networks_are_known():
    images, image, pixels = slices(), torch.full((1, 1, 24, 20), 0.25), 24 * 20
    network = Fixed(0.3, 0.0, image)  # KL of six latents: 6 * 0.3^2 / 2; every second pass reproduces the image
    divergence, error = 6 * 0.045, squared_error(image, images).mean().item()
    taken_for_real = math.exp(-2 / pixels * 128 * divergence)
    consistency = features_difference([images], [image.expand_as(images)]).item()
    expected = (0.5 * error + divergence) / pixels + taken_for_real / 2 + 0.005 * consistency
    loss = METHOD.part_loss("encoder", network, batch_of(images), seeded())
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert METHOD.terms["taken_for_real"].item() == pytest.approx(taken_for_real, rel=1e-5)
    loss = METHOD.part_loss("decoder", network, batch_of(images), seeded())
    assert loss.item() == pytest.approx((0.5 * error + divergence) / pixels, rel=1e-5)


def test_encoder_and_decoder_take_turns():
    assert [METHOD.part_of_step(step, 6) for step in range(6)] == ["encoder", "decoder"] * 3


@pytest.mark.parametrize(("part", "other"), [("encoder", "decoder"), ("decoder", "encoder")])
def test_each_loss_reaches_the_part_whose_turn_it_is(part, other):
    network = built().train()
    getattr(network, other).requires_grad_(False)
    METHOD.part_loss(part, network, batch_of(slices()), seeded()).backward()
    gradients = [p.grad for p in getattr(network, part).parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)

"""RA (Bercea et al. 2023): an introspective VAE whose features agree before and after.  docs/methods/ra.md"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import pydantic

from uad.methods.base import Batch, TrainsInParts
from uad.methods.vae import kl_to_standard_normal, sample_latent

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from uad.networks.introspective import IntrospectiveAutoencoder

SECOND_PASS = 1e-8  # weight of what the decoder makes of encoded reconstructions


class RAParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    z_dim: int = pydantic.Field(128, gt=0)
    channels: list[Annotated[int, pydantic.Field(gt=0)]] = pydantic.Field([64, 128, 256, 512, 512], min_length=1)
    beta_rec: float = pydantic.Field(0.5, ge=0)  # weights of the error of a reconstruction,
    beta_kl: float = pydantic.Field(1.0, ge=0)  # of the divergence of its latents,
    beta_neg: float = pydantic.Field(128.0, ge=0)  # and of that of latents of drawn images
    consistency: float = pydantic.Field(0.005, ge=0)  # weight of the features' difference


class ReversedAutoencoder(TrainsInParts):
    """The encoder tells drawn images from real ones by their latents; the decoder draws what it takes for real."""

    Params = RAParams
    params: RAParams
    parts = ("encoder", "decoder")
    gpu_hours = 1.5

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.introspective import IntrospectiveAutoencoder

        return IntrospectiveAutoencoder(*shape, self.params.channels, self.params.z_dim)

    def part_of_step(self, step: int, max_steps: int) -> str:
        return self.parts[step % 2]

    def part_loss(self, part: str, network: IntrospectiveAutoencoder, batch: Batch, generator: Generator) -> Tensor:
        import torch

        images = batch.images
        prior = torch.randn(len(images), self.params.z_dim, generator=generator, device=images.device)
        loss = self._encoder_loss if part == "encoder" else self._decoder_loss
        return loss(network, images, prior, generator)

    def _encoder_loss(
        self, network: IntrospectiveAutoencoder, images: Tensor, prior: Tensor, generator: Generator
    ) -> Tensor:
        import torch

        p, pixels = self.params, images[0].numel()
        mu, logvar, features = network.encoder(images)
        reconstruction = network.decoder(sample_latent(mu, logvar, generator))
        error = squared_error(reconstruction, images).mean()
        divergence = kl_to_standard_normal(mu, logvar).sum(dim=1).mean()
        likelihoods, found = [], []
        for image in (reconstruction.detach(), network.decoder(prior).detach()):
            mu, logvar, again = network.encoder(image)
            error_again = squared_error(network.decoder(sample_latent(mu, logvar, generator)), image)
            evidence = p.beta_rec * error_again + p.beta_neg * kl_to_standard_normal(mu, logvar).sum(dim=1)
            likelihoods.append(likelihood(evidence, pixels).mean())
            found.append(again)
        taken_for_real = torch.stack(likelihoods).mean()
        consistency = features_difference(features, found[0])  # with those of the reconstruction
        self.terms.update(
            kl=divergence.detach(), taken_for_real=taken_for_real.detach(), consistency=consistency.detach()
        )
        real = (p.beta_rec * error + p.beta_kl * divergence) / pixels
        return real + taken_for_real / 2 + p.consistency * consistency

    def _decoder_loss(
        self, network: IntrospectiveAutoencoder, images: Tensor, prior: Tensor, generator: Generator
    ) -> Tensor:
        p = self.params
        mu, logvar, _ = network.encoder(images)
        reconstruction = network.decoder(sample_latent(mu, logvar, generator).detach())
        loss = p.beta_rec * squared_error(reconstruction, images).mean()
        for image in (reconstruction, network.decoder(prior)):
            mu, logvar, _ = network.encoder(image)
            again = network.decoder(sample_latent(mu, logvar, generator).detach())
            loss = loss + p.beta_kl / 2 * kl_to_standard_normal(mu, logvar).sum(dim=1).mean()
            loss = loss + SECOND_PASS * p.beta_rec / 2 * squared_error(again, image.detach()).mean()
        return loss / images[0].numel()

    def loss(self, network: IntrospectiveAutoencoder, batch: Batch, generator: Generator) -> Tensor:
        """Mean squared error of reconstructions from the latents' mean."""
        return (network(batch.images) - batch.images).square().mean()

    def reconstruct(self, network: nn.Module, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        return self.by_slices(network, volume.images)[None]


def squared_error(drawn: Tensor, images: Tensor) -> Tensor:
    """Sum over the pixels of each image [B, 1, H, W]: [B]."""
    return (drawn - images).square().flatten(1).sum(dim=1)


def likelihood(evidence: Tensor, pixels: int) -> Tensor:
    """exp(-2 evidence / pixels): 1 for images that look real, near 0 for those that the encoder has found out."""
    return (-2 / pixels * evidence).exp()


def features_difference(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Half the mean squared difference plus 1 - cosine of two lists of maps [B, ...], summed over the maps."""
    import torch

    parts = []
    for a, b in zip(first, second, strict=True):
        a, b = a.flatten(1).float(), b.flatten(1).float()
        parts.append((a - b).square().mean() / 2 + (1 - torch.cosine_similarity(a, b)).mean())
    return torch.stack(parts).sum()


METHOD = ReversedAutoencoder

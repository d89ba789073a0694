"""VAE (Baur et al. 2021): an autoencoder whose latents are kept close to a standard normal.  docs/paper.md#vae"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pydantic

from uad.methods.base import Batch, Method

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from uad.networks.variational import VariationalAutoencoder


class VAEParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    z_dim: int = pydantic.Field(128, gt=0)
    beta: float = pydantic.Field(0.001, ge=0)
    # L1 over the pixels, then KL over the latents: which of the two are means, which are sums.
    # The paper does not say; sum_sum with beta 1 is Baur et al.
    reduction: Literal["mean_sum", "sum_sum", "mean_mean"] = "mean_sum"


class VAE(Method):
    """Sample a latent around its mean in training; at test the mean itself is decoded."""

    Params = VAEParams
    params: VAEParams
    gpu_hours = 0.5

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.variational import VariationalAutoencoder

        return VariationalAutoencoder(*shape, z_dim=self.params.z_dim)

    def loss(self, network: VariationalAutoencoder, batch: Batch, generator: Generator) -> Tensor:
        return self.evidence_bound(network, batch.images, generator)

    def evidence_bound(self, network: VariationalAutoencoder, images: Tensor, generator: Generator) -> Tensor:
        """Distance of images [..., 1, H, W] and their reconstructions plus the divergence of their latents."""
        mu, logvar = (values.float() for values in network.encode(images))
        distance = (network.decode(sample_latent(mu, logvar, generator)) - images).abs().flatten(-3)
        divergence = kl_to_standard_normal(mu, logvar)
        pixels, latents = self.params.reduction.split("_")
        distance = distance.mean(-1) if pixels == "mean" else distance.sum(-1)
        divergence = divergence.mean(-1) if latents == "mean" else divergence.sum(-1)
        self.terms["kl"] = divergence.mean().detach()  # near 0 = posterior collapse
        return distance.mean() + self.params.beta * divergence.mean()

    def reconstruct(self, network: nn.Module, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        return self.by_slices(network, volume.images)[None]


def sample_latent(mu: Tensor, logvar: Tensor, generator: Generator) -> Tensor:
    """mu + sigma * eps with eps from `generator`, which lives on the device of `mu`."""
    import torch

    return mu + (logvar / 2).exp() * torch.randn(mu.shape, generator=generator, device=mu.device)


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each latent, in nats, same shape."""
    return (mu.square() + logvar.exp() - 1 - logvar) / 2


METHOD = VAE

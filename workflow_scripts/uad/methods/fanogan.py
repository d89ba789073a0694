"""f-AnoGAN (Schlegl et al. 2019): a GAN of healthy slices and an encoder into its latents.  docs/paper.md#f-anogan"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from uad.methods.base import Batch, TrainsInParts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer

    from uad.networks.adversarial import AdversarialAutoencoder, Critic


class FAnoGANParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    z_dim: int = pydantic.Field(128, gt=0)
    width: int = pydantic.Field(64, gt=0)  # channels of the largest maps
    blocks: int = pydantic.Field(5, ge=1, le=5)  # halvings; at 96x96 five lead to a seed of 3x3
    n_critic: int = pydantic.Field(5, gt=0)  # steps of the critic per step of the generator
    gradient_penalty: float = pydantic.Field(10.0, ge=0)
    kappa: float = pydantic.Field(1.0, ge=0)  # weight of the critic's features in the encoder's loss
    gan_share: float = pydantic.Field(0.75, gt=0, lt=1)  # share of the steps before the encoder's turn


class FAnoGAN(TrainsInParts):
    """First a Wasserstein GAN; then, with it frozen, the encoder whose latents reconstruct the input."""

    Params = FAnoGANParams
    params: FAnoGANParams
    parts = ("critic", "generator", "encoder")
    gpu_hours = 2.0
    RECIPE_VERSION = 3

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.adversarial import AdversarialAutoencoder

        return AdversarialAutoencoder(*shape, self.params.z_dim, self.params.width, self.params.blocks)

    def part_optimizer(self, part: str, weights: Iterable[nn.Parameter], learning_rate: float) -> Optimizer:
        import torch

        # no momentum for two players whose target moves (Gulrajani et al. 2017)
        betas = (0.9, 0.999) if part == "encoder" else (0.0, 0.9)
        return torch.optim.Adam(weights, learning_rate, betas=betas, fused=True)

    def part_of_step(self, step: int, max_steps: int) -> str:
        if step >= self.judged_from(max_steps):
            return "encoder"
        return "generator" if step % (self.params.n_critic + 1) == self.params.n_critic else "critic"

    def judged_from(self, max_steps: int) -> int:
        return min(round(self.params.gan_share * max_steps), max_steps - 1)

    def part_loss(self, part: str, network: AdversarialAutoencoder, batch: Batch, generator: Generator) -> Tensor:
        images = batch.images
        if part == "encoder":
            network.generator.eval()  # frozen: its batch statistics stay too
            network.critic.eval()
            return self.loss(network, batch, generator)
        network.generator.train()
        if part == "generator":
            return -mean_score(network.critic, network.generator(self._latents(images, generator)))
        return self._critic_loss(network, 2 * images - 1, generator)

    def _latents(self, images: Tensor, generator: Generator) -> Tensor:
        import torch

        return torch.randn(len(images), self.params.z_dim, generator=generator, device=images.device)

    def _critic_loss(self, network: AdversarialAutoencoder, real: Tensor, generator: Generator) -> Tensor:
        import torch

        from uad.networks.adversarial import gradient_penalty

        with torch.no_grad():
            fake = network.generator(self._latents(real, generator)).float()
        distance = mean_score(network.critic, real) - mean_score(network.critic, fake)
        share = torch.rand(len(real), 1, 1, 1, generator=generator, device=real.device)
        with torch.autocast(real.device.type, enabled=False):  # second derivatives want full precision
            penalty = gradient_penalty(network.critic, real, fake, share)
        self.terms.update(critic_distance=distance.detach(), gradient_penalty=penalty.detach())
        return self.params.gradient_penalty * penalty - distance

    def loss(self, network: AdversarialAutoencoder, batch: Batch, generator: Generator) -> Tensor:
        """izi_f: mean squared error of the pixels plus `kappa` times that of the critic's features."""
        images = 2 * batch.images - 1
        reconstruction = network(images)
        pixels = (reconstruction - images).square().mean()
        drawn, given = (network.critic.features(x).float() for x in (reconstruction, images))
        features = (drawn - given).square().mean()
        self.terms.update(pixel_error=pixels.detach(), feature_error=features.detach())
        return pixels + self.params.kappa * features

    def reconstruct(self, network: nn.Module, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        return (self.by_slices(network, 2 * volume.images - 1)[None] + 1) / 2


def mean_score(critic: Critic, images: Tensor) -> Tensor:
    """Mean over the batch of what the critic says, its last layer in full precision also under autocast.

    The scores' level is free and drifts far from 0; half precision would round their differences away.
    """
    import torch

    features = critic.features(images)
    with torch.autocast(images.device.type, enabled=False):
        return critic.judge(features.float()).mean()


METHOD = FAnoGAN

"""DDPM: a diffusion model of healthy slices, run with one forward pass.  docs/paper.md#diffusion"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from uad.methods.base import Batch, Head, Method
from uad.methods.settings import DiffusionSettings

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from uad.diffusion.process import Denoiser
    from uad.diffusion.sampling import Predict


class DDPM(Method):
    """Noise the input to level t_test and let the U-Net predict the healthy slice."""

    Params = DiffusionSettings
    params: DiffusionSettings
    section = "diffusion"
    reads_noise_levels = True
    gpu_hours = 4.0

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.unet import UNet

        return UNet(**self.params.unet.model_dump())

    @cached_property
    def denoiser(self) -> Denoiser:
        """How the U-Net is trained and used."""
        from uad.diffusion.noise import NoiseOptions
        from uad.diffusion.process import Denoiser

        return Denoiser(NoiseOptions(**self.params.noise.model_dump()), self.params.objective)

    def loss(self, network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
        return self.denoiser.loss(network, batch.images, generator, self.condition(network, batch))

    def reconstruct(self, network: nn.Module, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        import torch

        condition = self.condition(network, volume)  # of the noise-free volume: once for all noise levels
        unet = partial(self.by_slices, network)
        return torch.stack([self.denoiser.reconstruct(unet, volume.images, t, generator, condition) for t in t_tests])

    def predictor(self, network: nn.Module, volume: Batch) -> Predict:
        """What the network makes of the volume's slices at a noise level, for heads that take several steps."""
        from uad.diffusion.process import to_signed

        unet, condition = partial(self.by_slices, network), self.condition(network, volume)
        return self.denoiser.predictor(unet, to_signed(volume.images), condition)

    def condition(self, network: Any, batch: Batch) -> Tensor | None:
        """What the U-Net is told about the noise-free slices: here nothing."""
        return None


class ChainHead(Head):
    """A head that takes the network of a diffusion arm through a chain of several steps."""

    source: DDPM

    def attach(self, source: Method) -> None:
        if not isinstance(source, DDPM):
            raise ValueError("has no network that leads from noise to a slice; name a diffusion arm")
        super().attach(source)


METHOD = DDPM

"""DDPM: a diffusion model of healthy slices, read with one forward pass.  docs/paper.md#diffusion"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from uad.methods.base import Method
from uad.methods.settings import DiffusionSettings

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class DDPM(Method):
    """Noise the input to level t_test and let the U-Net predict the healthy slice."""

    Params = DiffusionSettings
    section = "diffusion"
    reads_noise_levels = True
    gpu_hours = 4.0

    def __init__(self, params: DiffusionSettings) -> None:
        super().__init__(params)
        self._schedule = None

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.unet import UNet

        return UNet(**self.params.unet.model_dump())

    def loss(self, network: nn.Module, images: Tensor, generator: Generator) -> Tensor:
        from uad.diffusion.process import training_loss

        condition = self.condition(network, images)
        return training_loss(network, images, generator, condition=condition, **self._process(images))

    def reconstruct(self, network: nn.Module, images: Tensor, t_tests: list[int], generator: Generator) -> Tensor:
        import torch

        from uad.diffusion.process import reconstruct

        condition = self.condition(network, images)  # of the noise-free volume: once for all noise levels
        process = self._process(images)
        unet = partial(self.by_slices, network)
        return torch.stack([reconstruct(unet, images, t, generator, condition=condition, **process) for t in t_tests])

    def _process(self, images: Tensor) -> dict[str, Any]:
        from uad.diffusion.schedule import cosine_schedule
        from uad.diffusion.simplex import NoiseOptions

        if self._schedule is None:
            self._schedule = cosine_schedule().to(images.device)
        noise = NoiseOptions(**self.params.noise.model_dump())
        return {"schedule": self._schedule, "noise": noise, "objective": self.params.objective}

    def condition(self, network: nn.Module, images: Tensor) -> Tensor | None:
        """What the U-Net is told about the noise-free slices [B, 1, H, W]: here nothing."""
        return None


METHOD = DDPM

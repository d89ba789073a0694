"""mDDPM (Iqbal et al. 2023): a DDPM that also fills in what is masked in healthy slices.  docs/methods/mddpm.md"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from uad.common.settings import Section
from uad.methods.base import Batch
from uad.methods.ddpm import DDPM
from uad.methods.settings import DiffusionSettings

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class MaskingSettings(Section):
    rectangles: int = Field(5, gt=0)  # at most, in a slice
    sides: tuple[float, float] = (0.09, 0.18)  # in units of the brain's height
    half_width: tuple[int, int] = (2, 10)  # of the square of frequencies, in cycles per image


class MaskedDiffusionSettings(DiffusionSettings):
    masking: MaskingSettings = MaskingSettings()


class MaskedDDPM(DDPM):
    """The slice that is noised has filtered rectangles; the clean one is to be restored."""

    Params = MaskedDiffusionSettings
    params: MaskedDiffusionSettings

    def loss(self, network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
        seen = masked(batch.images, batch.masks, self.params.masking, generator)
        return self.denoiser.loss(network, batch.images, generator, seen=seen)


def masked(images: Tensor, masks: Tensor, settings: MaskingSettings, generator: Generator) -> Tensor:
    """Slices [B, 1, H, W] in which rectangles of the brain are replaced by a frequency-filtered copy of the slice.

    Each slice has 0 to `settings.rectangles` of them.
    """
    import torch

    from uad.diffusion.corruption import rectangles

    hidden = rectangles(masks, settings.rectangles, settings.sides, generator)
    return torch.where(hidden, filtered(images, settings.half_width, generator), images)


def filtered(images: Tensor, half_width: tuple[int, int], generator: Generator) -> Tensor:
    """Slices [B, 1, H, W] with only a square of low frequencies, or without it, as a coin falls for each.

    Args:
        half_width: smallest and largest half side of the square, in cycles per image, both possible.
    """
    import torch

    from uad.diffusion.corruption import uniform

    shape = (len(images), 1, 1, 1)
    half = uniform(half_width[0], half_width[1] + 1, shape, images, generator).floor()
    low = uniform(0, 1, shape, images, generator) < 0.5
    height, width = images.shape[2:]
    rows = (torch.fft.fftfreq(height, 1 / height, device=images.device).abs() <= half[..., 0])[..., None]
    columns = torch.fft.fftfreq(width, 1 / width, device=images.device).abs() <= half
    kept = (rows & columns) == low
    return torch.fft.ifft2(torch.fft.fft2(images) * kept).real


METHOD = MaskedDDPM

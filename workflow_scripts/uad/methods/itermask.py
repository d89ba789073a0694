"""IterMask2 (Liang et al. 2024): a mask shrinks to what cannot be drawn from the rest.  docs/methods/itermask.md"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from uad.methods.base import Batch, Method
from uad.methods.settings import UNetSettings

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from uad.networks.refinement import MaskRefinement

LEAST_SHRINKAGE = 0.01  # share of the mask; a slice whose mask loses less is done


class IterMaskParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    unet: UNetSettings = UNetSettings(base=32, multipliers=[1, 1, 2, 3, 4], blocks=2, head_channels=32)
    radius: float = pydantic.Field(15, gt=0)  # of the low frequencies, in cycles per image
    rectangles: int = pydantic.Field(20, gt=0)  # at most, that hide parts of a slice in training
    sides: tuple[float, float] = (0.05, 0.3)  # in units of the brain's height
    first_share: float = pydantic.Field(0.6, gt=0, le=1)  # of the brain, in the first mask
    healthy_share: float = pydantic.Field(0.2, ge=0, lt=1)  # of healthy hidden pixels that count as unusual


class IterMask(Method):
    """Pixels that a network fills in as they are leave the mask; the error of what stays is the map."""

    Params = IterMaskParams
    params: IterMaskParams
    gives = "map"
    gpu_hours = 1.0

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.refinement import MaskRefinement

        return MaskRefinement(self.params.unet.model_dump())

    def loss(self, network: MaskRefinement, batch: Batch, generator: Generator) -> Tensor:
        """Squared errors of both networks.  In evaluation mode the second one's errors in hidden pixels are counted:
        the threshold of `anomaly_map` follows from those of the last validation."""
        from uad.diffusion.corruption import rectangles

        x = scaled(batch.images)
        frequencies = high_frequencies(x, self.params.radius)
        hidden = rectangles(batch.masks, self.params.rectangles, self.params.sides, generator, least=1)
        guessed = (network.guess(frequencies) - x).square()
        filled = (network.fill(hide(x, hidden, frequencies, generator)) - x).square()
        if network.training:
            network.errors.zero_()
        else:
            network.count(filled[hidden].float().sqrt())
        self.terms.update(guess_error=guessed.mean().detach(), fill_error=filled.mean().detach())
        return guessed.mean() + filled.mean()

    def anomaly_map(self, network: MaskRefinement, volume: Batch, generator: Generator) -> Tensor:
        import torch

        x, brain = scaled(volume.images), volume.masks
        frequencies = high_frequencies(x, self.params.radius)
        guessed = self.by_slices(network.guess, frequencies).float()
        mask = worst((x - guessed).square(), brain, self.params.first_share)
        usual = network.exceeded_by(self.params.healthy_share).square()
        error = torch.zeros_like(x)
        active = mask.flatten(1).any(dim=1)
        # ends: a slice stays active only while its mask loses pixels
        while active.any():
            rows = active.nonzero()[:, 0]
            shown = hide(x, mask, frequencies, generator)
            filled = self.by_slices(network.fill, shown[rows]).float()
            error[rows] = (x[rows] - filled).square() * brain[rows]
            before = mask[rows]
            mask[rows] = before & (error[rows] > usual)
            sizes = [part.flatten(1).sum(dim=1) for part in (before, mask[rows])]
            active[rows] = (sizes[1] > 0) & (sizes[0] - sizes[1] >= LEAST_SHRINKAGE * sizes[0])
        return error


def scaled(images: Tensor) -> Tensor:
    """[0, 1] -> [-3, 3], the published range, in which noise of standard deviation 1 lies."""
    return 6 * images - 3


def high_frequencies(images: Tensor, radius: float) -> Tensor:
    """[B, 1, H, W] whose Fourier coefficients below `radius` cycles per image have amplitude 1 and their phase."""
    import torch

    height, width = images.shape[2:]
    rows = torch.fft.fftfreq(height, 1 / height, device=images.device)
    columns = torch.fft.fftfreq(width, 1 / width, device=images.device)
    low = rows[:, None].square() + columns.square() < radius**2
    spectrum = torch.fft.fft2(images)
    return torch.fft.ifft2(torch.polar(torch.where(low, 1.0, spectrum.abs()), spectrum.angle())).real


def hide(x: Tensor, mask: Tensor, frequencies: Tensor, generator: Generator) -> Tensor:
    """x [B, 1, H, W] with noise in the mask, and its high frequencies: [B, 2, H, W]."""
    import torch

    noise = torch.randn(x.shape, generator=generator, device=generator.device).to(x.device)
    return torch.cat([torch.where(mask, noise, x), frequencies], dim=1)


def worst(error: Tensor, brain: Tensor, share: float) -> Tensor:
    """The `share` of each slice's brain with the largest error: bool [B, 1, H, W]."""
    import torch

    values = torch.where(brain, error, torch.nan).flatten(1)
    border = torch.nanquantile(values, 1 - share, dim=1)[:, None, None, None]
    return brain & (error > border)


METHOD = IterMask

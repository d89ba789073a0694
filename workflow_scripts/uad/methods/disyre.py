"""DISYRE (Naval Marimont et al. 2024): synthetic anomalies are removed step by step.  docs/methods/disyre.md"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pydantic

from uad.methods.base import Batch, Method
from uad.methods.settings import UNetSettings

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

DEGREES = 100  # values of the schedule
FIRST_BETA, LAST_BETA = 1e-3, 0.2
CLASSES = 5  # of intensities, in a slice
RADII = (0.05, 0.25)  # of the shapes, in units of the slice's shorter side


class DISYREParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    unet: UNetSettings = UNetSettings(base=32, multipliers=[1, 2, 3, 4, 8, 8], blocks=2)
    steps: int = pydantic.Field(5, ge=1, le=DEGREES)  # of the restoration


class DISYRE(Method):
    """A U-Net that is told how strong the anomaly is restores the slice; what it changes on the way is anomalous."""

    Params = DISYREParams
    params: DISYREParams
    gives = "map"
    gpu_hours = 1.0

    def __init__(self, params: DISYREParams) -> None:
        super().__init__(params)
        self.passes = params.steps

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.unet import UNet

        return UNet(**self.params.unet.model_dump())

    def loss(self, network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
        altered, degree = corrupted(batch.images, batch.masks, generator)
        return (network(altered, step_of(degree)) - batch.images).square().mean()

    def anomaly_map(self, network: nn.Module, volume: Batch, generator: Generator) -> Tensor:
        import torch

        degrees = schedule().to(volume.images.device)
        steps = steps_down(self.params.steps)
        x, changed = volume.images, torch.zeros_like(volume.images)
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            t = torch.full((len(x),), step, device=x.device)
            healthy = self.by_slices(network, x, t).float()
            changed += (x - healthy).abs()
            if following is not None:
                x = less_corrupted(x, healthy, degrees[step], degrees[following]).clamp(0, 1)
        return changed / len(steps) * volume.masks


def schedule() -> Tensor:
    """The degrees of corruption of steps 0..99, float32, rising to nearly 1: sqrt(abar) of linear betas, backwards."""
    import torch

    betas = torch.linspace(FIRST_BETA, LAST_BETA, DEGREES, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0).sqrt().flip(0).float()


def step_of(degree: Tensor) -> Tensor:
    """The step whose degree is nearest: [B] in [0, 1] -> int64 [B]."""
    return (schedule().to(degree.device) - degree[:, None]).abs().argmin(dim=1)


def steps_down(count: int) -> list[int]:
    """`count` steps in equal distances, the highest first: 5 -> 99, 79, 59, 39, 19."""
    return [round(DEGREES - place * DEGREES / count) - 1 for place in range(count)]


def less_corrupted(x: Tensor, healthy: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """A cold diffusion step: x = (1 - now) healthy + now * anomaly, with degree `then` in place of `now`."""
    anomaly = (x - (1 - now) * healthy) / now
    return (1 - then) * healthy + then * anomaly


class _Corruption(NamedTuple):
    """Where and how strongly each slice is altered: shape [B, 1, H, W] in [0, 1], its middle [B, 2], degree [B]."""

    shape: Tensor
    middle: Tensor
    degree: Tensor


def corrupted(images: Tensor, masks: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Slices with a synthetic anomaly in the brain, like `images` [B, 1, H, W], and their degrees of corruption [B].

    A third of them gets a foreign patch, a third another intensity, a third both; the degree is the larger of the two.
    What is altered stays in [0, 1], or in the range of a slice that leaves it.
    """
    import torch

    from uad.diffusion.corruption import smooth_shapes, uniform

    kind = uniform(0, 3, (len(images),), images, generator).floor()
    drawn = []
    for wanted in (kind != 1, kind != 0):
        shape, middle = smooth_shapes(masks, RADII, generator)
        drawn.append(_Corruption(shape, middle, uniform(0, 1, (len(images),), images, generator) * wanted))
    altered = with_foreign_patch(images, masks, drawn[0], generator)
    altered = with_other_intensity(altered, masks, drawn[1], generator)
    return altered, torch.maximum(drawn[0].degree, drawn[1].degree)


def with_foreign_patch(images: Tensor, masks: Tensor, drawn: _Corruption, generator: Generator) -> Tensor:
    """(1 - a m) x + a m f: f another slice of the batch, some place of whose brain comes to lie on the shape's middle.

    f is shifted to the mean intensity that x has under the shape.
    """
    import torch

    from uad.diffusion.corruption import brought, pixels_in, uniform

    count = len(images)
    further = uniform(1, max(count, 2), (count,), images, generator).long()
    partner = (torch.arange(count, device=images.device) + further) % count
    foreign = brought(images[partner], pixels_in(masks[partner], 1, generator)[:, 0], drawn.middle)
    weight = drawn.shape / drawn.shape.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    foreign = foreign + ((images - foreign) * weight).sum(dim=(1, 2, 3), keepdim=True)
    strength = drawn.degree[:, None, None, None] * drawn.shape
    return _clipped(images + strength * (foreign - images), images)


def with_other_intensity(images: Tensor, masks: Tensor, drawn: _Corruption, generator: Generator) -> Tensor:
    """x + s a m q: s a sign, q the blurred indicator of a random choice of the slice's intensity classes."""
    from uad.diffusion.corruption import blurred, uniform

    count = len(images)
    chosen = uniform(0, 1, (count, CLASSES), images, generator) < 0.5
    always = uniform(0, CLASSES, (count, 1), images, generator).long()
    chosen = chosen.scatter(1, always, True)
    classes = intensity_classes(images, masks)
    indicator = chosen.gather(1, classes.flatten(1)).view_as(images) & masks
    sign = (uniform(0, 1, (count, 1, 1, 1), images, generator) < 0.5) * 2 - 1
    strength = sign * drawn.degree[:, None, None, None] * drawn.shape
    return _clipped(images + strength * blurred(indicator.float(), 1.0), images)


def intensity_classes(images: Tensor, masks: Tensor) -> Tensor:
    """Which fifth of its brain's intensities each pixel belongs to, int64 in 0..4, like `images` [B, 1, H, W]."""
    import torch

    values = torch.where(masks, images, torch.nan).flatten(1)
    shares = torch.arange(1, CLASSES, device=images.device) / CLASSES
    borders = torch.nanquantile(values, shares, dim=1).T[:, :, None, None]
    return (images > borders).sum(dim=1, keepdim=True)


def _clipped(altered: Tensor, images: Tensor) -> Tensor:
    import torch

    return torch.minimum(torch.maximum(altered, images.clamp(max=0)), images.clamp(min=1))


METHOD = DISYRE

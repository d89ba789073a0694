"""THOR (Bercea et al. 2024): the way back from noise is held to the scan where nothing is anomalous.

docs/methods/thor.md
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from uad.methods.base import Batch
from uad.methods.ddpm import ChainHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Generator, Tensor

Level = Annotated[int, pydantic.Field(ge=1, le=1000)]
REGION = 13  # side of the square that closes and widens what is anomalous, in pixels
SMOOTHING = 2.0  # standard deviation of the blur of the perceptual distance, in pixels
EPSILON = 1e-8


class ThorParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    t_test: Level = 250  # where the chain starts
    guidance: list[Level] = pydantic.Field([200, 150, 100, 50], min_length=1)  # levels where it is held to the scan
    maps: list[Level] = []  # further levels that draw a map
    steps: int = pydantic.Field(25, ge=1)  # even ones, of DDIM; the levels above come on top

    @pydantic.model_validator(mode="after")
    def _below_the_start(self) -> ThorParams:
        if above := [level for level in (*self.guidance, *self.maps) if level >= self.t_test]:
            raise ValueError(f"guidance and maps: {above[0]} is not below t_test, {self.t_test}, the chain's start")
        return self


class Thor(ChainHead):
    """Harmonic mean of the maps along a chain, in which healthy tissue is taken from the scan again and again."""

    Params = ThorParams
    params: ThorParams

    def __init__(self, params: ThorParams) -> None:
        super().__init__(params)
        self.passes = params.steps + len(params.guidance) + len(params.maps)

    def anomaly_map(self, network: Any, volume: Batch, generator: Generator) -> Tensor:
        import torch

        from uad.diffusion.noise import noise_like
        from uad.diffusion.process import to_signed, to_unit
        from uad.diffusion.sampling import descent, noised, stepped

        guided, denoiser = set(self.params.guidance), self.source.denoiser
        levels = descent(self.params.t_test, self.params.steps, [*guided, *self.params.maps])
        predict, x = self.source.predictor(network, volume), to_signed(volume.images)
        image, mask = (tensor.squeeze(1).cpu().numpy() for tensor in (volume.images, volume.masks))
        noise = noise_like(x, generator, denoiser.noise)
        x_t, maps = noised(x, levels[0], noise, denoiser.schedule), []
        for t, s in pairwise(levels):
            x0 = predict(x_t, t)
            if t in guided or t in self.params.maps or s == 0:
                maps.append(difference(image, to_unit(x0).squeeze(1).cpu().numpy(), mask))
            if t in guided:
                weight = torch.from_numpy(region(maps[-1]) * mask).to(x)[:, None]
                x0 = (weight * x0 + (1 - weight) * x).clamp(-1, 1)
                x_t = noised(x0, s, noise, denoiser.schedule)
            else:
                x_t = stepped(x_t, x0, t, s, denoiser.schedule)
        return torch.from_numpy(harmonic_mean(maps)).to(x)[:, None]


def difference(image: np.ndarray, restored: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Absolute difference times the smoothed perceptual distance, 1 at the highest of each slice: all [Z, Y, X]."""
    from scipy import ndimage

    from uad.metrics.reconstruction import multiscale_dissimilarity

    distance = multiscale_dissimilarity(image, restored * mask)
    smoothed = ndimage.gaussian_filter(distance, (0, SMOOTHING, SMOOTHING)).clip(0, 1)
    found = smoothed * abs(image - restored) * mask
    return found / (found.max(axis=(1, 2), keepdims=True) + EPSILON)


def region(found: np.ndarray) -> np.ndarray:
    """What is not taken from the scan, 0 to 1: the mean of a map [Z, Y, X] and of it closed and widened."""
    from scipy import ndimage

    side = (1, REGION, REGION)
    closed = ndimage.grey_closing(found, side, mode="nearest")
    return ((ndimage.grey_dilation(closed, side, mode="nearest") + found) / 2).clip(0, 1)


def harmonic_mean(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Of maps that are not negative, voxel by voxel: 0 where one of them is 0; float32."""
    import numpy as np

    with np.errstate(divide="ignore"):
        return (len(maps) / (1 / np.stack(maps)).sum(axis=0)).astype(np.float32)


METHOD = Thor

"""MHD (Behrendt et al. 2024): distance of a scan to a set of its reconstructions.  docs/methods/mhd.md"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydantic

from uad.methods.base import Batch, Head

if TYPE_CHECKING:
    from torch import Generator, Tensor

NUGGET = 0.01  # added to the variances, so that the covariance of few reconstructions has an inverse
SMOOTHING = 1.0  # standard deviation of the blur, in pixels


class MahalanobisParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    samples: int = pydantic.Field(10, ge=2)  # reconstructions, each with new noise
    t_test: int = pydantic.Field(500, ge=1, le=1000)
    postprocess: bool = False  # True: the map is cleaned as those of other arms


class Mahalanobis(Head):
    """Pixel-wise Mahalanobis distance to the reconstructions, times the structural dissimilarity to their mean."""

    Params = MahalanobisParams
    params: MahalanobisParams

    def __init__(self, params: MahalanobisParams) -> None:
        super().__init__(params)
        self.postprocess, self.passes = params.postprocess, params.samples

    def anomaly_map(self, network: Any, volume: Batch, generator: Generator) -> Tensor:
        import torch
        from scipy import ndimage

        from uad.metrics.reconstruction import gaussian_window, ssim_map

        levels = [self.params.t_test] * self.params.samples
        drawn = self.source.reconstruct(network, volume, levels, generator).squeeze(2).float()
        image, mask = volume.images.squeeze(1), volume.masks.squeeze(1)
        distance = torch.zeros_like(image)
        for z in range(len(image)):
            inside = mask[z]
            distance[z][inside] = pixel_distance(image[z][inside], drawn[:, z][:, inside])
        highest = distance.max()
        scaled = (distance / highest if highest > 0 else distance).cpu().numpy()
        smoothed = ndimage.gaussian_filter(scaled, (0, SMOOTHING, SMOOTHING))
        window = gaussian_window(1.0, 4)
        similarity = ssim_map(image.cpu().numpy(), drawn.mean(dim=0).cpu().numpy(), (window, window, window))
        rated = torch.from_numpy(smoothed * (1 - similarity).clip(min=0)).to(image)
        return (rated * mask)[:, None]


def pixel_distance(image: Tensor, drawn: Tensor) -> Tensor:
    """sqrt(d * C^-1 d) at each pixel, d = image - mean of the drawn, C their covariance + 0.01 I: float32 [P].

    The covariance of S reconstructions has rank S - 1, so the inverse is taken of an S x S matrix (Woodbury):
    C^-1 d = (d - A^T (0.01 I + A A^T)^-1 A d) / 0.01 with A the centred reconstructions / sqrt(S - 1).  Where the
    product is negative, the distance is 0.

    Args:
        image: pixels [P].  drawn: reconstructions of them [S, P].
    """
    import torch

    drawn = drawn.double()
    d = image.double() - drawn.mean(dim=0)
    centred = (drawn - drawn.mean(dim=0)) / (len(drawn) - 1) ** 0.5
    small = centred @ centred.T + NUGGET * torch.eye(len(drawn), dtype=drawn.dtype, device=drawn.device)
    solved = (d - centred.T @ torch.linalg.solve(small, centred @ d)) / NUGGET
    return (d * solved).clamp(min=0).sqrt().float()


METHOD = Mahalanobis

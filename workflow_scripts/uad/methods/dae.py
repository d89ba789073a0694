"""DAE (Kascenas et al. 2022): a U-Net that removes coarse noise from healthy slices.  docs/paper.md#dae"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pydantic

from uad.methods.base import Batch, Method

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

FOREGROUND = 0.01  # intensity above which a pixel gets noise and counts in the loss


class DAEParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    noise_std: float = pydantic.Field(0.2, gt=0)
    noise_res: int = pydantic.Field(16, gt=1)  # nodes per side of the noise grid; 12 keeps the cells of 128 px
    roll: Literal["batch", "sample"] = "batch"  # one random shift of the noise for the whole batch, as the original
    width: int = pydantic.Field(64, gt=1)
    depth: int = pydantic.Field(4, gt=0)


class DAE(Method):
    """What looks like noise, lesions among it, is removed; at test no noise is added."""

    Params = DAEParams
    params: DAEParams
    gpu_hours = 1.0
    RECIPE_VERSION = 2

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.denoiser import DenoisingUNet

        network = DenoisingUNet(self.params.width, self.params.depth)
        if min(shape) <= network.shrink:
            raise ValueError(f"slices of {shape[0]}x{shape[1]} are too small for params.depth {self.params.depth}")
        return network

    def loss(self, network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
        images = batch.images
        foreground = images > FOREGROUND
        noise = coarse_noise(images, self.params.noise_res, generator) * self.params.noise_std
        noise = shifted(noise, self.params.roll, generator) * foreground
        return ((network(images + noise) - images).square() * foreground).mean()

    def reconstruct(self, network: nn.Module, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        # the loss says nothing about the background, so the network's output there is left out
        return (self.by_slices(network, volume.images) * (volume.images > FOREGROUND))[None]


def coarse_noise(images: Tensor, nodes: int, generator: Generator) -> Tensor:
    """Standard normal values on a grid of nodes x nodes, bilinear in between: like images [B, C, H, W].

    The outer nodes are the image's corners.
    """
    import torch

    values = torch.randn(*images.shape[:2], nodes, nodes, generator=generator, device=images.device)
    return torch.nn.functional.interpolate(values, images.shape[2:], mode="bilinear", align_corners=True)


def shifted(noise: Tensor, roll: str, generator: Generator) -> Tensor:
    """Noise [B, C, H, W] moved round its borders by uniform random shifts of both axes.

    roll: "batch" moves all samples alike, "sample" each by its own shift.
    """
    import torch

    count, _, height, width = noise.shape

    def sources(size: int) -> Tensor:
        shifts = torch.randint(size, (1 if roll == "batch" else count, 1), generator=generator, device=noise.device)
        return ((torch.arange(size, device=noise.device) - shifts) % size).expand(count, -1)

    sample = torch.arange(count, device=noise.device)[:, None, None]
    moved = noise[sample, :, sources(height)[:, :, None], sources(width)[:, None, :]]
    return moved.permute(0, 3, 1, 2)


METHOD = DAE

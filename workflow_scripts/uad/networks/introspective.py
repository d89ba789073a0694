"""Encoder and decoder of the reversed autoencoder, a soft-introspective VAE (docs/methods/ra.md)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2


def conv(n_in: int, n_out: int, size: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, padding=size // 2, bias=bias)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norms and a shortcut, a 1x1 convolution where the channels change."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.branch = nn.Sequential(
            conv(n_in, n_out, 3), nn.BatchNorm2d(n_out), nn.LeakyReLU(SLOPE), conv(n_out, n_out, 3),
            nn.BatchNorm2d(n_out),
        )  # fmt: skip
        self.shortcut = nn.Identity() if n_in == n_out else conv(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.shortcut(x) + self.branch(x), SLOPE)


class Encoder(nn.Module):
    """Images [B, 1, H, W] in [0, 1] -> mean and log-variance of the latents, [B, z_dim] each, and the maps at half the
    size, a quarter and so on, one per entry of `channels`.

    Images are padded with background at the bottom and on the right until all halvings divide them.
    """

    def __init__(self, seed: tuple[int, int], channels: Sequence[int], z_dim: int):
        super().__init__()
        self.multiple = 2 ** len(channels)
        first = nn.Sequential(conv(1, channels[0], 5), nn.BatchNorm2d(channels[0]), nn.LeakyReLU(SLOPE))
        self.levels = nn.ModuleList([first, *(ResidualBlock(n_in, n_out) for n_in, n_out in pairwise(channels))])
        self.last = ResidualBlock(channels[-1], channels[-1])
        self.to_latent = nn.Linear(channels[-1] * prod(seed), 2 * z_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        height, width = images.shape[-2:]
        h, maps = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple)), []
        for level in self.levels:
            h = F.avg_pool2d(level(h), 2)
            maps.append(h)
        mu, logvar = self.to_latent(self.last(h).flatten(1)).float().chunk(2, dim=1)
        return mu, logvar, maps


class Decoder(nn.Module):
    """Latents [B, z_dim] -> images [B, 1, height, width] in [0, 1]: the mirror of the encoder, pixels are repeated."""

    def __init__(self, size: tuple[int, int], seed: tuple[int, int], channels: Sequence[int], z_dim: int):
        super().__init__()
        self.size, self.seed = size, (channels[-1], *seed)
        self.from_latent = nn.Linear(z_dim, prod(self.seed))
        upwards = [channels[-1], *reversed(channels)]
        self.levels = nn.ModuleList(ResidualBlock(n_in, n_out) for n_in, n_out in pairwise(upwards))
        self.last = nn.Sequential(ResidualBlock(channels[0], channels[0]), conv(channels[0], 1, 5, bias=True))

    def forward(self, latents: Tensor) -> Tensor:
        h = torch.relu(self.from_latent(latents)).unflatten(1, self.seed)
        for level in self.levels:
            h = F.interpolate(level(h), scale_factor=2, mode="nearest")
        height, width = self.size
        return torch.sigmoid(self.last(h).float())[..., :height, :width]


class IntrospectiveAutoencoder(nn.Module):
    """Both; calling it reconstructs from the mean, as at test.

    height, width: image size in pixels.  channels: of the maps at half the size, a quarter and so on.
    """

    def __init__(self, height: int, width: int, channels: Sequence[int], z_dim: int):
        super().__init__()
        seed = (-(-height // 2 ** len(channels)), -(-width // 2 ** len(channels)))
        self.encoder = Encoder(seed, channels, z_dim)
        self.decoder = Decoder((height, width), seed, channels, z_dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images)[0])

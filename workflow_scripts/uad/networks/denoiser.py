"""The U-Net of the denoising autoencoder (Kascenas et al. 2022, docs/paper.md#dae)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


def middle_divisor(channels: int) -> int:
    """The middle one of the divisors, the upper of two: 64, 128, 256, 512 -> 8, 16, 16, 32 groups."""
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    return divisors[len(divisors) // 2]


class StandardisedConv(nn.Conv2d):
    """3x3 convolution with a mirrored border, whose filters have mean 0 and standard deviation 1."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        dims = (1, 2, 3)
        centred = self.weight - self.weight.mean(dims, keepdim=True)
        return self._conv_forward(x, centred / (self.weight.std(dims, keepdim=True) + EPSILON), self.bias)


def double_conv(n_in: int, n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (n_in, n_out):
        layers += [StandardisedConv(channels, n_out), nn.SiLU(), nn.GroupNorm(middle_divisor(n_out), n_out)]
    return nn.Sequential(*layers)


class DenoisingUNet(nn.Module):
    """U-Net of `depth` levels, the first of `width` channels, each next one of half the size and twice the width.

    The shorter side of the images must be larger than `shrink` = 2^(depth - 1) pixels.
    """

    def __init__(self, width: int = 64, depth: int = 4):
        super().__init__()
        self.shrink = 2 ** (depth - 1)
        widths = [width * 2**level for level in range(depth)]
        self.down = nn.ModuleList(double_conv(n_in, n_out) for n_in, n_out in pairwise([1, *widths]))
        upwards = list(pairwise(reversed(widths)))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(n_in, n_out, 2, 2) for n_in, n_out in upwards)
        self.up = nn.ModuleList(double_conv(n_in, n_out) for n_in, n_out in upwards)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 1, H, W] -> [B, 1, H, W], not clamped.

        Where the levels do not divide H and W, the last row and column are repeated, then cropped.
        """
        height, width = x.shape[-2:]
        h = F.pad(x, (0, -width % self.shrink, 0, -height % self.shrink), mode="replicate")
        skips = []
        for level, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if level else h)
            skips.append(h)
        skips.pop()
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            h = block(torch.cat([enlarge(h), skips.pop()], dim=1))
        return self.out(h)[..., :height, :width]

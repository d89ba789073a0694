"""Residual encoder: the conditioning network of cDDPM and the backbone of SparK, of slices or of whole volumes.

docs/paper.md#condition, docs/paper.md#spark
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BLOCKS_PER_STAGE = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}


class DropPath(nn.Module):
    """Stochastic depth: while training, drops the branch of whole samples and scales the rest by 1/keep.

    Draws from torch's RNG as nn.Dropout does; the caller seeds it.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * (torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device) < keep) / keep


def conv(in_channels: int, out_channels: int, size: int, stride: int = 1, dims: int = 2) -> nn.Module:
    return _CONV[dims](in_channels, out_channels, size, stride, padding=size // 2, bias=False)


def basic_branch(in_channels: int, width: int, stride: int, dims: int) -> nn.Sequential:
    return nn.Sequential(
        conv(in_channels, width, 3, stride, dims),
        _NORM[dims](width),
        nn.ReLU(inplace=True),
        conv(width, width, 3, dims=dims),
        _NORM[dims](width),
    )


def bottleneck_branch(in_channels: int, width: int, stride: int, dims: int) -> nn.Sequential:
    return nn.Sequential(
        conv(in_channels, width, 1, dims=dims),
        _NORM[dims](width),
        nn.ReLU(inplace=True),
        conv(width, width, 3, stride, dims),
        _NORM[dims](width),
        nn.ReLU(inplace=True),
        conv(width, 4 * width, 1, dims=dims),
        _NORM[dims](4 * width),
    )


class Residual(nn.Module):
    """relu(shortcut(x) + drop_path(branch(x)))."""

    def __init__(self, in_channels: int, width: int, stride: int, bottleneck: bool, drop_path: float, dims: int):
        super().__init__()
        self.branch = (bottleneck_branch if bottleneck else basic_branch)(in_channels, width, stride, dims)
        out_channels = 4 * width if bottleneck else width
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = conv(in_channels, out_channels, 1, stride, dims)
            self.shortcut = nn.Sequential(projection, _NORM[dims](out_channels))
        self.drop_path = DropPath(drop_path)
        # The branch starts at zero, so that a fresh block passes its input on.
        nn.init.zeros_(self.branch[-1].weight)  # type: ignore[arg-type]  # of a batch norm

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.drop_path(self.branch(x)))


class ResNetEncoder(nn.Module):
    """ResNet-50 or -101 (bottleneck blocks), ResNet-34, -18 or -10 (basic blocks) with a linear head.

    docs/paper.md#condition; the blocks per stage are those of He et al. 2016 (arXiv 1512.03385), Table 1.


    output_dim: length d of the condition vector. width: channels of the stem (64 in the standard network).
    drop_path: rate of the last block; it rises linearly from 0 at the first.
    in_channels: slices side by side that are seen as channels. dims: 3 for whole volumes; every window and stride then
        reaches along z too.
    `pyramid` holds the channels of the four maps of `features`: (256, 512, 1024, 2048) for depth 50.
    """

    def __init__(
        self,
        depth: int = 50,
        output_dim: int = 512,
        width: int = 64,
        drop_path: float = 0.05,
        in_channels: int = 1,
        dims: int = 2,
    ):
        super().__init__()
        if depth not in BLOCKS_PER_STAGE:
            raise ValueError(f"depth is {depth}, it must be one of {sorted(BLOCKS_PER_STAGE)}")
        bottleneck = depth >= 50
        counts = BLOCKS_PER_STAGE[depth]
        self.stem = nn.Sequential(
            conv(in_channels, width, 7, 2, dims),
            _NORM[dims](width),
            nn.ReLU(inplace=True),
            _MAX_POOL[dims](3, stride=2, padding=1),
        )
        self.pyramid = tuple(width * 2**stage * (4 if bottleneck else 1) for stage in range(4))
        n_blocks = sum(counts)
        rates = (drop_path * index / (n_blocks - 1) for index in range(n_blocks))
        self.stages = nn.ModuleList()
        channels = width
        for stage, count in enumerate(counts):
            residuals = []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                residuals.append(Residual(channels, width * 2**stage, stride, bottleneck, next(rates), dims))
                channels = self.pyramid[stage]
            self.stages.append(nn.Sequential(*residuals))
        self.fc: nn.Module = nn.Linear(channels, output_dim)
        for module in self.modules():
            if isinstance(module, _CONV[dims]):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> list[Tensor]:
        """x [B, in_channels, H, W] (3-D: [..., Z, H, W]) in [0, 1] -> maps at 1/4, 1/8, 1/16 and 1/32 of the size."""
        h = self.stem(x)
        maps = []
        for stage in self.stages:
            h = stage(h)
            maps.append(h)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in_channels, H, W] (3-D: [..., Z, H, W]) in [0, 1] -> condition vector [B, output_dim]."""
        return self.fc(self.features(x)[-1].mean(dim=tuple(range(2, x.dim()))))

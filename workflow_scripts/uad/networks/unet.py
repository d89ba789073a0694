"""The U-Net of the diffusion arms (docs/paper.md#u-net, docs/paper.md#condition)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ConditionMode = Literal["scale_shift", "scale", "shift", "add", "concat"]


def zero_initialised(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(groups: int, channels: int) -> nn.GroupNorm:
    # Narrow networks get fewer groups, so that a group still averages over 4 channels as it does at base 128.
    return nn.GroupNorm(math.gcd(groups, max(channels // 4, 1), channels), channels)


def sinusoidal_embedding(t: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of t at width/2 geometric frequencies 1 ... 1/10000: [B] -> float32 [B, width]."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, width % 2))


def embedding_mlp(in_features: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_features, width), nn.SiLU(), nn.Linear(width, width))


class ResBlock(nn.Module):
    """Residual block whose second norm is scaled and shifted by the embedding (docs/paper.md#u-net).

    `embedding` is its width; 0: there is none.
    `resample` is None, "down" (2x2 average pool) or "up" (nearest x2); it acts on both branches.  `condition` is the
    width of a condition that is no part of the embedding and acts on one of the two, its `part`; 0: there is none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        groups: int,
        resample: str | None = None,
        condition: int = 0,
        part: ConditionMode = "scale_shift",
    ):
        super().__init__()
        self.resample, self.part = resample, part
        self.norm1 = group_norm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.to_scale_shift = nn.Linear(embedding, 2 * out_channels) if embedding else None
        self.norm2 = group_norm(groups, out_channels)
        self.conv2 = zero_initialised(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        self.from_condition = nn.Linear(condition, out_channels) if condition else None

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return x

    def forward(self, x: Tensor, embedding: Tensor | None, condition: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(self._resampled(F.silu(self.norm1(x)))))
        if self.to_scale_shift is not None:
            assert embedding is not None
            scale, shift = self.to_scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
            if self.from_condition is not None and condition is not None:
                more = self.from_condition(F.silu(condition))[:, :, None, None]
                scale, shift = (scale + more, shift) if self.part == "scale" else (scale, shift + more)
            h = h * (1 + scale) + shift
        return self.skip(self._resampled(x)) + self.conv2(F.silu(h))


class SelfAttention(nn.Module):
    """Multi-head self-attention over all pixels, with a residual connection."""

    def __init__(self, channels: int, heads: int, head_channels: int, groups: int):
        super().__init__()
        self.heads = heads
        self.norm = group_norm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * heads * head_channels)
        self.out = zero_initialised(nn.Linear(heads * head_channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(h).transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """Denoising U-Net, one channel out, attention in the middle block only (docs/paper.md#u-net).

    base, multipliers: width of each level is base * multiplier; a level has half the size of the one before.
    blocks: residual blocks per level on the way down (one more on the way up).
    attention_heads, head_channels: heads of the middle attention and channels per head.
    groups: groups of each GroupNorm (fewer where a group would have less than 4 channels).
    condition_dim: width d of the condition vector; 0 builds the unconditional network.
    condition_mlp: send the condition through Linear-SiLU-Linear (the authors' code) before it is concatenated
        to the time embedding; False concatenates it as it is (the paper's text).
    condition_mode: how the condition enters. scale_shift: beside the time embedding, with which it scales and shifts
        every block, as published. scale, shift: in every block a linear layer of its own acts on the one or the other.
        add: is added to the time embedding; without the MLP a linear layer brings it to that width. concat: as
        constant maps beside the noised slice, at the first layer.
    time_dim: width of the time embedding and of the condition MLP; None means 4 * base. The paper's text (D6)
        is condition_dim=128, condition_mlp=False, time_dim=128.
    in_channels: of the images.
    timed: False builds a network that is told no time step and no condition.
    """

    def __init__(
        self,
        base: int = 128,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 3,
        attention_heads: int = 4,
        head_channels: int = 64,
        groups: int = 32,
        condition_dim: int = 0,
        condition_mlp: bool = True,
        time_dim: int | None = None,
        condition_mode: ConditionMode = "scale_shift",
        in_channels: int = 1,
        timed: bool = True,
    ):
        super().__init__()
        self.base = base
        self.condition_dim, self.condition_mode = condition_dim, condition_mode
        self.timed = timed
        self.shrink = 2 ** (len(multipliers) - 1)
        time_dim = (4 * base if time_dim is None else time_dim) if timed else 0
        if timed:
            self.time_emb = embedding_mlp(base, time_dim)
        given = 0  # width of what the condition becomes before it enters
        if condition_dim:
            given = time_dim if condition_mlp or condition_mode == "add" else condition_dim
            plain: nn.Module = nn.Linear(condition_dim, given) if condition_mode == "add" else nn.Identity()
            self.label_emb = embedding_mlp(condition_dim, time_dim) if condition_mlp else plain
        embedding = time_dim + (given if condition_mode == "scale_shift" else 0)
        own = given if condition_mode in ("scale", "shift") else 0

        def block(n_in: int, n_out: int, resample: str | None = None) -> ResBlock:
            return ResBlock(n_in, n_out, embedding, groups, resample, own, condition_mode)

        widths = [base * multiplier for multiplier in multipliers]
        seen = in_channels + (given if condition_mode == "concat" else 0)
        self.conv_in = nn.Conv2d(seen, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        channels, skips = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(block(channels, width))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.down.append(block(channels, channels, "down"))
                skips.append(channels)

        self.middle1 = block(channels, channels)
        self.attention = SelfAttention(channels, attention_heads, head_channels, groups)
        self.middle2 = block(channels, channels)

        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            stage = nn.ModuleList()
            for _ in range(blocks + 1):
                stage.append(block(channels + skips.pop(), width))
                channels = width
            if level > 0:
                stage.append(block(channels, channels, "up"))
            self.up.append(stage)

        self.norm_out = group_norm(groups, channels)
        self.conv_out = zero_initialised(nn.Conv2d(channels, 1, 3, padding=1))

    def _embedded(self, t: Tensor | None, condition: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What scales and shifts the blocks, and the condition as it enters them or the first layer by itself."""
        if (t is None) == self.timed:
            raise ValueError("a time step must be given to a timed network, and only to one")
        if (condition is None) != (self.condition_dim == 0):
            raise ValueError("a condition must be given where condition_dim > 0, and only there")
        if t is None:
            return None, None
        embedding = self.time_emb(sinusoidal_embedding(t, self.base))
        if condition is None:
            return embedding, None
        given = self.label_emb(condition)
        if self.condition_mode == "scale_shift":
            return torch.cat([embedding, given], dim=1), None
        return (embedding + given, None) if self.condition_mode == "add" else (embedding, given)

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """x [B, C, H, W] in [-1, 1], integer t [B], condition [B, d] or None -> [B, 1, H, W], not clamped.

        Any H and W: where the levels do not divide them, the last row and column are repeated, then cropped.
        Raises ValueError for a time step or condition that is missing, or given to a network that takes none.
        """
        height, width = x.shape[-2:]
        embedding, given = self._embedded(t, condition)
        if given is not None and self.condition_mode == "concat":
            x = torch.cat([x, given[:, :, None, None].expand(-1, -1, height, width).to(x.dtype)], dim=1)
        h = self.conv_in(F.pad(x, (0, -width % self.shrink, 0, -height % self.shrink), mode="replicate"))
        skips = [h]
        for block in self.down:
            h = block(h, embedding, given)
            skips.append(h)
        h = self.middle2(self.attention(self.middle1(h, embedding, given)), embedding, given)
        for stage in self.up:
            for block in stage:  # type: ignore[attr-defined]  # a list of modules
                if block.resample is None:
                    h = torch.cat([h, skips.pop()], dim=1)
                h = block(h, embedding, given)
        return self.conv_out(F.silu(self.norm_out(h)))[..., :height, :width]

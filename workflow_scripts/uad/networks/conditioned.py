"""The conditioned U-Net: a U-Net and the encoder that tells it about the noise-free input.  docs/paper.md#condition"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uad.networks.unet import embedding_mlp, sinusoidal_embedding


class ConditionedUNet(nn.Module):
    """U-Net and encoder, trained together; calling the module runs the U-Net.

    `encoder` maps noise-free slices [B, n, H, W] to conditions [B, d].  One of whole volumes, [V, 1, Z, H, W] to
    [V, d], has a `position` beside it, which is added.
    """

    def __init__(self, unet: nn.Module, encoder: nn.Module, position: SlicePosition | None = None) -> None:
        super().__init__()
        self.unet = unet
        self.encoder = encoder
        self.position = position

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return self.unet(x, t, condition)


class SlicePosition(nn.Module):
    """What a condition of the whole volume says about the place of a slice: an MLP of sinusoids."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.mlp = embedding_mlp(dim, dim)

    def forward(self, positions: Tensor, depth: int) -> Tensor:
        """int64 [B], each slice's place among `depth` -> [B, dim]; the first slice counts as 0, the last as 1000, which
        is the range of the time steps that the sinusoids are made for.
        """
        return self.mlp(sinusoidal_embedding(positions * (1000 / max(depth - 1, 1)), self.dim))


def different_volumes(context: Tensor) -> tuple[Tensor, Tensor]:
    """Volumes of a batch, each once where samples that follow each other share it.

    Args:
        context: volume of each sample, [B, Z, H, W].

    Returns:
        The volumes [V, Z, H, W], and which of them a sample has: int64 [B].
    """
    if len(context) == 1 or context.stride(0) == 0:  # all samples look at one volume in memory
        return context[:1], torch.zeros(len(context), dtype=torch.long, device=context.device)
    first = torch.ones(len(context), dtype=torch.bool, device=context.device)
    first[1:] = (context[1:] != context[:-1]).flatten(1).any(dim=1)
    return context[first], first.cumsum(dim=0) - 1

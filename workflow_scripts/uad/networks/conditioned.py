"""The conditioned U-Net: a U-Net and the encoder that tells it about the noise-free input.  docs/paper.md#condition"""

from __future__ import annotations

from torch import Tensor, nn


class ConditionedUNet(nn.Module):
    """U-Net and encoder, trained together.

    `encoder` maps noise-free slices [B, 1, H, W] to conditions [B, d]; calling the module runs the U-Net.
    """

    def __init__(self, unet: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.encoder = encoder

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return self.unet(x, t, condition)

"""The two U-Nets of IterMask2 and what they say about healthy slices (docs/methods/itermask.md)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from uad.networks.unet import UNet

BINS, HIGHEST = 6000, 6.0  # of the histogram of absolute errors


class MaskRefinement(nn.Module):
    """`guess` draws a slice from its high frequencies, [B, 1, H, W]; `fill` from the slice with noise in a mask and the
    same, [B, 2, H, W].

    unet: options of both U-Nets, which are told no time step.
    `errors` counts absolute errors of healthy pixels in bins; it is kept with the weights.
    """

    errors: Tensor

    def __init__(self, unet: dict[str, Any]):
        super().__init__()
        self.guess = UNet(**unet, timed=False)
        self.fill = UNet(**unet, in_channels=2, timed=False)
        self.register_buffer("errors", torch.zeros(BINS, dtype=torch.long))

    def count(self, errors: Tensor) -> None:
        """Count absolute errors [P]; those above `HIGHEST` go to the last bin."""
        bins = (errors * (BINS / HIGHEST)).long().clamp(max=BINS - 1)
        self.errors += torch.bincount(bins, minlength=BINS)

    def exceeded_by(self, share: float) -> Tensor:
        """The lowest bin border that at most `share` of the counted errors lie above; 0 where none were counted."""
        above = self.errors.flip(0).cumsum(0)  # of the top bin, of the two top ones, ...
        too_many = above > share * above[-1]
        return too_many.sum() * (HIGHEST / BINS)

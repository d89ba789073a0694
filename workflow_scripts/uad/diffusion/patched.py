"""Patched diffusion (Behrendt et al. 2023): noise in one box of a slice, the rest is context.  docs/paper.md#pddpm"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from uad.diffusion.process import Denoiser, random_integers


def quarter_boxes(height: int, width: int) -> Tensor:
    """The fixed 2x2 grid of boxes, split at the middle (rounded down): bool [4, 1, height, width]."""
    lower = torch.arange(height) >= height // 2
    right = torch.arange(width) >= width // 2
    return torch.stack([(lower == row)[:, None] & (right == column) for row in (0, 1) for column in (0, 1)])[:, None]


class PatchedDenoiser(Denoiser):
    """Noises one box of a slice at a time; outside it the output counts as x0."""

    def denoised(
        self, predict: Callable[[Tensor], Tensor], x0: Tensor, x_t: Tensor, training: torch.Generator | None = None
    ) -> Tensor:
        """One forward pass per box, with one noise field for all; what each says about its box is pasted.

        The boxes take turns, so that a volume needs no more memory than one forward pass.  In training each sample has
        one random box: the loss is its share of the sum over the slice, about a quarter of the mean error inside it.
        """
        boxes = quarter_boxes(*x0.shape[2:]).to(x0.device)
        if training is not None:
            boxes = boxes[random_integers(len(boxes), x0, training)][None]
        stitched = x0
        for box in boxes:
            stitched = torch.where(box, predict(torch.where(box, x_t, x0)), stitched)
        return stitched

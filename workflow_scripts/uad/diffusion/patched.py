"""Patched diffusion (Behrendt et al. 2023): noise in one box of a slice, the rest is context.  docs/paper.md#pddpm"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from uad.diffusion.process import noised_to, predict_x0, q_sample, to_signed, to_unit
from uad.diffusion.schedule import Schedule
from uad.diffusion.simplex import NoiseOptions, noise_like


def quarter_boxes(height: int, width: int) -> Tensor:
    """The fixed 2x2 grid of boxes, split at the middle (rounded down): bool [4, 1, height, width]."""
    lower = torch.arange(height) >= height // 2
    right = torch.arange(width) >= width // 2
    return torch.stack([(lower == row)[:, None] & (right == column) for row in (0, 1) for column in (0, 1)])[:, None]


def patched_training_loss(
    network: Callable[..., Tensor],
    x0: Tensor,
    generator: torch.Generator,
    schedule: Schedule,
    noise: NoiseOptions,
    objective: str = "x0",
) -> Tensor:
    """L1 inside one random box per sample, mean over all pixels of the slice, in [-1, 1].

    As `uad.diffusion.process.training_loss`, but only the box is noised and outside it the output counts as x0:
    the loss is the box's share of the sum, about a quarter of the mean error inside it.
    """
    x0 = to_signed(x0)

    def integers(end: int) -> Tensor:
        return torch.randint(end, (len(x0),), generator=generator, device=generator.device).to(x0.device)

    t = integers(schedule.steps)
    noised = q_sample(x0, t, noise_like(x0, generator, **noise._asdict()), schedule)
    box = quarter_boxes(*x0.shape[2:]).to(x0.device)[integers(4)]
    output = predict_x0(network, torch.where(box, noised, x0), t, objective=objective)
    return F.l1_loss(torch.where(box, output, x0), x0)


@torch.no_grad()
def reconstruct_patched(
    network: Callable[..., Tensor],
    x0: Tensor,
    t_test: int,
    generator: torch.Generator,
    schedule: Schedule,
    noise: NoiseOptions,
    boxes: Tensor,
    objective: str = "x0",
) -> Tensor:
    """One forward pass per box from noise level `t_test` in 1..T; what each says about its box is pasted.

    x0: slices of one volume, [B, 1, H, W] in [0, 1]. boxes: bool [K, 1, H, W] that cover the slice without
    overlap. The noise field is the same for all boxes. Returns float32 of x0's shape, in [0, 1] space but not
    clamped. The boxes take turns, so that a volume needs no more memory than one forward pass.
    """
    x0, noised, t = noised_to(x0, t_test, generator, schedule, noise)
    stitched = x0
    for box in boxes.to(x0.device):
        output = predict_x0(network, torch.where(box, noised, x0), t, objective=objective)
        stitched = torch.where(box, output, stitched)
    return to_unit(stitched)

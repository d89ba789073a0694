"""Forward process, training loss and one-step reconstruction (docs/paper.md#diffusion, docs/paper.md#inference)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from uad.diffusion.schedule import Schedule
from uad.diffusion.simplex import NoiseOptions, noise_like

OBJECTIVES = ("x0", "residual")


def to_signed(images: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], the range the U-Net works in (docs/paper.md#packing)."""
    return 2 * images - 1


def to_unit(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], the inverse of `to_signed`."""
    return (images + 1) / 2


def q_sample(x0: Tensor, t: Tensor, noise: Tensor, schedule: Schedule) -> Tensor:
    """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) n for x0, noise [B, 1, H, W] and indices t [B] in 0..T-1."""
    return schedule.signal[t][:, None, None, None] * x0 + schedule.noise[t][:, None, None, None] * noise


def predict_x0(
    network: Callable[..., Tensor], x_t: Tensor, t: Tensor, condition: Tensor | None = None, objective: str = "x0"
) -> Tensor:
    """The reconstruction in [-1, 1], float32, not clamped (D16).

    objective "x0": the network's output is the reconstruction (the authors' code); "residual": the output is
    subtracted from x_t (the paper's text).
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is {objective!r}, it must be one of {OBJECTIVES}")
    output = network(x_t, t, condition).float()
    return output if objective == "x0" else x_t - output


def training_loss(
    network: Callable[..., Tensor],
    x0: Tensor,
    generator: torch.Generator,
    schedule: Schedule,
    noise: NoiseOptions,
    condition: Tensor | None = None,
    objective: str = "x0",
) -> Tensor:
    """L1 between x0 and its reconstruction at a random t, mean over all pixels, in [-1, 1] (docs/paper.md#diffusion).

    x0 [B, 1, H, W] in [0, 1] (augmentation may leave that range), condition [B, d] or None -> scalar.
    Each sample has its own t, uniform on 0..T-1 (D15).
    """
    x0 = to_signed(x0)
    t = torch.randint(schedule.steps, (len(x0),), generator=generator, device=generator.device).to(x0.device)
    x_t = q_sample(x0, t, noise_like(x0, generator, **noise._asdict()), schedule)
    return F.l1_loss(predict_x0(network, x_t, t, condition, objective), x0)


def noised_to(
    x0: Tensor, t_test: int, generator: torch.Generator, schedule: Schedule, noise: NoiseOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Slices [B, 1, H, W] in [0, 1] noised to level `t_test` in 1..T: x0 and x_t in [-1, 1], and t [B] (D15)."""
    if not 1 <= t_test <= schedule.steps:
        raise ValueError(f"t_test is {t_test}, it must be in 1..{schedule.steps}")
    x0 = to_signed(x0)
    t = torch.full((len(x0),), t_test - 1, device=x0.device)
    return x0, q_sample(x0, t, noise_like(x0, generator, **noise._asdict()), schedule), t


@torch.no_grad()
def reconstruct(
    network: Callable[..., Tensor],
    x0: Tensor,
    t_test: int,
    generator: torch.Generator,
    schedule: Schedule,
    noise: NoiseOptions,
    condition: Tensor | None = None,
    objective: str = "x0",
) -> Tensor:
    """One forward pass from noise level `t_test` in 1..T, index t_test - 1 (docs/paper.md#inference).

    x0: slices of one volume, [B, 1, H, W] in [0, 1]. Returns float32 of the same shape, in [0, 1] space but
    not clamped. Put the network in eval mode first.
    """
    _, x_t, t = noised_to(x0, t_test, generator, schedule, noise)
    return to_unit(predict_x0(network, x_t, t, condition, objective))

"""Noise schedule of the diffusion arms (docs/paper.md#diffusion)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Schedule(NamedTuple):
    """Per-step tensors of length T, float32: x_t = signal[t] * x_0 + noise[t] * n.

    betas: variance added by each step. abar: product of (1 - beta) up to and including the step.
    signal: sqrt(abar). noise: sqrt(1 - abar).
    """

    betas: Tensor
    abar: Tensor
    signal: Tensor
    noise: Tensor

    @property
    def steps(self) -> int:
        return len(self.betas)


def cosine_schedule(steps: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """abar ~ cos^2(pi / 2 (u + s) / (1 + s)) at u = t/T, betas clipped to `max_beta` (docs/paper.md#diffusion, D18)."""
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    betas = (1 - f[1:] / f[:-1]).clamp(max=max_beta)
    abar = torch.cumprod(1 - betas, dim=0)
    return Schedule(betas.float(), abar.float(), abar.sqrt().float(), (1 - abar).sqrt().float())

"""Forward process, training loss and one-step reconstruction (docs/paper.md#diffusion, docs/paper.md#inference)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from uad.diffusion.noise import NoiseOptions, noise_like
from uad.diffusion.schedule import Schedule, cosine_schedule

OBJECTIVES = ("x0", "residual")


def to_signed(images: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], the range the U-Net works in (docs/paper.md#packing)."""
    return 2 * images - 1


def to_unit(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], the inverse of `to_signed`."""
    return (images + 1) / 2


def q_sample(x0: Tensor, t: Tensor, noise: Tensor, schedule: Schedule) -> Tensor:
    """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) n for x0, noise [B, 1, H, W] and indices t [B] in 0..T-1.

    All three lie on one device; the schedule may lie on another.
    """
    signal, spread = (values.to(x0.device)[t][:, None, None, None] for values in (schedule.signal, schedule.noise))
    return signal * x0 + spread * noise


@dataclass(frozen=True, eq=False)
class Denoiser:
    """How a network is trained on noised slices and reconstructs them.

    network: (x_t [B, 1, H, W], t [B], condition [B, d] or None) -> [B, 1, H, W].  Slices x0 [B, 1, H, W] come in
    [0, 1] (augmentation may leave that range) and go through the network in [-1, 1].

    objective "x0": the network's output is the reconstruction (the authors' code); "residual": the output is
    subtracted from x_t (the paper's text).
    """

    noise: NoiseOptions
    objective: str = "x0"
    schedule: Schedule = field(default_factory=cosine_schedule)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective is {self.objective!r}, it must be one of {OBJECTIVES}")

    def loss(
        self,
        network: Callable[..., Tensor],
        x0: Tensor,
        generator: torch.Generator,
        condition: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """L1 between x0 and its reconstruction at a random t, mean over all pixels, in [-1, 1]: a scalar.

        Each sample has its own t, uniform on 0..T-1 (docs/paper.md#diffusion, D15).
        seen: what is noised in place of x0, in its range; None: x0 itself.
        """
        x0 = to_signed(x0)
        t = random_integers(self.schedule.steps, x0, generator)
        x_t = self.noised(x0 if seen is None else to_signed(seen), t, generator)
        return F.l1_loss(self.denoised(partial(self.predict_x0, network, t, condition), x0, x_t, generator), x0)

    @torch.no_grad()
    def reconstruct(
        self,
        network: Callable[..., Tensor],
        x0: Tensor,
        t_test: int,
        generator: torch.Generator,
        condition: Tensor | None = None,
    ) -> Tensor:
        """One forward pass from noise level `t_test` in 1..T, index t_test - 1 (docs/paper.md#inference, D15).

        x0: slices of one volume. Returns float32 of the same shape, in [0, 1] space but not clamped. Put the network
        in eval mode first.
        """
        x0 = to_signed(x0)
        x_t = self.noised(x0, self.indices(t_test, x0), generator)
        return to_unit(self.predictor(network, x0, condition)(x_t, t_test))

    def predictor(
        self, network: Callable[..., Tensor], x0: Tensor, condition: Tensor | None = None
    ) -> Callable[[Tensor, int], Tensor]:
        """What the network makes of noised slices: a function (x_t, noise level in 1..T) -> x0, all in [-1, 1].

        x0: the slices without noise, which those see that noise a part of a slice.
        """

        def predict(x_t: Tensor, level: int) -> Tensor:
            t = self.indices(level, x_t)
            return self.denoised(partial(self.predict_x0, network, t, condition), x0, x_t)

        return predict

    def indices(self, level: int, x0: Tensor) -> Tensor:
        """The index of a noise level in 1..T, once for each sample of x0, int64 [B]."""
        if not 1 <= level <= self.schedule.steps:
            raise ValueError(f"t_test is {level}, it must be in 1..{self.schedule.steps}")
        return torch.full((len(x0),), level - 1, device=x0.device)

    def noised(self, x0: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """x_t for x0 in [-1, 1] and indices t [B], with noise from `generator`."""
        return q_sample(x0, t, noise_like(x0, generator, self.noise), self.schedule)

    def predict_x0(self, network: Callable[..., Tensor], t: Tensor, condition: Tensor | None, x_t: Tensor) -> Tensor:
        """The reconstruction in [-1, 1], float32, not clamped (D16)."""
        output = network(x_t, t, condition).float()
        return output if self.objective == "x0" else x_t - output

    def denoised(
        self, predict: Callable[[Tensor], Tensor], x0: Tensor, x_t: Tensor, training: torch.Generator | None = None
    ) -> Tensor:
        """How x_t goes through the network: here whole.  x0 is for those that noise a part of it."""
        return predict(x_t)


def random_integers(end: int, x0: Tensor, generator: torch.Generator) -> Tensor:
    """One of 0..end-1 for each sample of x0, int64 [B]; `generator` may live on another device."""
    return torch.randint(end, (len(x0),), generator=generator, device=generator.device).to(x0.device)

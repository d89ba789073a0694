"""The reverse chain in steps, for networks that predict x0 (Ho et al. 2020, arXiv 2006.11239; Song et al. 2021,
arXiv 2010.02502).

Noise levels go from 0, the clean slice, to T; level t has the schedule's index t - 1.  All slices are in [-1, 1].  The
prediction x0 says how much of x_t is noise, eps = (x_t - sqrt(abar_t) x0) / sqrt(1 - abar_t), and with it where the
chain is at a lower level.  The formulas hold for noise of any covariance, since they are linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from uad.diffusion.schedule import Schedule

Predict = Callable[[Tensor, int], Tensor]  # (x_t, level 1..T) -> x0


def descent(start: int, steps: int, through: Sequence[int] = ()) -> list[int]:
    """Levels from `start` down to 0 in `steps` equal steps, rounded, and those of `through` that lie between."""
    even = {start - start * step // steps for step in range(steps + 1)}
    return sorted(even | {level for level in through if 0 < level < start}, reverse=True)


def noised(x0: Tensor, level: int, noise: Tensor, schedule: Schedule) -> Tensor:
    """x0 at a noise level from 0 to T."""
    signal, spread = _share(schedule, level)
    return signal * x0 + spread * noise


def stepped(x_t: Tensor, x0: Tensor, t: int, s: int, schedule: Schedule, noise: Tensor | None = None) -> Tensor:
    """The chain goes from level t to the lower level s.

    Args:
        x0: what the network predicts from x_t.
        noise: None: a step of DDIM, which draws nothing (eta 0).  Else an ancestral step, a draw from DDPM's
            posterior q(x_s | x_t, x0) with this noise.
    """
    signal, spread = _share(schedule, t)
    signal_s, spread_s = _share(schedule, s)
    eps = (x_t - signal * x0) / spread
    if noise is None:
        return signal_s * x0 + spread_s * eps
    # the shares of eps and of new noise: together, as a sum of squares, spread_s^2
    kept, drawn = spread_s**2 * signal / (signal_s * spread), spread_s / spread * _added(schedule, t, s)
    return signal_s * x0 + kept * eps + drawn * noise


def renoised(x_s: Tensor, s: int, t: int, noise: Tensor, schedule: Schedule) -> Tensor:
    """A draw from q(x_t | x_s): up again from level s to the higher level t."""
    return _share(schedule, t)[0] / _share(schedule, s)[0] * x_s + _added(schedule, t, s) * noise


def restored(predict: Predict, x_t: Tensor, levels: Sequence[int], schedule: Schedule) -> Tensor:
    """x0 by DDIM from x_t at the first of `levels`, as `descent` gives them; one prediction per step."""
    for t, s in pairwise(levels):
        x_t = stepped(x_t, predict(x_t, t), t, s, schedule)
    return x_t


def _share(schedule: Schedule, level: int) -> tuple[float, float]:
    """sqrt(abar) and sqrt(1 - abar) at a level."""
    return (schedule.signal[level - 1].item(), schedule.noise[level - 1].item()) if level else (1.0, 0.0)


def _added(schedule: Schedule, t: int, s: int) -> float:
    """Standard deviation of the noise that comes on top between level s and level t: sqrt(1 - abar_t / abar_s)."""
    # from the betas, since a difference of values near 1 would lose its digits at either end of the schedule
    return math.sqrt(-math.expm1(schedule.betas[s:t].double().neg().log1p().sum().item()))

"""Whether the anomaly maps of another program have the orientation of the packed scans.

A map is 0 outside the brain. If it is turned, part of its sum lies outside the brain; turned back, all lies inside.
Left and right look alike, so a map with x reversed is not noticed.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

_TURNED_IS_RIGHT = 0.25  # of what lies outside as the maps are, at most this share is outside once they are turned


class Turn(NamedTuple):
    """Another orientation of a map [Z, Y, X]: first its axes change order, then some are reversed."""

    order: tuple[int, ...]
    reversed: tuple[int, ...]

    def of(self, values: np.ndarray) -> np.ndarray:
        """The map, turned."""
        return np.flip(values.transpose(self.order), self.reversed)

    def __str__(self) -> str:
        moved = [axis for axis in (2, 1, 0) if self.order[axis] != axis]
        words = [f"{'zyx'[axis]} in place of {'zyx'[self.order[axis]]}" for axis in moved]
        if len(moved) == 2:
            words = [" and ".join("zyx"[axis] for axis in moved) + " swapped"]
        return ", ".join(words + [f"{'zyx'[axis]} reversed" for axis in self.reversed])


def turns_of(shape: tuple[int, int, int]) -> list[Turn]:
    """All turns that keep the shape; the simplest first, which is none at all."""
    orders = [order for order in itertools.permutations(range(3)) if tuple(shape[axis] for axis in order) == shape]
    turns = [
        Turn(order, flipped)
        for order in orders
        for count in range(4)
        for flipped in itertools.combinations(range(3), count)
    ]
    return sorted(turns, key=lambda turn: sum(a != b for a, b in enumerate(turn.order)) + len(turn.reversed))


class Placement:
    """How much of a cohort's maps lies outside the brain, as they are and turned."""

    def __init__(self) -> None:
        self._outside: list[list[float]] = []  # per map, per turn

    def add(self, values: np.ndarray, brain: np.ndarray) -> None:
        """Count a map; both [Z, Y, X], values of at least 0 that are not 0 everywhere, brain bool."""
        self._turns = turns_of(values.shape)
        weights = values.astype(np.float64)
        total = weights.sum()
        self._outside.append([1 - turn.of(weights)[brain].sum() / total for turn in self._turns])

    def outside(self) -> float:
        """Mean share of a map's sum outside of the brain, in [0, 1]; 0 without maps."""
        return float(np.mean(self._outside, axis=0)[0]) if self._outside else 0.0

    def better(self) -> tuple[Turn, float] | None:
        """The turn that puts the maps into the brain, and the share that it leaves outside; None if none does."""
        if not self._outside:
            return None
        shares = np.mean(self._outside, axis=0).round(3)  # of turns that fit alike the simplest
        best = int(np.argmin(shares))
        if shares[best] > _TURNED_IS_RIGHT * shares[0] or best == 0:
            return None
        return self._turns[best], float(shares[best])

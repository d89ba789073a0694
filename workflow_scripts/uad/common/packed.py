"""A packed scan, as methods read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Scan(NamedTuple):
    """One packed volume: all arrays [Z, Y, X]."""

    subject: str
    image: np.ndarray  # float32 in [0, 1], background 0
    mask: np.ndarray  # bool, brain
    label: np.ndarray  # uint8: 0 none, 1 lesion, 2 excluded; only control methods may look

"""Seeded random streams and smooth random fields over the head, independent of any voxel grid."""

from __future__ import annotations

import zlib

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

# The box of millimetres (MNI152 world, RAS) that every field and every map of the phantom covers.
BOX_LOW = np.array([-100.0, -136.0, -122.0])
BOX_HIGH = np.array([102.0, 124.0, 120.0])


def stream(seed: int, cohort: str, index: int, purpose: str) -> np.random.Generator:
    """A random generator of its own for one purpose of one subject.

    Separate streams keep e.g. the anatomy the same when a finer grid draws more noise values.
    """
    return np.random.default_rng([seed, zlib.crc32(cohort.encode()), index, zlib.crc32(purpose.encode())])


class SmoothField:
    """A Gaussian random field, linearly interpolated: the sum of parts of different smoothness.

    Args:
        parts: correlation length in mm -> standard deviation.
    """

    def __init__(self, rng: np.random.Generator, parts: dict[float, float]):
        self.spacing = min(parts) / 2
        shape = np.ceil((BOX_HIGH - BOX_LOW) / self.spacing).astype(int) + 5
        self.origin = BOX_LOW - 2 * self.spacing
        self.values = np.zeros(shape, np.float32)
        for length, deviation in parts.items():
            noise = rng.standard_normal(shape, dtype=np.float32)
            smooth = gaussian_filter(noise, 0.7 * length / self.spacing, mode="wrap", truncate=3)
            self.values += np.float32(deviation / smooth.std()) * smooth

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Values at `points` [3, M] (mm, RAS); outside the box the nearest value is used."""
        indices = to_indices(points, self.origin, self.spacing)
        return map_coordinates(self.values, indices, order=1, mode="nearest")

    def bounded(self, points: np.ndarray) -> np.ndarray:
        """Values at `points`, clipped to +-2."""
        return np.clip(self(points), -2, 2)


def to_indices(points: np.ndarray, origin: np.ndarray, spacing: float) -> np.ndarray:
    """Array indices [3, M] of `points` [3, M] in mm, for an array at `origin` with isotropic `spacing`."""
    return (points - origin.astype(np.float32)[:, None]) / np.float32(spacing)


def step(value: np.ndarray, width_mm: float = 2.5) -> np.ndarray:
    """Soft step of a signed distance: 0 below -width/2, 1 above width/2, linear between (partial volume)."""
    return np.clip(0.5 + value / width_mm, 0, 1)

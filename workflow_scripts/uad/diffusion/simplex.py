"""2-D OpenSimplex noise in octaves, for a whole batch at once (docs/paper.md#noise, D17).

In the basis (u, v) of its lattice, OpenSimplex noise is a plain sum over the lattice points (i, j),

    noise(u, v) = 16/47  sum_ij  max(0, 1 - p^2 - pq - q^2)^4  (g_ij . (p, q)),     p = u - i,  q = v - j,

where p^2 + pq + q^2 is half the squared distance in the plane and g_ij one of 8 gradients, picked by a
permutation of 0..255 that the seed shuffles. A point is in reach of the three corners of its triangle and
of at most one lattice point more: the reflection of the corner that has the smallest barycentric coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

STRETCH = (1 / math.sqrt(3) - 1) / 2  # plane -> lattice basis: u = x + STRETCH (x + y)
SQUISH = (math.sqrt(3) - 1) / 2  # lattice basis -> plane: x = u + SQUISH (u + v)
SCALE = 16 / 47
PERIOD = 256  # of the lattice's gradients, in cells
GRADIENTS = ((5, 2), (2, 5), (-5, 2), (-2, 5), (5, -2), (2, -5), (-5, -2), (-2, -5))
LCG_MULTIPLIER, LCG_INCREMENT = np.int64(6364136223846793005), np.int64(1442695040888963407)


def permutations(seeds: np.ndarray) -> np.ndarray:
    """Seeds int [B] -> int64 [B, 256]: a shuffle of 0..255 per seed, by a 64-bit congruential generator."""
    state = np.asarray(seeds, dtype=np.int64)
    states = np.empty((PERIOD, len(state)), np.int64)
    for _ in range(3):
        state = state * LCG_MULTIPLIER + LCG_INCREMENT
    for row in states:
        state = row[:] = state * LCG_MULTIPLIER + LCG_INCREMENT
    lasts = range(PERIOD - 1, -1, -1)
    picks = (states.T + 31) % (np.array(lasts) + 1)
    return np.array([_shuffled(own, lasts) for own in picks.tolist()]).reshape(-1, PERIOD)


def _shuffled(picks: Sequence[int], lasts: Sequence[int]) -> list[int]:
    source, shuffled = list(range(PERIOD)), [0] * PERIOD
    for pick, last in zip(picks, lasts, strict=True):
        shuffled[last], source[pick] = source[pick], source[last]
    return shuffled


class _Geometry(NamedTuple):
    """What does not depend on the seed: B is 1 where all samples have the same lattice coordinates.

    rows, columns: whole cells of the window of lattice points in reach, int64 [I], [J].
    corners: of each of the four points in reach of a pixel, its place in the window, int64 [B, P], and the weighted
        distance along u and v, [B, P].
    """

    rows: Tensor
    columns: Tensor
    corners: list[tuple[Tensor, Tensor, Tensor]]


def _geometry(i: Tensor, j: Tensor, fu: Tensor, fv: Tensor) -> _Geometry:
    """Whole cells i, j and fractions fu, fv in [0, 1] of lattice coordinates, all four floating point [B, P]."""
    i_first, j_first = int(i.min()) - 1, int(j.min()) - 1
    rows = torch.arange(i_first, int(i.max()) + 3, device=i.device)
    columns = torch.arange(j_first, int(j.max()) + 3, device=i.device)
    stride = len(columns)

    # The upper triangle of a cell is the lower one turned by half a turn about the middle of the cell.
    upper = (fu + fv > 1).to(fu.dtype)
    sign = 1 - 2 * upper
    fu, fv = (upper - fu).abs_(), (upper - fv).abs_()
    # Positions in the window stay in floating point, where they are exact and cheaper than 64-bit integers.
    origin = (i - i_first + upper) * stride + (j - j_first + upper)

    # Of the three barycentric coordinates (1 - fu - fv, fu, fv), the smallest says which corner is reflected.
    beyond = 1 - fu - fv <= torch.minimum(fu, fv)
    extra_u = 2 * (beyond | (fu > fv)).to(fu.dtype) - 1
    extra_v = 2 * (beyond | (fu <= fv)).to(fu.dtype) - 1

    corners = []
    nearest = torch.tensor([[0, 0], [1, 0], [0, 1]], dtype=fu.dtype, device=fu.device)
    for a, b in (*nearest, (extra_u, extra_v)):
        p, q = fu - a, fv - b
        half_square = (p + q).mul_(p).addcmul_(q, q)
        weight = (1 - half_square).clamp_(min=0).square_().square_().mul_(sign)
        corners.append((torch.addcmul(origin, sign, a * stride + b).long(), p.mul_(weight), q.mul_(weight)))
    return _Geometry(rows, columns, corners)


def _gradient_window(perm: Tensor, i: Tensor, j: Tensor, dtype: torch.dtype) -> Tensor:
    """Gradients (lattice basis) at the points i x j, int64 [B or 1, I], [B or 1, J]: -> [2, B, I * J]."""
    gradients = torch.tensor(GRADIENTS, dtype=dtype, device=perm.device)
    gradients = (gradients + SQUISH * gradients.sum(dim=1, keepdim=True)) * SCALE
    hashes = (perm.gather(1, (i & 255).expand(len(perm), -1))[:, :, None] + j[:, None]) & 255
    which = perm.gather(1, hashes.flatten(1)).bitwise_and_(14) >> 1
    return torch.stack([gradients[:, 0][which], gradients[:, 1][which]])


def _lattice_noise(geometry: _Geometry, perm: Tensor, cells: Tensor) -> Tensor:
    """Noise -> [B, P]. perm: permutations [B, 256]. cells: offset of each sample in whole cells, int64 [B or 1, 2]."""
    _, along_u, _ = geometry.corners[0]
    rows, columns = geometry.rows + cells[:, :1], geometry.columns + cells[:, 1:]
    gradient_u, gradient_v = _gradient_window(perm, rows, columns, along_u.dtype)
    total = torch.zeros(len(perm), along_u.shape[1], dtype=along_u.dtype, device=perm.device)
    for place, along_u, along_v in geometry.corners:
        place = place.expand(len(perm), -1)
        total.addcmul_(gradient_u.gather(1, place), along_u)
        total.addcmul_(gradient_v.gather(1, place), along_v)
    return total


def noise2(x: Tensor, y: Tensor, seeds: np.ndarray) -> Tensor:
    """OpenSimplex noise at the points (x, y), float64 [P], for each of B seeds -> float64 [B, P]."""
    stretch = STRETCH * (x + y)
    u, v = (x + stretch)[None], (y + stretch)[None]
    i, j = u.floor(), v.floor()
    perm = torch.from_numpy(permutations(seeds)).to(x.device)
    origin = torch.zeros(1, 2, dtype=torch.long, device=x.device)
    return _lattice_noise(_geometry(i, j, u - i, v - j), perm, origin)


def _cells(parts: tuple[Tensor, ...], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """The sum of float64 parts as whole cells and a fraction, both float32; the cells cost no precision."""
    whole: Any = sum(part.floor().float().to(device) for part in parts)
    fraction: Any = sum((part - part.floor()).float().to(device) for part in parts)
    carry = fraction.floor()
    return whole + carry, fraction - carry


def _octave_geometry(height: int, width: int, cells_per_pixel: float, part: Tensor, device: str) -> _Geometry:
    """Of all pixels of an image, moved by `part` of a cell, float64 [B, 2]."""
    # Coordinates are laid out in float64 on the CPU (not every device has it), as three short vectors.
    x = torch.arange(width, dtype=torch.float64)[None, None, :] * cells_per_pixel
    y = torch.arange(height, dtype=torch.float64)[None, :, None] * cells_per_pixel
    i, fu = _cells((x * (1 + STRETCH), y * STRETCH, part[:, 0, None, None]), device)
    j, fv = _cells((x * STRETCH, y * (1 + STRETCH), part[:, 1, None, None]), device)
    return _geometry(*(coordinate.flatten(1) for coordinate in (i, j, fu, fv)))


@lru_cache(maxsize=16)
def _unmoved_geometry(height: int, width: int, cells_per_pixel: float, device: str) -> _Geometry:
    return _octave_geometry(height, width, cells_per_pixel, torch.zeros(1, 2, dtype=torch.float64), device)


def octave_noise(
    height: int,
    width: int,
    seeds: np.ndarray,
    octaves: int = 6,
    persistence: float = 0.8,
    wavelength: float = 64.0,
    offset: bool = False,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Octaves of OpenSimplex noise, summed without normalisation, one field per seed (docs/paper.md#noise, D17).

    Octave k has the wavelength `wavelength` / 2^k (pixels) and the amplitude `persistence`^k.
    offset False: all octaves share their lattice origin, so pixel (0, 0) is always 0 (the authors' noise).
    offset True: each field and octave is moved by its own random offset, drawn from the seed, which makes the
    noise equally strong everywhere (whole cells count too: octaves that meet in a cell share its gradients).

    Returns float32 [B, height, width] on `device`; with the defaults the standard deviation is about 0.59.
    """
    perm, device = torch.from_numpy(permutations(seeds)).to(device), str(device)
    cells = torch.zeros(1, octaves, 2, dtype=torch.long, device=device)
    if offset:
        shifts = [np.random.default_rng(int(seed) % 2**64).uniform(0, PERIOD, (octaves, 2)) for seed in seeds]
        shift = torch.from_numpy(np.stack(shifts))
        cells, part = shift.floor().long().to(device), shift - shift.floor()
    total = torch.zeros(len(perm), height * width, device=device)
    for octave in range(octaves):
        frequency = 2**octave / wavelength
        if offset:
            geometry = _octave_geometry(height, width, frequency, part[:, octave], device)
        else:
            geometry = _unmoved_geometry(height, width, frequency, device)
        total += persistence**octave * _lattice_noise(geometry, perm, cells[:, octave])
    return total.view(-1, height, width)

"""Slices drawn from volumes, plain or augmented as the authors do with TorchIO (docs/paper.md#augmentation).

The authors apply RandomGamma, RandomBiasField, RandomBlur and RandomGhosting to a whole volume and keep one
axial slice. After the pointwise gamma and bias field f, blur and ghosting are linear and act on each axis by
itself, so the slice z is

    out = A_y (sum_k A_z[z, k] f(volume[k])) A_x^T,     A = ghosting @ blur of each axis,

which needs only the slices k where A_z[z, k] is not 0. Order, distributions and boundary handling are those
of TorchIO 1.2 at its defaults; its axes (0, 1, 2) are our (x, y, z).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Volumes = Sequence[np.ndarray] | np.ndarray

LOG_GAMMA = 0.3
BIAS_COEFFICIENT = 0.5
BIAS_ORDER = 3
MAX_BLUR_MM = 2.0
BLUR_TRUNCATE = 4.0
GHOSTS = (4, 10)
GHOST_INTENSITY = (0.5, 1.0)
# Powers (x, y, z) of the polynomial's terms, in the order of their coefficients.
BIAS_POWERS = [
    (a, b, c) for a in range(BIAS_ORDER + 1) for b in range(BIAS_ORDER + 1 - a) for c in range(BIAS_ORDER + 1 - a - b)
]


class Parameters(NamedTuple):
    """One draw of all four transforms for B samples; a neutral value leaves its transform out.

    gamma [B]: exponent (1). bias [B, 20]: polynomial coefficients in the order of BIAS_POWERS (0).
    blur_mm [B, 3]: standard deviations along x, y, z in mm (0). ghosts [B] int64: spacing of the attenuated
    k-space planes. ghost_axis [B] int64: 0 x, 1 y, 2 z. ghost_intensity [B]: 1 removes the planes (0).
    """

    gamma: Tensor
    bias: Tensor
    blur_mm: Tensor
    ghosts: Tensor
    ghost_axis: Tensor
    ghost_intensity: Tensor


def draw_parameters(
    batch: int,
    generator: torch.Generator,
    p_gamma: float = 0.5,
    p_bias: float = 0.25,
    p_blur: float = 0.25,
    p_ghosting: float = 0.5,
) -> Parameters:
    """Parameters for `batch` samples at TorchIO's defaults, each transform present with its probability."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    def present(probability: float) -> Tensor:
        return (torch.rand(batch, generator=generator) < probability).float()

    return Parameters(
        gamma=torch.exp(present(p_gamma) * uniform(-LOG_GAMMA, LOG_GAMMA)),
        bias=present(p_bias)[:, None] * uniform(-BIAS_COEFFICIENT, BIAS_COEFFICIENT, len(BIAS_POWERS)),
        blur_mm=present(p_blur)[:, None] * uniform(0, MAX_BLUR_MM, 3),
        ghosts=torch.randint(GHOSTS[0], GHOSTS[1] + 1, (batch,), generator=generator),
        ghost_axis=torch.randint(3, (batch,), generator=generator),
        ghost_intensity=present(p_ghosting) * uniform(*GHOST_INTENSITY),
    )


def blur_matrices(length: int, sigma: Tensor) -> Tensor:
    """Gaussian blur, cut at 4 sigma, mirrored border: sigma [B] in voxels -> float64 [B, length, length]."""
    sigma = sigma.double()
    radius = (BLUR_TRUNCATE * sigma + 0.5).floor()
    reach = torch.arange(-int(radius.max()), int(radius.max()) + 1)
    weights = torch.exp(-0.5 * (reach / sigma.clamp(min=1e-6)[:, None]) ** 2)
    weights = weights * (reach.abs() <= radius[:, None])
    weights = weights / weights.sum(dim=1, keepdim=True)
    # Beyond the border the image repeats mirrored, with its edge voxel doubled: period 2 * length.
    source = (torch.arange(length)[:, None] + reach) % (2 * length)
    source = torch.minimum(source, 2 * length - 1 - source)
    matrices = torch.zeros(len(sigma), length, length, dtype=torch.float64)
    matrices.scatter_add_(2, source.expand(len(sigma), -1, -1), weights[:, None].expand(-1, length, -1))
    return matrices


def ghosting_matrices(length: int, ghosts: Tensor, intensity: Tensor) -> Tensor:
    """Ghosting along one axis as circulant matrices: ghosts, intensity [B] -> float64 [B, length, length].

    Counted from the most negative frequency, every `ghosts`-th k-space plane is multiplied by 1 - intensity,
    but not the plane of frequency 0; the real part of the inverse transform is kept.
    """
    plane = torch.arange(length)
    attenuated = (plane % ghosts[:, None] == 0) & (plane != length // 2)
    removed = torch.fft.ifft(torch.fft.ifftshift(attenuated.double(), dim=1), dim=1).real
    response = -intensity.double()[:, None] * removed
    response[:, 0] += 1
    return response[:, (plane[:, None] - plane) % length]


def axis_matrices(length: int, axis: int, parameters: Parameters, spacing_mm: float) -> Tensor:
    """Blur, then ghosting, along one axis (0 x, 1 y, 2 z): -> float64 [B, length, length]."""
    intensity = torch.where(parameters.ghost_axis == axis, parameters.ghost_intensity, 0.0)
    blur = blur_matrices(length, parameters.blur_mm[:, axis] / spacing_mm)
    return ghosting_matrices(length, parameters.ghosts, intensity) @ blur


def powers(length: int) -> Tensor:
    """Powers 0..3 of the position along an axis, -1 at its first voxel and 1 at its last: [4, length]."""
    position = torch.linspace(-1, 1, length) if length > 1 else torch.zeros(1)
    return position ** torch.arange(BIAS_ORDER + 1)[:, None]


def bias_fields(coefficients: Tensor, z: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """exp(polynomial) at the slices z [M] of volumes of `shape` (Z, Y, X): [M, 20] -> float32 [M, Y, X]."""
    a, b, c = torch.tensor(BIAS_POWERS).T
    planar = torch.zeros(len(z), BIAS_ORDER + 1, BIAS_ORDER + 1)
    terms = coefficients * powers(shape[0])[:, z].T[:, c]
    planar.index_put_((torch.arange(len(z))[:, None], b[None], a[None]), terms, accumulate=True)
    return torch.exp(powers(shape[1]).T @ planar @ powers(shape[2]))


def _read(volumes: Volumes, rows: Tensor, slices: Tensor) -> Tensor:
    stack = np.stack([volumes[row][z] for row, z in zip(rows.tolist(), slices.tolist(), strict=True)])
    return torch.from_numpy(stack.astype(np.float32, copy=False))


def augment(volumes: Volumes, rows: Tensor, slices: Tensor, parameters: Parameters, spacing_mm: float) -> Tensor:
    """Slices of the volumes that TorchIO would give for these parameters: float32 [B, n, Y, X].

    volumes: array, memmap or list, [N, Z, Y, X]; only the slices that count are read, each once.
    rows: int64 [B], volume of each sample. slices: int64 [B, n], those of it that are wanted; 0 beyond the volume.
    spacing_mm: isotropic voxel size.
    """
    shape = tuple(volumes[0].shape)
    along_z, along_y, along_x = (
        axis_matrices(n, axis, parameters, spacing_mm) for axis, n in zip((2, 1, 0), shape, strict=True)
    )
    inside = (slices >= 0) & (slices < shape[0])
    weights = along_z[torch.arange(len(rows))[:, None], slices.clamp(0, shape[0] - 1)] * inside[..., None]
    sample, z = torch.nonzero((weights != 0).any(dim=1), as_tuple=True)
    images = _read(volumes, rows[sample], z)

    counts = torch.bincount(sample, minlength=len(rows)).tolist()
    for own, exponent in zip(images.split(counts), parameters.gamma, strict=True):  # each stays in the cache
        if exponent != 1:  # as TorchIO, negative values keep their sign
            own.copy_(own.abs().pow_(exponent.repeat(len(own))[:, None, None]).copysign_(own))
    chosen = (parameters.bias[sample] != 0).any(dim=1)
    images[chosen] *= bias_fields(parameters.bias[sample][chosen], z[chosen], shape)

    combined = torch.zeros(*slices.shape, *shape[1:])
    for k in range(slices.shape[1]):
        share = weights[sample, k, z].float()[:, None, None]
        combined[:, k] = torch.zeros(len(rows), *shape[1:]).index_add_(0, sample, images * share)
    return along_y.float()[:, None] @ combined @ along_x.float().mT[:, None]


def draw_augmented(
    volumes: Volumes,
    rows: Tensor,
    slices: Tensor,
    generator: torch.Generator,
    spacing_mm: float,
    p_gamma: float = 0.5,
    p_bias: float = 0.25,
    p_blur: float = 0.25,
    p_ghosting: float = 0.5,
) -> Tensor:
    """The slices `slices` [B, n] of the volumes `rows` [B], randomly augmented: float32 [B, n, Y, X].

    Arguments as for `augment`; values may leave [0, 1] (docs/paper.md#augmentation). Slices of one sample share their
    draw, since the augmentation is that of the whole volume.
    """
    drawn = draw_parameters(len(rows), generator, p_gamma, p_bias, p_blur, p_ghosting)
    return augment(volumes, rows, slices, drawn, spacing_mm)


def draw_plain(volumes: Volumes, rows: Tensor, slices: Tensor) -> Tensor:
    """The slices `slices` [B, n] of the volumes `rows` [B] as they are, 0 beyond the volume: float32 [B, n, Y, X]."""
    depth, *size = volumes[0].shape
    inside = (slices >= 0) & (slices < depth)
    read = _read(volumes, rows.repeat_interleave(slices.shape[1]), slices.clamp(0, depth - 1).flatten())
    return read.view(*slices.shape, *size) * inside[..., None, None]

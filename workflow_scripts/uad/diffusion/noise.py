"""The noise of the diffusion arms: simplex (docs/paper.md#noise, D17), Gaussian, or a pyramid of Gaussian fields."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from uad.diffusion.simplex import octave_noise

Kind = Literal["simplex", "gaussian", "pyramid"]


class NoiseOptions(NamedTuple):
    """How the diffusion arms draw their noise; the defaults are the authors' (docs/paper.md#noise, D17).

    shared: one field for the whole batch. offset: move each octave's lattice at random.
    half: round to float16. octaves, persistence, wavelength (pixels): of simplex noise, see `octave_noise`.
    kind: simplex, or Gaussian noise, alone or as a pyramid. discount: of the pyramid, see `pyramid_noise`.
    """

    shared: bool = True
    offset: bool = False
    half: bool = True
    octaves: int = 6
    persistence: float = 0.8
    wavelength: float = 64.0
    kind: Kind = "simplex"
    discount: float = 0.8


def noise_like(images: Tensor, generator: Generator, options: NoiseOptions) -> Tensor:
    """Noise for images [B, 1, H, W] -> float32 [B, 1, H, W] on their device, from `generator`.

    With `options.shared` one field is drawn and repeated over the batch (a view, do not write into it).
    """
    batch, _, height, width = images.shape
    count = 1 if options.shared else batch
    if options.kind == "simplex":
        seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device)
        octaves = options.octaves, options.persistence, options.wavelength
        field = octave_noise(height, width, seeds.cpu().numpy(), *octaves, options.offset, images.device)[:, None]
    else:
        shape = (count, 1, height, width)
        pyramid = options.kind == "pyramid"
        field = pyramid_noise(shape, generator, options.discount) if pyramid else gaussian(shape, generator)
        field = field.to(images.device)
    if options.half:
        field = field.half().float()
    return field.expand(batch, 1, height, width)


def gaussian(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Standard normal values on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def pyramid_noise(shape: tuple[int, int, int, int], generator: Generator, discount: float = 0.8) -> Tensor:
    """Gaussian fields of ever lower resolution, summed, of standard deviation 1: [B, 1, H, W], on its device.

    Level i, from 0 on, counts discount^i; its sides are those of the level before divided by r^i, r uniform in 2..4 and
    drawn anew, and it is drawn up bilinearly.  A field of full size comes on top; the level with a side of one pixel is
    the last.  As in AlexanderFrotscher/ANDi, after J. Whitaker's multi-resolution noise (arXiv 2312.01904).
    """
    size = list(shape[2:])
    total, level = gaussian(shape, generator), 0
    while True:
        ratio = 2 + 2 * torch.rand((), generator=generator, device=generator.device).item()
        size = [max(int(side / ratio**level), 1) for side in size]
        coarse = gaussian((*shape[:2], *size), generator)
        total += discount**level * F.interpolate(coarse, shape[2:], mode="bilinear", align_corners=False)
        if 1 in size:
            return total / total.std()
        level += 1

"""What training hides or alters in healthy slices: places, rectangles and smooth shapes in the brain."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

HARMONICS = 4  # of the outline of a smooth shape
EDGE = 3.0  # pixels over which it fades


def uniform(low: float, high: float, shape: tuple[int, ...], like: Tensor, generator: Generator) -> Tensor:
    """Uniform values on the device of `like`, float32; `generator` may live on another one."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device).to(like.device)


def pixels_in(masks: Tensor, count: int, generator: Generator) -> Tensor:
    """`count` pixels of each mask [B, 1, H, W], drawn uniformly and again and again: rows and columns [B, count, 2].

    In a slice without brain any pixel may be drawn.
    """
    weights = masks.flatten(1).float()
    weights = torch.where(weights.any(dim=1, keepdim=True), weights, 1.0).to(generator.device)
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator).to(masks.device)
    return torch.stack([drawn // masks.shape[-1], drawn % masks.shape[-1]], dim=-1)


def rectangles(masks: Tensor, most: int, sides: tuple[float, float], generator: Generator, least: int = 0) -> Tensor:
    """The parts of the brain that `least` to `most` rectangles per slice cover: bool [B, 1, H, W].

    Args:
        masks: brain, bool [B, 1, H, W]; the middle of each rectangle lies in it.
        sides: smallest and largest side, in units of the brain's height in the slice.
    """
    count, _, height, width = masks.shape
    number = uniform(least, most + 1, (count, 1), masks, generator).floor()
    brain_height = masks.any(dim=-1).sum(dim=-1).float()
    extent = uniform(*sides, (2, count, most), masks, generator) * brain_height / 2
    middle = pixels_in(masks, most, generator)
    rows = (torch.arange(height, device=masks.device) - middle[..., 0, None]).abs() <= extent[0, ..., None]
    columns = (torch.arange(width, device=masks.device) - middle[..., 1, None]).abs() <= extent[1, ..., None]
    drawn = torch.arange(most, device=masks.device) < number
    covered = ((rows & drawn[..., None])[..., :, None] & columns[..., None, :]).any(dim=1)
    return covered[:, None] & masks


def smooth_shapes(masks: Tensor, radii: tuple[float, float], generator: Generator) -> tuple[Tensor, Tensor]:
    """One smooth shape per slice, [B, 1, H, W] in [0, 1] and 0 outside the brain, and its middle, a brain pixel [B, 2].

    Its outline is a circle whose radius waves: r (1 + sum_k a_k cos(k angle + phase_k)), k = 1..4, a_k uniform in
    0..0.4 / k.  It fades over three pixels.

    Args:
        masks: brain, bool [B, 1, H, W].
        radii: smallest and largest r, in units of the slice's shorter side.
    """
    count, _, height, width = masks.shape
    middle = pixels_in(masks, 1, generator)[:, 0]
    down = (torch.arange(height, device=masks.device) - middle[:, :1])[:, :, None]
    right = (torch.arange(width, device=masks.device) - middle[:, 1:])[:, None, :]
    angle, distance = torch.atan2(down.float(), right.float()), (down.square() + right.square()).sqrt()
    waves = torch.ones_like(angle)
    for k in range(1, HARMONICS + 1):
        depth = uniform(0, 0.4 / k, (count, 1, 1), masks, generator)
        phase = uniform(0, 2 * math.pi, (count, 1, 1), masks, generator)
        waves += depth * (k * angle + phase).cos()
    radius = uniform(*radii, (count, 1, 1), masks, generator) * min(height, width)
    return (((radius * waves - distance) / EDGE + 0.5).clamp(0, 1)[:, None] * masks), middle


def brought(images: Tensor, from_: Tensor, to: Tensor) -> Tensor:
    """Images [B, 1, H, W] moved round their borders so that pixel `from_` lies at `to`, both int64 [B, 2]."""
    count, _, height, width = images.shape
    shift = from_ - to
    rows = (torch.arange(height, device=images.device) + shift[:, :1]) % height
    columns = (torch.arange(width, device=images.device) + shift[:, 1:]) % width
    sample = torch.arange(count, device=images.device)[:, None, None]
    return images[sample, 0, rows[:, :, None], columns[:, None, :]][:, None]


def blurred(images: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur within the slice, [B, 1, H, W]; outside the image is 0."""
    radius = math.ceil(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=images.device) / sigma) ** 2)
    line = line / line.sum()
    along = F.conv2d(images, line[None, None, :, None], padding=(radius, 0))
    return F.conv2d(along, line[None, None, None, :], padding=(0, radius))

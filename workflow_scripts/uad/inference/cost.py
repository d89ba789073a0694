"""What a method costs before it has run: its weights, and its operations, a multiply-add counted as two.

Networks exist without values here, so that counting takes no time and no memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from uad.common.packed import WHOLE_VOLUME, Batch
from uad.methods import Method
from uad.methods.ddpm import DDPM


def parameters(method: Method, shape: tuple[int, int]) -> int:
    """Weights that a method trains, for slices of `shape` (height, width)."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in method.network(shape).parameters())


def flop_per_slice(method: Method, shape: tuple[int, int], depth: int) -> float:
    """Operations of one forward pass per slice of `shape`, in volumes of `depth` slices.

    What is done once per volume is shared out over its slices.
    """
    network, volume = _empty(method, shape, depth)
    return _counted(method, network, volume)


def flop_per_sample(method: Method, shape: tuple[int, int], depth: int) -> float:
    """The same in a training, where the slices of a batch are of different volumes."""
    network, volume = _empty(method, shape, depth)
    if method.context == WHOLE_VOLUME:
        parts = {name: getattr(volume, name)[:1] for name in ("images", "masks", "positions", "context")}
        volume = replace(volume, **parts)
    return _counted(method, network, volume)


def _empty(method: Method, shape: tuple[int, int], depth: int) -> tuple[Any, Batch]:
    count = depth if method.context == WHOLE_VOLUME else max(method.context, 1)
    with torch.device("meta"):
        images = torch.empty(count, 1, *shape)
        return method.network(shape).eval(), Batch.of_volume(images, images > 0, "t1", method.context)


def _counted(method: Method, network: Any, volume: Batch) -> float:
    steps = torch.zeros(len(volume), dtype=torch.long, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        if isinstance(method, DDPM):
            network(volume.images, steps, method.condition(network, volume))
            return counter.get_total_flops() / len(volume)
        if method.gives == "map":
            method.anomaly_map(network, volume, torch.Generator())
        else:
            method.reconstruct(network, volume, [1] if method.reads_noise_levels else [], torch.Generator())
    return counter.get_total_flops() / len(volume) / method.passes

"""A packed scan, and slices of one, as methods read them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

WHOLE_VOLUME = 0  # as `context`: all slices of the volume


class Scan(NamedTuple):
    """One packed volume: all arrays [Z, Y, X]."""

    subject: str
    image: np.ndarray  # float32 in [0, 1], background 0
    mask: np.ndarray  # bool, brain
    label: np.ndarray  # uint8: 0 none, 1 lesion, 2 excluded; only control methods may look
    modality: str = ""  # t1 or t2


@dataclass(frozen=True, eq=False)
class Batch:
    """Axial slices and where they come from; at inference the slices of one volume, in their order.

    Attributes:
        images: [B, 1, H, W] in [0, 1], background 0; an augmented one may leave that range.
        masks: bool [B, 1, H, W], brain.
        positions: int64 [B], each slice's place in its volume.
        depth: number of slices of a volume.
        modality: t1 or t2.
        context: [B, n, H, W] for a method that asks for n slices: z - n // 2 and those that follow it, so that
            `images` is context[:, n // 2]; 0 beyond the volume.  With `WHOLE_VOLUME` slice k lies at k.  None for a
            method that asks for none.
    """

    images: Tensor
    masks: Tensor
    positions: Tensor
    depth: int
    modality: str
    context: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: Any, **how: Any) -> Batch:
        """The batch with its tensors on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: v.to(device, **how) if hasattr(v, "to") else v for name, v in values.items()})

    @classmethod
    def of_volume(cls, images: Tensor, masks: Tensor, modality: str, context: int = 1) -> Batch:
        """All slices of one volume, images [Z, 1, H, W] and masks alike; `context` as `Method.context` says."""
        import torch

        depth = len(images)
        around = None
        if context == WHOLE_VOLUME:
            around = images[:, 0].expand(depth, *images[:, 0].shape)
        elif context > 1:
            before = context // 2
            padded = torch.nn.functional.pad(images[:, 0], (0, 0, 0, 0, before, context - 1 - before))
            around = padded.unfold(0, context, 1).permute(0, 3, 1, 2)
        return cls(images, masks, torch.arange(depth, device=images.device), depth, modality, around)

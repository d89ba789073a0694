"""pDDPM (Behrendt et al. 2023): the DDPM reads a slice box by box, the rest of it stays clean.  docs/paper.md#pddpm"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from uad.methods.ddpm import DDPM

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class PatchedDDPM(DDPM):
    """Noise one box of a 2x2 grid at a time and stitch the four reconstructions."""

    passes = 4

    def loss(self, network: nn.Module, images: Tensor, generator: Generator) -> Tensor:
        from uad.diffusion.patched import patched_training_loss

        return patched_training_loss(network, images, generator, **self._process(images))

    def reconstruct(self, network: nn.Module, images: Tensor, t_tests: list[int], generator: Generator) -> Tensor:
        import torch

        from uad.diffusion.patched import quarter_boxes, reconstruct_patched

        process = {"boxes": quarter_boxes(*images.shape[2:]), **self._process(images)}
        unet = partial(self.by_slices, network)
        return torch.stack([reconstruct_patched(unet, images, t, generator, **process) for t in t_tests])


METHOD = PatchedDDPM

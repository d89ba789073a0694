"""pDDPM (Behrendt et al. 2023): the DDPM goes through a slice box by box.  docs/paper.md#pddpm"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from uad.methods.ddpm import DDPM

if TYPE_CHECKING:
    from uad.diffusion.process import Denoiser


class PatchedDDPM(DDPM):
    """Noise one box of a 2x2 grid at a time and stitch the four reconstructions."""

    passes = 4

    @cached_property
    def denoiser(self) -> Denoiser:
        from uad.diffusion.noise import NoiseOptions
        from uad.diffusion.patched import PatchedDenoiser

        return PatchedDenoiser(NoiseOptions(**self.params.noise.model_dump()), self.params.objective)


METHOD = PatchedDDPM

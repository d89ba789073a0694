"""Negative control: uniform random scores, whose AUPRC is the prevalence.  docs/methods/chance.md"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uad.methods.base import ArrayMethod, Scan

if TYPE_CHECKING:
    import numpy as np


class Chance(ArrayMethod):
    """Random numbers, untouched by post-processing (which would correlate neighbours)."""

    postprocess = False
    control = True

    def draw(self, scan: Scan, rng: np.random.Generator) -> np.ndarray:
        import numpy as np

        return rng.random(scan.image.shape, dtype=np.float32)


METHOD = Chance

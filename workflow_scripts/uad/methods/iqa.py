"""IQA fusion (Pan et al. 2024): structural dissimilarity and absolute difference, weighted.  docs/methods/iqa.md"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from uad.common.settings import Probability
from uad.methods.base import Scan, ScoringHead, ScoringHeadParams

if TYPE_CHECKING:
    import numpy as np

SIGMA = 1.5  # of the window, in pixels


class FusionParams(ScoringHeadParams):
    structure: Probability = 0.84  # weight of the dissimilarity; the difference has the rest (Zhao et al. 2017)
    radius: int = Field(2, ge=1)  # of the window, in pixels


class Fusion(ScoringHead):
    """Two ways to differ from the reconstruction, in each slice by itself."""

    Params = FusionParams
    params: FusionParams

    def rate(self, scan: Scan, reconstruction: np.ndarray) -> np.ndarray:
        import numpy as np

        from uad.metrics.reconstruction import gaussian_window, ssim_map

        window = gaussian_window(SIGMA, self.params.radius)
        dissimilarity = np.clip((1 - ssim_map(scan.image, reconstruction, (window, window))) / 2, 0, 1)
        difference = np.abs(scan.image - reconstruction)
        fused = self.params.structure * dissimilarity + (1 - self.params.structure) * difference
        return (fused * scan.mask).astype(np.float32)


METHOD = Fusion

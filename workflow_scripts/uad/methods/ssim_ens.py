"""SSIM-ens (Behrendt et al. 2024): structural dissimilarity in windows of several sizes.  docs/methods/ssim_ens.md"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from uad.methods.base import Scan, ScoringHead, ScoringHeadParams

if TYPE_CHECKING:
    import numpy as np


class SSIMEnsembleParams(ScoringHeadParams):
    sigmas: list[float] = Field([0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7], min_length=1)  # of the windows, in voxels


class SSIMEnsemble(ScoringHead):
    """1 - a mean of SSIM maps, in which the window that sees the largest difference counts most."""

    Params = SSIMEnsembleParams
    params: SSIMEnsembleParams

    def rate(self, scan: Scan, reconstruction: np.ndarray) -> np.ndarray:
        import numpy as np

        from uad.metrics.reconstruction import gaussian_window, ssim_map

        weighted, weights = np.zeros(scan.image.shape), np.zeros(scan.image.shape)
        for sigma in self.params.sigmas:
            window = gaussian_window(sigma, int(3.5 * sigma + 0.5))
            similarity = ssim_map(scan.image, reconstruction, (window, window, window))
            weight = np.exp(-similarity)
            weighted += weight * similarity
            weights += weight
        dissimilarity = np.maximum(1 - weighted / weights, 0)  # rounding may leave SSIM above 1
        return (dissimilarity * scan.mask).astype(np.float32)


METHOD = SSIMEnsemble

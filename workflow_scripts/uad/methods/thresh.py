"""Intensity thresholding (Meissen et al. 2022): the scan itself is the anomaly map.  baseline_specs 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from uad.methods.base import Method, Scan

if TYPE_CHECKING:
    import numpy as np


class ThreshParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    invert: bool = False  # dark lesions (T1): 1 - x inside the brain; the paper's T1 numbers are not inverted
    equalise: bool = False  # histogram equalisation inside the brain, as in the original


class Thresh(Method):
    """Bright voxels are anomalous."""

    Params = ThreshParams
    gives = "map"
    trains = False

    def anomaly_map(self, scan: Scan, rng: np.random.Generator) -> np.ndarray:
        import numpy as np

        image = scan.image.astype(np.float32)
        if self.params.equalise:
            from skimage.exposure import equalize_hist

            image = equalize_hist(image, nbins=256, mask=scan.mask).astype(np.float32)
        if self.params.invert:
            image = 1 - image
        return np.clip(image, 0, None) * scan.mask


METHOD = Thresh

"""Intensity thresholding (Meissen et al. 2022): the scan itself is the anomaly map.  docs/paper.md#thresh"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pydantic

from uad.methods.base import ArrayMethod, Scan

if TYPE_CHECKING:
    import numpy as np


class ThreshParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    # dark lesions: 1 - x inside the brain, `auto`: of T1 only; the paper's T1 numbers are not inverted
    invert: bool | Literal["auto"] = False
    equalise: bool = False  # histogram equalisation inside the brain, as in the original


class Thresh(ArrayMethod):
    """Bright voxels are anomalous."""

    Params = ThreshParams
    params: ThreshParams

    def draw(self, scan: Scan, rng: np.random.Generator) -> np.ndarray:
        import numpy as np

        image = scan.image.astype(np.float32)
        if self.params.equalise:
            from skimage.exposure import equalize_hist

            image = equalize_hist(image, nbins=256, mask=scan.mask).astype(np.float32)
        if self.params.invert is True or (self.params.invert == "auto" and scan.modality == "t1"):
            image = 1 - image
        return np.clip(image, 0, None) * scan.mask


METHOD = Thresh

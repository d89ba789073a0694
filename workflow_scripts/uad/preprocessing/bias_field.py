"""Bias field correction by N4.  paper_spec 2, step 5; D12"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uad.preprocessing.itk import ants, to_ants
from uad.volumes import Volume

if TYPE_CHECKING:
    from uad.config.model import BiasFieldSettings


def correct_bias_field(
    image: Volume, brain: Volume, settings: BiasFieldSettings, weighted: bool
) -> tuple[Volume, np.ndarray]:
    """Divide a brain image by its N4 bias field.

    Args:
        weighted: weigh voxels by the brain mask, smoothed by `settings.mask_sigma` voxels; else all voxels
            count alike, background included (the authors' BraTS script, D12).

    Returns:
        The corrected image (float32) and the field [X, Y, Z] it was divided by.
    """
    weights = ants.smooth_image(to_ants(brain), settings.mask_sigma) if weighted else None
    field = ants.n4_bias_field_correction(
        to_ants(image),
        convergence={"iters": [settings.iterations] * settings.levels, "tol": settings.tolerance},
        return_bias_field=True,
        weight_mask=weights,
    ).numpy()
    return image.with_data((image.data / field).astype(np.float32)), field

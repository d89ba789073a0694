"""Bias field correction by N4.  docs/paper.md#n4; D12, D35"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uad.common.volumes import Volume
from uad.preprocessing.itk import ants, to_ants

if TYPE_CHECKING:
    from uad.config.model import BiasFieldSettings


def correct_bias_field(
    image: Volume, brain: Volume, settings: BiasFieldSettings, weights: Volume | None
) -> tuple[Volume, np.ndarray]:
    """Divide a brain image by its N4 bias field.

    Control points and mask are named, because ANTsPy's defaults differ between its versions: one mesh element and
    no mask, as of 0.4, take a large lesion for a bias field (docs/preprocessing.md).

    Args:
        weights: [X, Y, Z] in [0, 1], smoothed here by `settings.mask_sigma` voxels: what each voxel counts. None: all
            voxels of `settings.mask` count alike (the authors' BraTS script, D12).

    Returns:
        The corrected image (float32) and the field [X, Y, Z] it was divided by.
    """
    smooth = None if weights is None else ants.smooth_image(to_ants(weights), settings.mask_sigma)
    scan = to_ants(image)
    field = ants.n4_bias_field_correction(
        scan,
        mask=ants.get_mask(scan) if settings.mask == "get_mask" else to_ants(brain),
        convergence={"iters": [settings.iterations] * settings.levels, "tol": settings.tolerance},
        spline_param=settings.spline_mm,  # a number is mm, a list would be mesh elements
        return_bias_field=True,
        weight_mask=smooth,
    ).numpy()
    return image.with_data((image.data / field).astype(np.float32)), field

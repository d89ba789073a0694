"""The atlas: the grid that all scans are brought to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from uad.common.volumes import Volume, read_image_of_any_unit, reorient
from uad.preprocessing.itk import move_label, resample_spacing

_BRAIN_THRESHOLD = 0.01


@dataclass(frozen=True)
class Atlas:
    """image: float32, brain only; brain: uint8 {0, 1} on the same grid."""

    image: Volume
    brain: Volume


@lru_cache(maxsize=1)
def load_atlas(path: str, orientation: str, spacing_mm: float) -> Atlas:
    """Read a skull-stripped T1 template, reorient it and resample it if its spacing differs.

    Its brain is where values exceed 1 % of the maximum: a template that was resampled before (as nilearn's)
    has traces of ringing far outside, while that of SRI24 keeps every voxel.  Loaded once per process.

    Raises:
        InputError: the file is unusable (see `volumes.read_image`).
    """
    original = reorient(read_image_of_any_unit(path), orientation)
    image, _ = resample_spacing(original, spacing_mm)
    brain = original.with_data((original.data > _BRAIN_THRESHOLD * original.data.max()).astype(np.uint8))
    if image is not original:
        brain = move_label(brain, image, (), "nearestNeighbor")
    return Atlas(image.with_data(image.data * brain.data), brain)

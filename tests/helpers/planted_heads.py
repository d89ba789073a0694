"""A healthy brain and stroke masks in MNI space, for what plants the one into the other."""

from __future__ import annotations

import numpy as np
from nilearn.datasets import load_mni152_template
from scipy.ndimage import affine_transform
from small_heads import SPACING, save, turned

_MASK_MM = np.diag([1.0, 1.0, 1.0, 1.0])


def brain_moved_by(angle_deg, scale, shift_mm):
    """Image (float32, stripped), brain mask (uint8) [X, Y, Z] and affine: the MNI152 brain at 4 mm, moved."""
    template = load_mni152_template(resolution=int(SPACING))
    matrix = turned(angle_deg, scale, shift_mm, template.affine)
    data = affine_transform((template.get_fdata() * 1000).astype(np.float32), matrix, order=1)
    return data, (data > 100).astype(np.uint8), template.affine


def stroke_masks(folder, centre_mm=(-25, -20, 25)):
    """Twelve cubes with edges of 10 to 21 mm around a point of MNI space (default: white matter), 1 mm."""
    affine = _MASK_MM.copy()
    affine[:3, 3] = np.subtract(centre_mm, 16)
    for edge in range(10, 22):
        data = np.zeros((32, 32, 32), np.uint8)
        start = 16 - edge // 2
        data[start : start + edge, start : start + edge, start : start + edge] = 1
        save(folder / f"cube{edge}.nii.gz", data, affine)
    return folder

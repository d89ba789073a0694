"""One stroke in one healthy T1 scan: a mask in MNI space is moved to the scan, and what it covers turns towards CSF.

An infarct is darker than the brain around it on T1, the more so the older it is, up to the intensity of CSF.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from uad.common.volumes import Volume
from uad.phantoms.fields import SmoothField
from uad.preprocessing.itk import move

_FLUID_PERCENTILE = 5  # of the brain mask: CSF in ventricles and sulci, without the mask's darkest rim
_FWHM = 2 * np.sqrt(2 * np.log(2))  # of a Gaussian, in standard deviations
_UNEVEN_MM, _UNEVEN_SHARE = 20.0, 0.15  # length and standard deviation of a lesion's unevenness; at most twice that
_MOST_OUTSIDE = 0.2


@dataclass(frozen=True)
class Stroke:
    """A stroke on the grid of a scan, [X, Y, Z] float32, 0 outside of the brain.

    weight: the soft mask, 0 to 1.
    pull: how far a lesion of contrast 1 goes from the healthy intensity (0) to that of CSF (1): the weight, unevenly.
    """

    weight: np.ndarray
    pull: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """The lesion label, uint8 {0, 1}."""
        return (self.weight > 0.5).astype(np.uint8)


def place(mask: Volume, brain: Volume, transform: str, edge_mm: float, rng: np.random.Generator) -> Stroke | None:
    """A stroke mask of MNI space on the grid of a scan.

    Args:
        mask: {0, 1} in MNI space.
        brain: the scan's brain mask {0, 1}, on the grid of the scan.
        transform: file of the linear transform that takes the scan to MNI space (`register.align`).
        edge_mm: FWHM of the Gaussian that blurs the mask.

    Returns:
        The stroke; None where more than 20 % of the mask lie outside of the brain, or no voxel of the scan is mostly
        lesion.
    """
    inside = move(brain, mask, [transform], "linear") > 0.5
    if (mask.data > 0)[inside].sum() < (1 - _MOST_OUTSIDE) * (mask.data > 0).sum():
        return None
    # cut at two deviations, so that what is hardly lesion keeps its intensity
    soft = gaussian_filter(mask.data.astype(np.float32), edge_mm / _FWHM / mask.spacing, truncate=2)
    voxels = soft > 0
    points = nib.affines.apply_affine(mask.affine, np.argwhere(voxels)).T.astype(np.float32)
    uneven = soft.copy()
    uneven[voxels] *= 1 + _UNEVEN_SHARE * SmoothField(rng, {_UNEVEN_MM: 1.0}).bounded(points)
    weight, pull = (
        move(mask.with_data(data), brain, [transform], "linear", inverse=True) * (brain.data > 0)
        for data in (soft, uneven)
    )
    stroke = Stroke(weight, pull)
    return stroke if stroke.truth.any() else None


def fluid_intensity(image: Volume, brain: Volume) -> float:
    """The intensity of CSF on a T1 scan, in the scan's unit."""
    return float(np.percentile(image.data[brain.data > 0], _FLUID_PERCENTILE))


def plant(image: Volume, stroke: Stroke, contrast: float, fluid: float) -> Volume:
    """The scan with the stroke: x + min(contrast * pull, 1) * (fluid - x), float32; elsewhere the same values."""
    share = np.minimum(np.float32(contrast) * stroke.pull, 1)
    return image.with_data(image.data + share * (np.float32(fluid) - image.data))

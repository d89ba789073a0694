"""Clean-up of anomaly maps: mask erosion, 3-D median filter, small components.  docs/paper.md#post-processing"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

STEPS = ("erode", "median")
_NEIGHBOUR_RANK = {6: 1, 18: 2, 26: 3}
_WINDOWS_AT_ONCE = 2_048  # 125 float32 each: 1 MB for a 5x5x5 median, which stays in the processor's cache


@dataclass(frozen=True)
class PostProcessing:
    """What happens to a map before and after the threshold.

    Attributes:
        order: steps before the threshold, "erode" and "median"; a step that is left out is skipped. erode
            -> median is the authors' code, median -> erode the paper's text (D7).
        median_size: edge of the median window in voxels, odd.
        erosion: iterations of the per-slice mask erosion; None means slice width // 25 (docs/paper.md#post-processing).
        component_max_size: components of at most this many voxels are dropped after the threshold (D8); 0
            keeps all.
        mask_without_erosion: whether the brain mask still applies where `order` has no "erode"; the authors' code
            then uses no mask at all (D29).
        connectivity: 6, 18 or 26 neighbours join a component.

    Raises:
        ValueError: for values outside these ranges.
    """

    order: tuple[str, ...] = STEPS
    median_size: int = 5
    erosion: int | None = None
    component_max_size: int = 7
    mask_without_erosion: bool = True
    connectivity: int = 26

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))
        if set(self.order) - set(STEPS) or len(set(self.order)) < len(self.order):
            raise ValueError(f"order is {self.order}; each step is one of {STEPS}, at most once")
        if self.median_size < 1 or self.median_size % 2 == 0:
            raise ValueError(f"median_size is {self.median_size}; it must be odd and positive")
        if self.erosion is not None and self.erosion < 0:
            raise ValueError(f"erosion is {self.erosion}; it must be 0 or more iterations")
        if self.component_max_size < 0:
            raise ValueError(f"component_max_size is {self.component_max_size}; it must be 0 or more voxels")
        if self.connectivity not in _NEIGHBOUR_RANK:
            raise ValueError(f"connectivity is {self.connectivity}; it must be 6, 18 or 26")


UNTOUCHED = PostProcessing(order=(), component_max_size=0, mask_without_erosion=False)  # for controls


def clean_map(residual: np.ndarray, mask: np.ndarray, settings: PostProcessing) -> np.ndarray:
    """Post-process an anomaly map up to the threshold (docs/paper.md#post-processing, D7).

    Args:
        residual: [Z, Y, X], at least 0; what lies outside the mask is ignored, unless `settings` use no mask.
        mask: [Z, Y, X], brain mask.
        settings: which steps, in which order.

    Returns:
        float32 [Z, Y, X]; 0 outside the mask except where the median filter reaches over its rim.
    """
    brain = np.asarray(mask) > 0
    masked = settings.mask_without_erosion or "erode" in settings.order
    cleaned = np.where(brain, residual, 0).astype(np.float32) if masked else np.array(residual, np.float32)
    for step in settings.order:
        if step == "erode":
            cleaned *= erode_slices(brain, settings.erosion)
        else:
            cleaned = median_filter(cleaned, settings.median_size)
    return cleaned


def erode_slices(mask: np.ndarray, iterations: int | None) -> np.ndarray:
    """Erode a mask [Z, Y, X] in every axial slice by a 4-connected cross; bool.

    `iterations` None means X // 25, which is 3 for the paper's 96 voxels. The volume's rim counts as outside.
    """
    repeats = mask.shape[-1] // 25 if iterations is None else iterations
    brain = np.asarray(mask) > 0
    if repeats == 0:  # SciPy would read 0 as "until nothing changes"
        return brain
    cross = ndimage.generate_binary_structure(2, 1)[None]
    return ndimage.binary_erosion(brain, cross, iterations=repeats)


def median_filter(volume: np.ndarray, size: int) -> np.ndarray:
    """Median over size^3 voxels, equal to `scipy.ndimage.median_filter(volume, size)` (mode "reflect").

    Works on the box of the non-zero voxels: a window reaches size // 2 voxels further, and behind that
    everything is zero. Inside the box only windows whose majority is non-zero are sorted, because the
    median of the others is 0. That holds for values of at least 0.

    Args:
        volume: [Z, Y, X], at least 0.
        size: odd edge of the window in voxels.

    Returns:
        Array like `volume`.
    """
    result = np.zeros_like(volume)
    inside = [np.flatnonzero(volume.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not len(inside[0]):
        return result
    radius = size // 2
    box = tuple(
        slice(max(along[0] - radius, 0), min(along[-1] + radius + 1, length))
        for along, length in zip(inside, volume.shape, strict=True)
    )
    padded = np.pad(volume[box], radius, mode="symmetric")  # what SciPy calls "reflect"
    windows = _windows_in_runs(padded, size)
    middle = size**3 // 2
    places = np.argwhere(_count_in_windows(padded > 0, size) > middle)
    medians = np.zeros(windows.shape[:3], dtype=volume.dtype)
    for start in range(0, len(places), _WINDOWS_AT_ONCE):
        at = tuple(places[start : start + _WINDOWS_AT_ONCE].T)
        values = windows[at].view(volume.dtype).reshape(-1, size**3)
        values.partition(middle, axis=1)
        medians[at] = values[:, middle]
    result[box] = medians
    return result


def _windows_in_runs(volume: np.ndarray, size: int) -> np.ndarray:
    """Every size^3 window as size x size runs along X: [Z, Y, X, size, size].

    A run is one item of several values: copying windows takes two thirds of the time that single values take.
    """
    volume = np.ascontiguousarray(volume)
    run = np.dtype((np.void, size * volume.itemsize))
    shape = (*(length - size + 1 for length in volume.shape), size, size)
    return np.ndarray(shape, run, volume, strides=(*volume.strides, *volume.strides[:2]))


def _count_in_windows(flags: np.ndarray, size: int) -> np.ndarray:
    """How many voxels of every size^3 window are set; smaller than `flags` by size - 1 along each axis."""
    counts = flags.astype(np.min_scalar_type(size**flags.ndim))  # the smallest type that holds a full window
    for axis in range(flags.ndim):
        along = np.moveaxis(counts, axis, 0)
        places = len(along) - size + 1
        sums: Any = sum(along[start : start + places] for start in range(size))
        counts = np.moveaxis(sums, 0, axis)
    return counts


def remove_small_components(binary: np.ndarray, max_size: int, connectivity: int = 26) -> np.ndarray:
    """Drop connected components of at most `max_size` voxels (docs/paper.md#post-processing, D8).

    For max_size below 26 this equals the authors' rule on the filled area: a hole needs 26 voxels around it.

    Args:
        binary: [Z, Y, X], non-zero is foreground.
        max_size: voxels; 0 keeps everything.
        connectivity: 6, 18 or 26.

    Returns:
        bool [Z, Y, X].
    """
    foreground = np.asarray(binary) > 0
    if max_size == 0:
        return foreground
    labels = components(foreground, connectivity)
    kept = np.bincount(labels.ravel()) > max_size
    kept[0] = False
    return kept[labels]


def components(binary: np.ndarray, connectivity: int) -> np.ndarray:
    """Number of the connected component of each voxel, from 1, 0 in the background; int [Z, Y, X].

    Args:
        binary: [Z, Y, X], non-zero is foreground.
        connectivity: 6, 18 or 26 neighbours.
    """
    labels, _ = ndimage.label(binary, ndimage.generate_binary_structure(3, _NEIGHBOUR_RANK[connectivity]))
    return labels

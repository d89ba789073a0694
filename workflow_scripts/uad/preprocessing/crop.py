"""Cropping to the brain.  docs/paper.md#preprocessing, step 4"""

from __future__ import annotations

import numpy as np

from uad.common.volumes import Volume

Box = tuple[slice, slice, slice]


def bounding_box(mask: np.ndarray, last_plane: str) -> Box:
    """The smallest box around the voxels of a mask that is not empty.

    Args:
        last_plane: "keep", or "drop": the box ends one voxel early on every axis, as the authors' script
            does.
    """
    lost = 1 if last_plane == "drop" else 0
    box = []
    for axis in range(3):
        planes = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(planes[0]), int(planes[-1]) + 1 - lost))
    x, y, z = box
    return x, y, z


def crop(volume: Volume, box: Box) -> Volume:
    """The part of a volume inside a box; voxels stay where they are in space."""
    affine = volume.affine.copy()
    affine[:3, 3] = (volume.affine @ [*(side.start for side in box), 1])[:3]
    return Volume(np.ascontiguousarray(volume.data[box]), affine)

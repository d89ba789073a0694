"""The head that every phantom is a variation of: tissue maps of MNI152 and a schematic head around them.

Source of the tissue maps: the MNI152 (ICBM 2009a, symmetric) T1, grey and white matter files that nilearn
carries as package data (docs/paper.md#sri24).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, label, map_coordinates

from uad.phantoms.fields import BOX_HIGH, BOX_LOW, step, to_indices

MAP_MM = 2  # finer than the demo's 3 mm scans, and eight times less memory than the maps' own 1 mm
MAP_ORIGIN = BOX_LOW + 0.5 * (MAP_MM - 1)  # mm, centre of the first map voxel
_MNI_ORIGIN = np.array([-98, -134, -72])
# Mean intensities of the tissues in the MNI152 T1 map (0 to 1), measured where the tissue maps are pure.
_T1_CSF, _T1_GM, _T1_WM = 0.26, 0.65, 0.87

# What the schematic head is made of outside brain, skull and skin; everything else is muscle.
PARTS = ("muscle", "fat", "bone", "csf", "wm", "air")


@dataclass(frozen=True)
class HeadMaps:
    """Arrays over the box of `fields`, `MAP_MM` apart; distances in mm, tissue shares in [0, 1]."""

    gm: np.ndarray
    wm: np.ndarray
    texture: np.ndarray  # what the T1 map shows beyond its tissue mix, about +-0.2
    distance: np.ndarray  # to the brain surface, negative inside
    ventricle: np.ndarray  # distance to the lateral ventricles, 0 inside
    depth: np.ndarray  # below the skin, -MAP_MM in the air
    near: np.ndarray  # the head and about a centimetre around it
    skull: np.ndarray  # where bone surrounds the brain (not at the neck)
    parts: np.ndarray  # uint8, index into `PARTS`

    def sample(self, name: str, points: np.ndarray, order: int = 1) -> np.ndarray:
        """Map `name` at `points` [3, M] (mm), interpolated linearly or (order 0) from the nearest voxel."""
        indices = to_indices(points, MAP_ORIGIN, MAP_MM)
        return map_coordinates(getattr(self, name), indices, order=order, mode="nearest")


@cache
def head_maps() -> HeadMaps:
    """Load the tissue maps once and build the head around them."""
    t1, gm, wm = (_tissue_map(name) for name in ("t1", "gm", "wm"))
    total = np.maximum(gm + wm, 1)
    gm, wm = gm / total, wm / total
    brain = binary_fill_holes(_close(t1 > 0.02, 8))
    mixed = _T1_CSF * (1 - gm - wm) + _T1_GM * gm + _T1_WM * wm
    texture = np.where((t1 > 0.15) & brain, t1 - mixed, 0).astype(np.float32)
    outside, inside = _distance(~brain), _distance(brain)
    distance = np.where(brain, MAP_MM / 2 - inside, outside - MAP_MM / 2)
    ventricle = _distance(~_lateral_ventricles(gm + wm, distance))
    depth, near = _skin(distance)
    skull, parts = _neck_and_face(brain, distance)
    return HeadMaps(gm, wm, texture, distance, ventricle, depth, near, skull, parts)


def _tissue_map(name: str) -> np.ndarray:
    file = f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    # found without importing nilearn, which takes longer than all the rest here
    nilearn = Path(find_spec("nilearn").submodule_search_locations[0])  # type: ignore[union-attr, index]  # is there
    fine = np.asarray(nib.Nifti1Image.from_filename(nilearn / "datasets" / "data" / file).dataobj)
    low = _MNI_ORIGIN - BOX_LOW.astype(int)
    high = (BOX_HIGH - BOX_LOW).astype(int) - low - fine.shape
    fine = np.pad(fine.astype(np.uint16), list(zip(low, high, strict=True)))
    corners = [fine[i::MAP_MM, j::MAP_MM, k::MAP_MM] for i, j, k in np.ndindex(MAP_MM, MAP_MM, MAP_MM)]
    return np.asarray(sum(corners)).astype(np.float32) / (255 * MAP_MM**3)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Distance in mm of each voxel of the mask to the nearest voxel outside it, 0 outside."""
    return (MAP_MM * distance_transform_edt(mask)).astype(np.float32)


def _close(mask: np.ndarray, radius_mm: float) -> np.ndarray:
    """Morphological closing with a ball, by way of distances."""
    return _distance(_distance(~mask) <= radius_mm) > radius_mm


def _coordinates(shape: tuple[int, ...]) -> list[np.ndarray]:
    """x, y and z of the map voxels in mm, as open grids."""
    indices = np.ogrid[tuple(map(slice, shape))]
    return [low + MAP_MM * index for low, index in zip(MAP_ORIGIN, indices, strict=True)]


def _ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    axes = zip(_coordinates(shape), centre, radii, strict=True)
    return np.asarray(sum(((values - middle) / radius) ** 2 for values, middle, radius in axes)) < 1


def _lateral_ventricles(tissue: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The largest fluid space deep in the brain and above the brain stem."""
    _, _, z = _coordinates(tissue.shape)
    parts, _ = label((tissue < 0.5) & (distance < -20) & (z > -5))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _skin(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth below the skin around brain, face and neck, and the region near the head."""
    x, y, z = _coordinates(distance.shape)
    neck = ((x / 56) ** 2 + ((y + 38) / 62) ** 2 < 1) & (z < -25)
    face = _ellipsoid(distance.shape, (0, 48, -48), (60, 58, 62))
    smooth = gaussian_filter(((distance < 15) | neck | face).astype(np.float32), 2.5, truncate=3)
    head = smooth > 0.5
    depth = np.where(head, _distance(head) - MAP_MM / 2, -MAP_MM).astype(np.float32)
    return depth, (smooth > 0.01).astype(np.uint8)


def _neck_and_face(brain: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the skull is; eyes, sinuses, throat, spine and cord: schematic, but they mislead a threshold."""
    shape = brain.shape
    x, y, z = _coordinates(shape)
    bottom = int(np.argmax(brain.any((0, 1))))  # the brain stem leaves the maps here and goes on as the cord
    stem_x, stem_y = (np.argwhere(brain[:, :, bottom]).mean(0) * MAP_MM + MAP_ORIGIN[:2]).tolist()
    axis = np.hypot(x - stem_x, y - stem_y)
    below = (z <= z[0, 0, bottom] + MAP_MM) & ~brain
    eyes, orbits = np.zeros(shape, bool), np.zeros(shape, bool)
    for side in (-1, 1):
        eyes |= _ellipsoid(shape, (side * 33, 78, -38), (12, 12, 12))
        orbits |= _ellipsoid(shape, (side * 33, 76, -38), (18, 20, 17))
    clear = distance > 8
    air = _ellipsoid(shape, (0, 82, -52), (14, 24, 24)) | _ellipsoid(shape, (0, 26, -92), (13, 15, 34))
    masks = {
        "fat": orbits & clear,
        "bone": below & (axis > 12) & (axis < 20),
        "csf": (eyes & clear) | (below & (axis <= 12)),
        "wm": below & (axis <= 7),
        "air": air & clear,
    }
    parts = np.zeros(shape, np.uint8)
    for name, mask in masks.items():
        parts[mask] = PARTS.index(name)
    return (step(z + 60, 16) * ~(below & (axis <= 12))).astype(np.float32), parts

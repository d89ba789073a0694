"""Lesions of the four pathologies: where they sit, which voxels they fill, how they look.

How bright a lesion is, is drawn per lesion between grey matter and CSF (both contrasts), so that its
intensity also occurs in healthy heads and no threshold finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uad.phantoms.fields import SmoothField, step
from uad.phantoms.maps import MAP_MM, MAP_ORIGIN, head_maps

if TYPE_CHECKING:
    from uad.phantoms.anatomy import Scene


@dataclass(frozen=True)
class Look:
    """Appearance: 0 is the intensity of grey matter, 1 that of CSF; `opacity` is what hides tissue."""

    t1: float
    t2: float
    opacity: float
    enhancing: bool = False


@dataclass(frozen=True)
class Blob:
    """An irregular ellipsoid around `centre` (MNI152 mm).

    Args:
        radii: semi-axes in mm.
        roughness: how far the surface strays from the ellipsoid, as a share of the radius.
        push: mass effect, the share of the radius by which tissue at the rim is displaced outwards.
        shell: inner edge as a share of the radius; 0 for a solid blob.
    """

    label: int
    look: Look
    centre: np.ndarray
    radii: np.ndarray
    surface: SmoothField
    roughness: float = 0.2
    push: float = 0.0
    shell: float = 0.0

    def weight(self, scene: Scene) -> np.ndarray:
        """Share of each voxel that the lesion fills, 0 outside the brain."""
        size = float(np.mean(self.radii))
        radius = _radius(scene.points, self.centre, self.radii)
        close = np.flatnonzero(radius < 2)
        radius = radius[close]
        rough = radius - self.roughness * self.surface(scene.points[:, close]) * np.minimum(radius, 1)
        filled = step((1 - rough) * size)
        if self.shell:
            filled *= step((rough - self.shell) * size)
        tissue = scene.gm[close] + scene.wm[close]
        weight = np.zeros_like(scene.distance)
        weight[close] = filled * step(-scene.distance[close]) * step(tissue - 0.35, 0.5)
        return weight


@dataclass(frozen=True)
class Caps:
    """Rims and caps along the lateral ventricles, `thickness` mm thick on average, patchy."""

    label: int
    look: Look
    thickness: float
    surface: SmoothField

    def weight(self, scene: Scene) -> np.ndarray:
        """Share of each voxel that the lesion fills; white matter only."""
        gap = head_maps().sample("ventricle", scene.points)
        reach = self.thickness * (0.3 + 1.1 * self.surface(scene.points))
        return step(reach - gap) * step(scene.wm - 0.5, 0.5) * step(-scene.distance - 15)


def label_map(lesions: Sequence[Blob | Caps], scene: Scene) -> np.ndarray:
    """uint8 label of each voxel [X, Y, Z]; a later lesion of the list lies over an earlier one."""
    labels = np.zeros(len(scene.voxels), np.uint8)
    for lesion, weight in zip(lesions, scene.lesion_weights, strict=True):
        labels[weight > 0.5] = lesion.label
    return scene.volume(labels)


def mass_effect(lesion: Blob | Caps, points: np.ndarray) -> np.ndarray:
    """Where tissue at `points` came from before the lesion pushed it outwards; same beyond three radii."""
    if isinstance(lesion, Caps) or not lesion.push:
        return points
    radius = _radius(points, lesion.centre, lesion.radii)
    pull = lesion.push * np.clip((3 - radius) / 2, 0, 1) * np.minimum(radius, 1)
    centre = lesion.centre.reshape(3, 1).astype(np.float32)
    return points - (points - centre) * (pull / np.maximum(radius, 1e-3))


def _radius(points: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Distance from the centre in units of the semi-axes."""
    scaled = (points - centre.reshape(3, 1).astype(np.float32)) / radii.reshape(3, 1).astype(np.float32)
    return np.sqrt((scaled**2).sum(0))


def _place(rng: np.random.Generator, allowed: np.ndarray) -> np.ndarray:
    """A random voxel of `allowed` (over the head maps), as MNI152 mm."""
    candidates = np.argwhere(allowed)
    return candidates[rng.integers(len(candidates))] * MAP_MM + MAP_ORIGIN


def _radii(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    return rng.uniform(low, high) * rng.uniform(0.8, 1.25, 3)


def _above_cerebellum(shape: tuple[int, ...]) -> np.ndarray:
    """Voxels of the head maps above z = -15 mm."""
    return np.broadcast_to(np.arange(shape[2]) * MAP_MM + MAP_ORIGIN[2] > -15, shape)


def glioma(rng: np.random.Generator, necrosis: bool) -> list[Blob]:
    """A tumour with oedema (label 2), enhancing rim (4) and, unless `necrosis` is off, dead core (1).

    Most of it is darker than CSF on T2, so that a threshold on the demo's phantoms finds no more of it than one finds
    of BraTS 2021 (Dice 28 % for the paper's 20; 57 % with oedema between 0.45 and 0.8).
    """
    maps = head_maps()
    deep = (maps.distance < -12) & (maps.distance > -40)
    centre = _place(rng, (maps.wm > 0.6) & deep & (maps.ventricle > 6) & _above_cerebellum(maps.wm.shape))
    radii = _radii(rng, 16, 30)
    inner = radii * rng.uniform(0.45, 0.65)
    surface = SmoothField(rng, {18: 1})
    oedema = Look(rng.uniform(0.05, 0.35), rng.uniform(0.15, 0.5), rng.uniform(0.75, 0.92))
    rim = Look(rng.uniform(0, 0.3), rng.uniform(0.1, 0.5), 0.9, enhancing=True)
    dead = Look(rng.uniform(0.4, 0.9), rng.uniform(0.55, 0.9), 0.9)
    push = rng.uniform(0.2, 0.4)
    parts = [
        Blob(2, oedema, centre, radii, surface, 0.22, push),
        Blob(4, rim, centre, inner, surface, 0.15, shell=0 if not necrosis else 0.5),
    ]
    return [*parts, Blob(1, dead, centre, inner * 0.6, surface, 0.15)] if necrosis else parts


def multiple_sclerosis(rng: np.random.Generator) -> list[Blob]:
    """Several ellipsoids in the white matter near the ventricles, longest away from them.

    They are larger than most of MSLUB's: on the demo's grid of 4 mm, erosion and a median over 12 mm left 13 % of the
    AUPRC of a perfect map of lesions with radii of 3 to 7 mm.
    """
    maps = head_maps()
    allowed = (maps.wm > 0.75) & (maps.ventricle > 2) & (maps.ventricle < 22) & (maps.distance < -8)
    blobs = []
    for _ in range(rng.integers(5, 11)):
        look = Look(rng.uniform(0, 0.4), rng.uniform(0.25, 0.8), rng.uniform(0.8, 1))
        radii = _radii(rng, 6, 11) * [1.2, 0.9, 0.9]
        blobs.append(Blob(1, look, _place(rng, allowed), radii, SmoothField(rng, {12: 1}), 0.15))
    return blobs


def stroke(rng: np.random.Generator) -> list[Blob]:
    """One dark lesion on T1, in the cortex or deep."""
    maps = head_maps()
    if rng.uniform() < 0.6:
        allowed, size = (maps.gm > 0.4) & (maps.distance < -4) & (maps.distance > -16), (11, 28)
    else:
        allowed, size = (maps.distance < -22) & (maps.ventricle > 5) & (maps.wm + maps.gm > 0.8), (8, 14)
    allowed = allowed & _above_cerebellum(allowed.shape)
    look = Look(rng.uniform(0.15, 0.85), rng.uniform(0.3, 0.9), rng.uniform(0.8, 0.95))
    return [Blob(1, look, _place(rng, allowed), _radii(rng, *size), SmoothField(rng, {16: 1}), 0.25)]


def white_matter_hyperintensities(rng: np.random.Generator, other_pathology: bool) -> list[Blob | Caps]:
    """Caps at the ventricles and patches around (label 1), a little dark on T1; or an old stroke too (2)."""
    maps = head_maps()
    allowed = (maps.wm > 0.75) & (maps.ventricle > 4) & (maps.ventricle < 25) & (maps.distance < -10)
    caps = Look(rng.uniform(-0.05, 0.3), rng.uniform(0.3, 0.7), rng.uniform(0.8, 1))
    lesions: list[Blob | Caps] = [Caps(1, caps, rng.uniform(2.5, 6), SmoothField(rng, {20: 1}))]
    for _ in range(rng.integers(4, 10)):
        look = Look(rng.uniform(-0.05, 0.35), rng.uniform(0.25, 0.7), rng.uniform(0.75, 1))
        lesions.append(Blob(1, look, _place(rng, allowed), _radii(rng, 4, 9), SmoothField(rng, {12: 1}), 0.2))
    if other_pathology:
        old = Look(rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.9), 0.95)
        cortex = (maps.gm > 0.4) & (maps.distance < -6) & (maps.ventricle > 30)
        place = _place(rng, cortex & _above_cerebellum(cortex.shape))
        lesions.append(Blob(2, old, place, _radii(rng, 8, 13), SmoothField(rng, {16: 1}), 0.15))
    return lesions

"""One subject's anatomy: an individual variation of the MNI152 head, sampled on any voxel grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from uad.phantoms.fields import SmoothField, step, stream
from uad.phantoms.lesions import Blob, Caps, mass_effect
from uad.phantoms.maps import PARTS, head_maps

_VENTRICLES = np.array([0.0, -14.0, 12.0])  # MNI152 mm, middle of the lateral ventricles
_VENTRICLE_REACH = np.array([26.0, 48.0, 30.0])


@dataclass(frozen=True)
class Grid:
    """A voxel grid: array shape and voxel-to-world affine (mm, RAS as nibabel has it)."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    def points(self) -> np.ndarray:
        """World coordinates [3, X*Y*Z] of the voxel centres, float32."""
        indices = np.indices(self.shape, dtype=np.float32).reshape(3, -1)
        return self.affine[:3, :3].astype(np.float32) @ indices + self.affine[:3, 3:].astype(np.float32)


def covering_grid(
    low: tuple[float, float, float],
    high: tuple[float, float, float],
    spacing: tuple[float, float, float],
    axcodes: str,
    tilt: np.ndarray | None = None,
) -> Grid:
    """A grid over the box `low` to `high` (mm, RAS).

    Args:
        spacing: voxel size in mm along array axes 0, 1, 2.
        axcodes: nibabel direction of each array axis, e.g. "PSR" for sagittally stored scans.
        tilt: 3x3 rotation of the grid about the middle of the box, for oblique scans.
    """
    orientation = nib.orientations.axcodes2ornt(axcodes)
    centre = (np.array(low) + np.array(high)) / 2
    extent = np.array(high) - np.array(low)
    directions = np.zeros((3, 3))
    shape = []
    for axis, (world, sign) in enumerate(orientation.astype(int)):
        directions[world, axis] = sign * spacing[axis]
        shape.append(int(np.ceil(extent[world] / spacing[axis])))
    directions = directions if tilt is None else tilt @ directions
    affine = np.eye(4)
    affine[:3, :3] = directions
    affine[:3, 3] = centre - directions @ (np.array(shape) - 1) / 2
    x, y, z = shape
    return Grid((x, y, z), affine)


@dataclass
class Scene:
    """What lies at each voxel of a grid near the head: arrays [M] over those voxels, shares in [0, 1]."""

    subject: Subject
    grid: Grid
    voxels: np.ndarray  # flat indices of the M voxels in the grid
    points: np.ndarray  # where in the MNI152 head each voxel comes from [3, M], mm
    gm: np.ndarray
    wm: np.ndarray
    texture: np.ndarray
    inside: np.ndarray  # share of the voxel in the brain
    distance: np.ndarray  # mm to the brain surface, negative inside
    lesion_weights: list[np.ndarray] = field(default_factory=list)

    @cached_property
    def layers(self) -> list[tuple[str, np.ndarray]]:
        """What surrounds the brain: (tissue, share of each outer voxel [K]), to be painted in this order."""
        points = self.points[:, self.outer]
        thickness = self.subject.thickness.bounded(points)
        fluid_mm, skull_mm, fat_mm = 3 + 0.9 * thickness, 6 + 1.4 * thickness, 4.5 - 1.2 * thickness
        depth, skull = (head_maps().sample(name, points) for name in ("depth", "skull"))
        part = head_maps().sample("parts", points, order=0)
        gap = self.distance[self.outer]
        return [
            ("fat", step(fat_mm - depth)),
            *((name, (part == number).astype(np.float32)) for number, name in enumerate(PARTS) if number),
            ("bone", step(fluid_mm + skull_mm - gap) * skull),
            ("marrow", step(1.2 - np.abs(gap - fluid_mm - skull_mm / 2)) * skull),
            ("csf", step(fluid_mm - gap) * skull),
            ("air", step(-depth)),
        ]

    @cached_property
    def outer(self) -> np.ndarray:
        """Indices (into M) of the K voxels not wholly in the brain."""
        return np.flatnonzero(self.inside < 1)

    @cached_property
    def clutter(self) -> np.ndarray:
        """Unevenness of the muscle [K], about +-2."""
        return self.subject.clutter.bounded(self.points[:, self.outer])

    @cached_property
    def regional(self) -> dict[str, np.ndarray]:
        """This subject's own local signal differences of grey and white matter, about +-2."""
        return {name: values.bounded(self.points) for name, values in self.subject.regional.items()}

    def volume(self, values: np.ndarray) -> np.ndarray:
        """`values` [M] as a volume of the grid's shape, 0 elsewhere."""
        full = np.zeros(self.grid.shape, values.dtype)
        full.reshape(-1)[self.voxels] = values
        return full

    @property
    def brain(self) -> np.ndarray:
        """True brain mask [X, Y, Z], uint8."""
        return self.volume((self.distance < 0).astype(np.uint8))

    @property
    def csf(self) -> np.ndarray:
        return np.clip(1 - self.gm - self.wm, 0, 1)

    @property
    def tissue(self) -> np.ndarray:
        """0 background, 1 CSF, 2 grey matter, 3 white matter [X, Y, Z], uint8: the largest share."""
        largest = np.stack([self.csf, self.gm, self.wm]).argmax(0).astype(np.uint8) + np.uint8(1)
        return self.volume(np.where(self.distance < 0, largest, np.uint8(0)))


class Subject:
    """Shape of one head: pose and size, smooth deformation, ventricles and sulci by age, lesions.

    Args:
        pose: "scanner" (any size and position in the scanner), "linear" (already registered linearly, small
            remaining differences) or "atlas" (no linear difference at all).
        age: years; widens ventricles and sulci.
        lesions: what to plant; see `uad.phantoms.lesions`.
    """

    def __init__(
        self,
        seed: int,
        cohort: str,
        index: int,
        pose: str,
        age: float,
        lesions: Sequence[Blob | Caps] | None = None,
    ):
        self.key = (seed, cohort, index)
        self.age = age
        self.lesions = lesions or []
        rng = stream(*self.key, "anatomy")
        self.world_to_head = np.linalg.inv(_linear(rng, pose))
        self.bend = [SmoothField(rng, {36: 2.6, 16: 0.9}) for _ in range(3)]
        self.sulci = SmoothField(rng, {14: 1})
        self.growth = 0.38 * (age - 20) / 66 + rng.normal(0, 0.06)
        self.regional = {name: SmoothField(rng, {30: 1}) for name in ("gm", "wm")}
        self.thickness = SmoothField(rng, {40: 1})
        self.clutter = SmoothField(rng, {14: 1})

    def moved(self, rng: np.random.Generator, degrees: float, mm: float) -> None:
        """Turn and shift the head a little, as between two scans of one session."""
        rotation = Rotation.from_euler("xyz", rng.normal(0, degrees, 3), degrees=True).as_matrix()
        motion = np.eye(4)
        motion[:3, :3], motion[:3, 3] = rotation, rng.normal(0, mm, 3)
        self.world_to_head = self.world_to_head @ np.linalg.inv(motion)

    def on(self, grid: Grid) -> Scene:
        """Sample this head on a grid."""
        maps = head_maps()
        linear = self.world_to_head.astype(np.float32)
        points = linear[:3, :3] @ grid.points() + linear[:3, 3:]
        voxels = np.flatnonzero(maps.sample("near", points, order=0))
        points = self._bend(points[:, voxels])
        pushed = points
        for lesion in self.lesions:
            pushed = mass_effect(lesion, pushed)
        gm, wm, texture = (maps.sample(name, pushed) for name in ("gm", "wm", "texture"))
        distance = maps.sample("distance", points)
        gm, wm = self._shrink_cortex(points, distance, gm, wm)
        scene = Scene(self, grid, voxels, points, gm, wm, texture, step(-distance), distance)
        scene.lesion_weights = [lesion.weight(scene) for lesion in self.lesions]
        return scene

    def _bend(self, points: np.ndarray) -> np.ndarray:
        """The non-linear part of this subject's difference from MNI152."""
        bend = np.stack([component(points) for component in self.bend])
        offset = points - _VENTRICLES.reshape(3, 1).astype(np.float32)
        reach = _VENTRICLE_REACH.reshape(3, 1).astype(np.float32)
        near = np.exp(-((offset / reach) ** 2).sum(0))
        # A point sampled closer to the ventricles' middle shows them larger; mostly sideways, as in ageing.
        widen = np.array([1.0, 0.35, 0.6], np.float32).reshape(3, 1)
        return points + bend - self.growth * near * widen * offset

    def _shrink_cortex(
        self, points: np.ndarray, distance: np.ndarray, gm: np.ndarray, wm: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Open individual sulci: winding sheets of fluid in the outer centimetre, wider with age."""
        sheets = np.exp(-((self.sulci(points) / 0.35) ** 2))
        near_surface = step(distance + 9, 8)
        lost = (0.25 + 0.35 * (self.age - 20) / 66) * sheets * near_surface
        return gm * (1 - lost), wm * (1 - lost)


def _linear(rng: np.random.Generator, pose: str) -> np.ndarray:
    """Head-to-world matrix."""
    size, angle, shift = {"scanner": (0.04, 5.0, 4.0), "linear": (0.015, 1.0, 1.0), "atlas": (0, 0, 0)}[pose]
    angles = angle * rng.normal(0, 1, 3) * [1, 0.5, 0.5]
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    scale = np.clip(rng.normal(1, size, 3), 1 - 2 * size, 1 + 2 * size)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation @ np.diag(scale)
    matrix[:3, 3] = np.clip(rng.normal(0, 1, 3), -2, 2) * shift
    return matrix

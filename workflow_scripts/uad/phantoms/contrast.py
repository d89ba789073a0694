"""From anatomy to image: tissue contrast of each sequence, scanner, bias field and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uad.phantoms.anatomy import Scene
from uad.phantoms.fields import SmoothField, stream
from uad.phantoms.lesions import Look

# Signal of each tissue relative to the brightest brain tissue; `texture` scales the T1 map's fine structure.
_TISSUES = ("csf", "gm", "wm", "fat", "muscle", "bone", "marrow", "air", "texture")
_SIGNAL = {
    "t1": (0.22, 0.62, 0.88, 1.05, 0.55, 0.07, 0.6, 0.0, 0.8),
    "t1ce": (0.22, 0.65, 0.88, 1.05, 0.7, 0.07, 0.6, 0.0, 0.8),
    "t2": (1.0, 0.62, 0.44, 0.75, 0.3, 0.06, 0.4, 0.0, -0.6),
    "flair": (0.18, 0.72, 0.58, 0.8, 0.3, 0.06, 0.45, 0.0, -0.3),
}


@dataclass(frozen=True)
class Scanner:
    """What a site does to the signal.

    Args:
        gm, wm: contrast shifts.
        gain: stored units per signal.
        noise: standard deviation as a share of the signal.
        bias: largest relative deviation by the bias field.
    """

    gm: float
    wm: float
    gamma: float
    gain: float
    noise: float
    bias: float = 0.2

    @classmethod
    def drawn(cls, rng: np.random.Generator, bias: float) -> Scanner:
        """A scanner out of many, for cohorts with many sites."""
        gm, wm = rng.normal(0, 0.02, 2)
        return cls(gm, wm, rng.uniform(0.9, 1.12), rng.uniform(250, 1400), rng.uniform(0.012, 0.025), bias)


def render(scene: Scene, modality: str, scanner: Scanner, stripped: bool = False) -> np.ndarray:
    """One scan as int16 [X, Y, Z].

    Args:
        modality: "t1", "t2", "flair" or "t1ce".
        stripped: zero outside the true brain, as in BraTS.
    """
    rng = stream(*scene.subject.key, f"scan-{modality}")
    signal = dict(zip(_TISSUES, _SIGNAL[modality], strict=True))
    signal["gm"] += scanner.gm + rng.normal(0, 0.012)
    signal["wm"] += scanner.wm + rng.normal(0, 0.012)
    image = _brain(scene, signal, modality)
    if not stripped:
        outer, inside = scene.outer, scene.inside[scene.outer]
        image[outer] = inside * image[outer] + (1 - inside) * _around(scene, signal)
    image = np.maximum(image, 0) ** (scanner.gamma * rng.uniform(0.96, 1.04))
    # tanh bounds the field, so the bias stays within +-`scanner.bias`
    image = image * (1 + scanner.bias * np.tanh(SmoothField(rng, {110: 1})(scene.points)))
    image = scene.volume(image.astype(np.float32))
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(scanner.noise)
    image = np.hypot(image + real, imaginary) * np.float32(scanner.gain * rng.uniform(0.9, 1.1))
    if stripped:
        image = np.maximum(image, 1) * scene.brain  # a brain voxel of value 0 would read as background
    return np.round(image).astype(np.int16)


def _brain(scene: Scene, signal: dict[str, float], modality: str) -> np.ndarray:
    """Brain tissue with regional intensity differences of this subject, then its lesions."""
    ageing = 1 + (0.06 if modality != "t1" else -0.04) * (scene.subject.age - 50) / 50
    image = (
        signal["csf"] * scene.csf
        + signal["gm"] * (1 + 0.045 * scene.regional["gm"]) * scene.gm
        + signal["wm"] * (1 + 0.045 * scene.regional["wm"]) * ageing * scene.wm
        + signal["texture"] * scene.texture * (scene.gm + scene.wm)
    )
    for lesion, weight in zip(scene.subject.lesions, scene.lesion_weights, strict=True):
        opacity = lesion.look.opacity * weight
        image = (1 - opacity) * image + opacity * _lesion_signal(lesion.look, signal, modality)
    return image


def _lesion_signal(look: Look, signal: dict[str, float], modality: str) -> float:
    if modality == "t1ce" and look.enhancing:
        return 1.15 * signal["wm"]
    if modality == "flair":  # fluid is suppressed, so only the lesion itself is bright
        return signal["gm"] * (1.1 + 0.3 * look.t2)
    share = look.t2 if modality == "t2" else look.t1
    return signal["gm"] + share * (signal["csf"] - signal["gm"])


def _around(scene: Scene, signal: dict[str, float]) -> np.ndarray:
    """The head around the brain [K]: muscle, then layer over layer."""
    image = signal["muscle"] * (1 + 0.25 * scene.clutter)
    for tissue, share in scene.layers:
        image = (1 - share) * image + share * signal[tissue]
    return image

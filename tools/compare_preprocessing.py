"""Say where a preprocessed scan differs from this workflow's: in which step, and by how much.

python tools/compare_preprocessing.py --ours results/paper/preprocessed/mslub/patient01_t2.nii.gz --theirs mine.nii.gz
python tools/compare_preprocessing.py --ours results/paper/store/mslub_t2 --subject patient01 --theirs mine.nii.gz

Both scans are aligned by their content first, so a difference in one step does not hide the others.
docs/preprocessing.md
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_erosion, binary_fill_holes, gaussian_filter

from uad.common.errors import InputError, run_program
from uad.common.store import Store
from uad.common.volumes import Volume, itk_code, read_image, read_label, reorient
from uad.preprocessing.itk import ants, move, to_ants

_BACKGROUND = 0.05  # share of zeros from which on a volume counts as brain-extracted
_LIMITS = {
    "spacing": 0.01,  # relative
    "dice": 0.97,
    "shift_voxels": 0.5, "degrees": 1.0, "scale": 0.015,
    "planes": 0.7,
    "field": 1.06,  # ratio of the 95th to the 5th percentile
    "gain": 0.05, "offset": 0.05,  # of the reference's range
    "saturated": 0.005,  # share of the brain
    "gradient": 0.12,  # relative
}  # fmt: skip
_SEED = 1
_SAMPLES = 100_000
_SMOOTHING_MM = 6.0


@dataclass(frozen=True)
class Finding:
    """One step of preprocessing, compared.

    departs: whether the two differ by more than resampling noise.
    """

    step: str
    ours: str
    theirs: str
    departs: bool
    how_much: str


@dataclass(frozen=True)
class Alignment:
    """The affine from the reference to the other scan, found by content.

    shift_mm: of the brain's centre [3]; degrees: rotation; scale: factor per axis [3]; path: file as ANTs takes it.
    """

    matrix: np.ndarray
    shift_mm: np.ndarray
    degrees: float
    scale: np.ndarray
    path: str


def compare(ours: Volume, our_brain: Volume, theirs: Volume, their_brain: Volume | None, placed: bool) -> list[Finding]:
    """Compare a scan with a reference, in the order of the preprocessing steps.

    Args:
        ours, our_brain: the reference (float32) and its brain mask (uint8) on one grid.
        theirs, their_brain: the scan in question; without a mask, its voxels that are not 0 are its brain.
        placed: both headers say where the brain lies in the atlas; else only turning and size are compared.

    Raises:
        InputError: a brain mask is empty, or the two cannot be aligned.
    """
    codes = itk_code(ours), itk_code(theirs)
    findings = [Finding("orientation", *codes, codes[0] != codes[1], "turned before the other comparisons")]
    ours, our_brain, theirs = reorient(ours), reorient(our_brain), reorient(theirs)
    spacing = np.abs(theirs.spacing / ours.spacing - 1).max()
    sizes = [" x ".join(f"{edge:.3g}" for edge in volume.spacing) for volume in (ours, theirs)]
    findings.append(Finding("voxel size (mm)", *sizes, bool(spacing > _LIMITS["spacing"]), f"{spacing:.1%} at most"))
    given = None if their_brain is None else reorient(their_brain).data > 0
    brain = _brain_of(theirs, given)
    with tempfile.TemporaryDirectory() as scratch:
        aligned = _align(_lifted(ours, our_brain.data > 0), _lifted(theirs, brain), scratch)
        moved = move(theirs, ours, [aligned.path], "linear")
        moved_brain = move(theirs.with_data(brain.astype(np.uint8)), ours, [aligned.path], "nearestNeighbor") > 0
        full = _saturated(ours, our_brain.data > 0), _saturated(theirs, brain)
        inside = (our_brain.data > 0) & _covered(theirs, ours, aligned.path)
        inner = binary_erosion(inside & moved_brain)  # the rim mixes with the background
    return [
        *findings,
        _compare_brains(our_brain, theirs, brain, moved_brain, inside),
        _compare_place(ours, aligned, placed),
        _compare_frame(our_brain, theirs, aligned),
        *_compare_values(ours, moved, inner, full),
        _compare_sharpness(ours, our_brain.data > 0, theirs, brain),
    ]


def _brain_of(volume: Volume, given: np.ndarray | None) -> np.ndarray:
    if given is not None:
        if given.shape != volume.data.shape:
            raise InputError(
                f"the mask has shape {given.shape}, its scan {volume.data.shape}; give the scan's own mask"
            )
        brain = given
    elif (volume.data == 0).mean() > _BACKGROUND:
        brain = binary_fill_holes(volume.data != 0)
    else:
        brain = np.ones(volume.data.shape, bool)  # no background: not brain-extracted, or cropped too tightly
    if not brain.any():
        raise InputError("a brain mask is empty; look at the scan")
    return brain


def _lifted(volume: Volume, brain: np.ndarray) -> Volume:
    """The brain alone, brighter than its background even where values are negative (z-scores)."""
    low, high = np.percentile(volume.data[brain], (0, 99))
    return volume.with_data(np.where(brain, volume.data - low + 0.2 * (high - low), 0).astype(np.float32))


def _saturated(volume: Volume, brain: np.ndarray) -> float:
    """Share of the brain that has its highest value; an unclipped image has one such voxel."""
    values = volume.data[brain]
    return float((values == values.max()).mean())


def _align(fixed: Volume, moving: Volume, scratch: str) -> Alignment:
    try:
        result = ants.registration(
            to_ants(fixed), to_ants(moving), type_of_transform="Affine", outprefix=str(Path(scratch) / "to"),
            aff_metric="mattes", random_seed=_SEED,
        )  # fmt: skip
    except RuntimeError as error:
        raise InputError("the two scans cannot be aligned; do they show the same brain?") from error
    path = result["fwdtransforms"][0]
    transform = ants.read_transform(path)
    parameters, centre = np.array(transform.parameters), np.array(transform.fixed_parameters)
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    flip = np.diag([-1.0, -1, 1, 1])  # ITK's world is LPS
    matrix = flip @ matrix @ flip
    left, scale, right = np.linalg.svd(matrix[:3, :3])
    rotation, stretch = left @ right, right.T @ np.diag(scale) @ right
    degrees = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    middle = _world(fixed, np.argwhere(fixed.data != 0).mean(axis=0))
    shift = matrix[:3, :3] @ middle + matrix[:3, 3] - middle
    return Alignment(matrix, shift, float(degrees), np.diag(stretch), path)


def _world(volume: Volume, index: np.ndarray) -> np.ndarray:
    return volume.affine[:3, :3] @ index + volume.affine[:3, 3]


def _covered(theirs: Volume, ours: Volume, path: str) -> np.ndarray:
    """Voxels of our grid that lie inside their frame."""
    everywhere = theirs.with_data(np.ones(theirs.data.shape, np.uint8))
    return move(everywhere, ours, [path], "linear") > 0.99


def _compare_brains(
    our_brain: Volume, theirs: Volume, brain: np.ndarray, moved: np.ndarray, inside: np.ndarray
) -> Finding:
    reference = our_brain.data > 0
    frame = inside | ~reference  # what their frame cuts off is the crop's doing
    dice = 2 * (moved & reference).sum() / max((moved & frame).sum() + (reference & frame).sum(), 1)
    volumes = reference.sum() * our_brain.voxel_ml, brain.sum() * theirs.voxel_ml
    texts = [f"{volume:.0f} ml" for volume in volumes]
    return Finding(
        "brain mask", *texts, bool(dice < _LIMITS["dice"]), f"Dice {dice:.3f}, {volumes[1] - volumes[0]:+.0f} ml"
    )


def _compare_place(ours: Volume, aligned: Alignment, placed: bool) -> Finding:
    shift = np.linalg.norm(aligned.shift_mm)
    texts = [f"turned by {aligned.degrees:.1f} degrees", f"size {' x '.join(f'{s:.3f}' for s in aligned.scale)}"]
    departs = aligned.degrees > _LIMITS["degrees"] or np.abs(aligned.scale - 1).max() > _LIMITS["scale"]
    if placed:
        texts.insert(0, f"off by {shift:.1f} mm ({', '.join(f'{s:+.1f}' for s in aligned.shift_mm)} to R, A, S)")
        departs |= shift > _LIMITS["shift_voxels"] * ours.spacing.max()
    return Finding("registration", "reference", "", bool(departs), ", ".join(texts))


def _compare_frame(our_brain: Volume, theirs: Volume, aligned: Alignment) -> Finding:
    """Planes between the brain and the frame's six sides; negative: the frame cuts the brain."""
    corners = np.argwhere(our_brain.data)
    world = our_brain.affine[:3, :3] @ corners.T + our_brain.affine[:3, 3:]
    there = aligned.matrix[:3, :3] @ world + aligned.matrix[:3, 3:]
    index = np.linalg.inv(theirs.affine) @ np.vstack([there, np.ones(there.shape[1])])
    margins = [
        np.concatenate([places.min(axis=1), np.array(shape) - 1 - places.max(axis=1)])
        for places, shape in ((corners.T, our_brain.data.shape), (index[:3], theirs.data.shape))
    ]
    apart = margins[1] - margins[0]
    names = [f"{sign}{axis}" for sign in ("first ", "last ") for axis in "LPS"]
    sides = [
        f"{value:+.0f} planes {name}"
        for value, name in zip(apart, names, strict=True)
        if abs(value) > _LIMITS["planes"]
    ]
    shapes = [" x ".join(map(str, volume.data.shape)) for volume in (our_brain, theirs)]
    return Finding("field of view", *shapes, bool(sides), ", ".join(sides) or "same margins")


def _compare_values(ours: Volume, moved: np.ndarray, inside: np.ndarray, full: tuple[float, float]) -> list[Finding]:
    """Bias field and intensity, from theirs = gain(x) * ours + offset with a gain quadratic in space.

    Fitted to both images smoothed alike: noise and resampling, which differ, would otherwise lower the gain where
    contrast is low.  Clipped values tell nothing of gain and are left out.
    """
    images = ours.data.astype(np.float64), moved.astype(np.float64)
    values = [image[inside] for image in images]
    span = np.ptp(np.percentile(values[0], (1, 99)))
    if not span > 0 or not np.ptp(values[1]) > 0:
        raise InputError("a scan is constant where both have brain; are the masks right?")
    free = inside.copy()
    for image, inner in zip(images, values, strict=True):
        free &= (image > inner.min()) & (image < inner.max())
    first, second = _smoothed(images, free, ours.spacing)
    gain, base = _fitted_gain(first, second, free)
    low, high = np.percentile(gain, (5, 95))
    ratio = high / low if low > 0 else np.inf
    level = gain.mean()
    windows = [f"{start:.4g} to {end:.4g}" for start, end in (np.percentile(inner, (1, 99)) for inner in values)]
    departs = abs(level - 1) > _LIMITS["gain"] or abs(base) / span > _LIMITS["offset"]
    saturated = abs(full[1] - full[0]) > _LIMITS["saturated"]
    return [
        Finding("bias field", "reference", f"gain {low:.3g} to {high:.3g}", bool(ratio > _LIMITS["field"]),
                f"varies by a factor of {ratio:.2f} over the brain"),
        Finding("intensity (1 to 99 %)", *windows, bool(departs or saturated),
                f"theirs = {level:.3g} * ours {base:+.3g}; "
                f"at the upper end {full[0]:.1%} and {full[1]:.1%} of the brain"),
    ]  # fmt: skip


def _smoothed(images: tuple[np.ndarray, ...], weights: np.ndarray, spacing: np.ndarray) -> list[np.ndarray]:
    """Means over a Gaussian neighbourhood, of the voxels with weight; values [N] at these voxels."""
    sigma = _SMOOTHING_MM / spacing
    total = gaussian_filter(weights.astype(np.float64), sigma)
    return [(gaussian_filter(np.where(weights, image, 0), sigma) / total.clip(1e-6))[weights] for image in images]


def _fitted_gain(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, float]:
    """Gain at sampled voxels and the constant offset."""
    step = max(1, len(first) // _SAMPLES)
    place = np.argwhere(where)[::step].T / (np.array(where.shape)[:, None] / 2) - 1
    terms = np.stack([np.ones(place.shape[1]), *place, *(place[i] * place[j] for i in range(3) for j in range(i, 3))])
    design = np.vstack([terms * first[::step], np.ones(place.shape[1])])
    fitted = np.linalg.lstsq(design.T, second[::step], rcond=None)[0]
    return fitted[:-1] @ terms, float(fitted[-1])


def _compare_sharpness(ours: Volume, our_brain: np.ndarray, theirs: Volume, brain: np.ndarray) -> Finding:
    """Mean gradient over the spread of values, per mm, one voxel and more inside the brain."""
    values = [_sharpness(ours, our_brain), _sharpness(theirs, brain)]
    apart = values[1] / values[0] - 1
    word = "sharper or noisier" if apart > 0 else "smoother"
    texts = [f"{value:.3f} per mm" for value in values]
    return Finding("smoothing", *texts, bool(abs(apart) > _LIMITS["gradient"]), f"{abs(apart):.0%} {word}")


def _sharpness(volume: Volume, brain: np.ndarray) -> float:
    slopes = np.gradient(volume.data.astype(np.float64), *volume.spacing)
    inner = binary_erosion(brain)
    return float(np.sqrt(sum(slope**2 for slope in slopes))[inner].mean() / volume.data[inner].std())


def reference(path: Path, subject: str | None) -> tuple[Volume, Volume]:
    """Our scan and its brain mask: a preprocessed NIfTI file, or a subject's row of a store."""
    if subject is None:
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        return read_image(path), read_label(path.with_name(f"{stem}_mask.nii.gz"))
    settings = json.loads(Path(f"{path}.json").read_text())["settings"]
    spacing = settings["spacing_mm"] / settings["pack"]["factor"]
    scan = Store.open(path).scan(subject)
    affine = np.diag([-spacing, -spacing, spacing, 1])
    return tuple(
        Volume(np.ascontiguousarray(a.transpose(2, 1, 0)), affine) for a in (scan.image, scan.mask.astype("u1"))
    )


def as_table(findings: list[Finding]) -> str:
    rows = [("", "step", "ours", "theirs", "difference")]
    rows += [("*" if f.departs else "", f.step, f.ours, f.theirs, f.how_much) for f in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, type=Path, help="preprocessed NIfTI file, or prefix of a store")
    parser.add_argument("--subject", help="with a store: whose scan")
    parser.add_argument("--theirs", required=True, type=Path, help="the scan in question (NIfTI)")
    parser.add_argument("--their-mask", type=Path, help="its brain mask; default: its voxels that are not 0")
    arguments = parser.parse_args()

    if arguments.subject is not None and not Path(f"{arguments.ours}.json").is_file():
        raise InputError(f"{arguments.ours}: no store here; give the prefix of a store's files, or leave out --subject")
    ours, brain = reference(arguments.ours, arguments.subject)
    theirs = read_image(arguments.theirs)
    their_brain = read_label(arguments.their_mask) if arguments.their_mask else None
    placed = arguments.subject is None and bool(theirs.affine[:3, 3].any())  # an origin of 0 is no place
    findings = compare(ours, brain, theirs, their_brain, placed)
    print(as_table(findings))
    departing = [finding.step for finding in findings if finding.departs]
    print(f"\ndeparts in: {', '.join(departing)}" if departing else "\nno step departs")


if __name__ == "__main__":
    run_program(main)

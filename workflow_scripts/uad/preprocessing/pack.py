"""From preprocessed scans to the store.  docs/paper.md#packing; D9, D10, D13, D38

Volumes are `[X, Y, Z]` here, as in the preprocessed files; the store turns them (`uad.common.store`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import SimpleITK as sitk

from uad.common.errors import InputError
from uad.common.files import atomic_path
from uad.common.store import ARRAYS, array_path, index_path, new_array
from uad.common.tabular import read_table, write_table
from uad.common.volumes import itk_code, read_image_of_any_unit, read_label
from uad.preprocessing.plausible import DEFAULT_LIMITS, lost_text, share_lost

if TYPE_CHECKING:
    from uad.config.model import CurvatureFlowSettings, PackSettings, PlausibleSettings

# The text pads to 160 slices and cuts 2 x 30 of them where the code crops to 100: 30 % of the result at
# each end.
_TEXT_CUT = 0.3


class Packed(NamedTuple):
    """image float32 ([0, 1]; `background: keep` leaves it at edges), mask and label uint8; [X, Y, Z], final grid."""

    image: np.ndarray
    mask: np.ndarray
    label: np.ndarray


def pack(
    shard_tables: Sequence[str | Path],
    cohort_table: str | Path,
    modality: str,
    settings: PackSettings,
    spacing_mm: float,
    prefix: str | Path,
    limits: PlausibleSettings = DEFAULT_LIMITS,
) -> dict[str, str]:
    """Pack the preprocessed scans of one cohort and modality into a store, sorted by subject.

    Writes `<prefix>.images.npy` (settings.dtype), `.masks.npy`, `.labels.npy` (uint8) and the
    index `<prefix>.tsv` (row, subject, site, scanner, age, lesion_ml; lesion volume on the packed grid in
    ml).  Scans that failed in preprocessing are left out.  One volume is in memory at a time.

    Returns:
        By subject, what it loses beyond `limits` (lesion_lost, brain_lost); others are not listed.

    Raises:
        InputError: no scan of this modality, a subject twice or missing from the cohort table, or a volume
            that cannot be packed.
    """
    rows, cohort = _scans(shard_tables, modality), read_table(cohort_table).set_index("subject")
    unknown = [subject for subject in rows["subject"] if subject not in cohort.index]
    if unknown:
        raise InputError(f"{cohort_table}: does not list {unknown[0]}, which was preprocessed; run ingest again")
    x, y, z = final_shape(settings)
    types = dict(zip(ARRAYS, (settings.dtype, "uint8", "uint8"), strict=True))
    voxel_ml = (spacing_mm / settings.factor) ** 3 / 1000
    lesion_ml, flags = [], {}
    with ExitStack() as stack:
        paths = {name: stack.enter_context(atomic_path(array_path(prefix, name))) for name in ARRAYS}
        arrays = {name: new_array(path, types[name], (len(rows), z, y, x)) for name, path in paths.items()}
        for position, row in enumerate(rows.itertuples()):
            packed, flag = _packed(row, settings, spacing_mm, limits)
            if flag:
                flags[row.subject] = flag
            for name, array in zip(ARRAYS, packed, strict=True):
                arrays[name][position] = array.transpose(2, 1, 0)
            lesion_ml.append(round(float((packed.label == 1).sum()) * voxel_ml, 4))
        for array in arrays.values():
            array.flush()
        index_path(prefix).unlink(missing_ok=True)  # no index while the arrays are exchanged
    index = cohort.loc[rows["subject"], ["site", "scanner", "age"]].reset_index()
    index.insert(0, "row", range(len(index)))
    write_table(index.assign(lesion_ml=lesion_ml), index_path(prefix))
    return flags


def _scans(shard_tables: Sequence[str | Path], modality: str) -> pd.DataFrame:
    table = pd.concat([read_table(path) for path in shard_tables], ignore_index=True)
    rows = table[(table["modality"] == modality) & (table["status"] == "ok")].sort_values("subject", ignore_index=True)
    if rows.empty:
        raise InputError(f"{shard_tables[0]}: no finished {modality} scan in {len(shard_tables)} shard tables")
    twice = rows["subject"][rows["subject"].duplicated()].tolist()
    if twice:
        raise InputError(f"shard tables: {twice[0]} {modality} appears more than once; delete old shard tables")
    return rows


def _packed(row: Any, settings: PackSettings, spacing_mm: float, limits: PlausibleSettings) -> tuple[Packed, str]:
    """One row of a shard table as a packed volume, and what it has lost beyond the limits."""
    image, mask = read_image_of_any_unit(row.image), read_label(row.mask)
    label = read_label(row.label).data if row.label else np.zeros_like(mask.data)
    if not image.data.shape == mask.data.shape == label.shape:
        raise InputError(f"{row.image}: image, mask and label differ in shape; preprocess the scan again")
    if np.abs(image.spacing / spacing_mm - 1).max() > 1e-3 or itk_code(image) != "RAI":
        raise InputError(f"{row.image}: is not at {spacing_mm} mm in orientation RAI; preprocess the scan again")
    try:
        packed = pack_volume(image.data, mask.data, label, settings)
    except InputError as error:
        raise InputError(f"{row.image}: {error}") from error
    lost = []
    for what, before, after, limit in (
        ("brain", mask.data > 0, packed.mask > 0, limits.brain_lost),
        ("lesion", label == 1, packed.label == 1, limits.lesion_lost),
    ):
        share = share_lost(before, crop_or_pad(before, settings.crop) & after.any())  # halving can lose a small lesion
        if share > limit:
            lost.append(lost_text(what, before.sum() * spacing_mm**3 / 1000, share, "the packed box"))
    return packed, "; ".join(lost)


def final_shape(settings: PackSettings) -> tuple[int, int, int]:
    """Shape (x, y, z) of a packed volume, e.g. (96, 96, 50)."""
    x, y, z = (_scaled(n, settings.factor) for n in settings.crop)
    return x, y, z


def pack_volume(image: np.ndarray, mask: np.ndarray, label: np.ndarray, settings: PackSettings) -> Packed:
    """Prepare one volume [X, Y, Z] for the store.

    With `settings.background` zero (D38) the background is 0 and all values lie in [0, 1]. With `keep`, as in the
    authors' code, smoothing reaches over the rim of the brain and splines ring at it: values of -0.13 to 1.15.

    Args:
        image: float32; mask: uint8 {0, 1}; label: uint8 {0, 1, 2}.

    Raises:
        InputError: the mask is empty within the crop, or the image is constant inside it.
    """
    image = curvature_flow(image, settings.curvature_flow)
    cut = 0
    shape = list(settings.crop)
    if settings.order == "pad_resize_cut":
        cut = round(_TEXT_CUT * final_shape(settings)[2])
        shape[2] += round(2 * cut / settings.factor)
    image, mask, label = (crop_or_pad(array, tuple(shape)) for array in (image, mask, label))
    image = rescale_intensity(image, mask > 0, settings.percentiles)
    if settings.background == "zero":
        image = np.where(mask > 0, image, 0)
    image = resize(image, settings.factor)
    mask, label = (nearest(array, settings.factor) for array in (mask, label))
    inside = slice(cut, mask.shape[2] - cut)
    image, mask, label = image[..., inside], mask[..., inside], label[..., inside]
    if not mask.any():
        raise InputError("no brain is left inside the crop; check pack.crop and the brain mask")
    if settings.background == "zero":
        image = np.where(mask > 0, np.clip(image, 0, 1), 0)
    return Packed(image.astype(np.float32), mask, label)


def curvature_flow(image: np.ndarray, settings: CurvatureFlowSettings) -> np.ndarray:
    """Edge-preserving smoothing on a grid of unit spacing; no iterations: unchanged.  D10"""
    if settings.iterations == 0:
        return image
    source = sitk.GetImageFromArray(image.astype(np.float32))
    return sitk.GetArrayFromImage(sitk.CurvatureFlow(source, settings.time_step, settings.iterations))


def crop_or_pad(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Centred crop or zero padding of each axis; an odd difference takes or adds one more at the start."""
    for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
        start = math.ceil(abs(old - new) / 2)
        if new < old:
            array = np.take(array, range(start, start + new), axis=axis)
        elif new > old:
            width = [(0, 0)] * array.ndim
            width[axis] = (start, new - old - start)
            array = np.pad(array, width)
    return array


def rescale_intensity(image: np.ndarray, inside: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Map the percentiles of the values inside the brain to 0 and 1, and clip all voxels to that.  D13

    Raises:
        InputError: no brain, or both percentiles are one value.
    """
    if not inside.any():
        raise InputError("no brain is left inside the crop; check pack.crop and the brain mask")
    low, high = np.percentile(image[inside], percentiles)
    if not high > low:
        raise InputError("the image is constant inside the brain; exclude the scan")
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32)


def resize(array: np.ndarray, factor: float) -> np.ndarray:
    """Resample about the centre of the grid by cubic B-splines, without anti-aliasing.

    With factor 0.5 the new voxel k lies at old index 0.5 + 2k.
    """
    if factor == 1:
        return array
    new, start = _resized(array.shape, factor)
    source = sitk.GetImageFromArray(array)  # SimpleITK's axes run the other way round
    result = sitk.Resample(
        source, new[::-1], sitk.Transform(3, sitk.sitkIdentity), sitk.sitkBSpline, start[::-1],
        [1 / factor] * 3, source.GetDirection(), 0, source.GetPixelID(),
    )  # fmt: skip
    return sitk.GetArrayFromImage(result)


def nearest(array: np.ndarray, factor: float) -> np.ndarray:
    """Masks and labels on the grid of `resize`: the nearest voxel, and the later one of two that are as near.

    With factor 0.5 that is `array[1::2, 1::2, 1::2]`. ITK's filter rounds along each scan line and so falls to the
    earlier voxel in single planes.
    """
    new, start = _resized(array.shape, factor)
    places = (
        np.minimum(np.floor(first + np.arange(count) / factor + 0.5 + 1e-6).astype(int), old - 1)
        for first, count, old in zip(start, new, array.shape, strict=True)
    )
    return array[np.ix_(*places)]


def _resized(shape: tuple[int, ...], factor: float) -> tuple[list[int], list[float]]:
    """Shape of the new grid, and where in old voxels its first voxel lies."""
    new = [_scaled(n, factor) for n in shape]
    return new, [(n - 1) / 2 - (count - 1) / 2 / factor for n, count in zip(shape, new, strict=True)]


def _scaled(voxels: int, factor: float) -> int:
    return max(1, math.floor(voxels * factor + 1e-6))  # the new grid never reaches over the old one

"""First stage of preprocessing: check, resample, find the brain.  docs/paper.md#preprocessing, steps 1 and 2; D12"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.ndimage import binary_fill_holes

from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.common.recipe import VERSIONS
from uad.common.volumes import Volume, in_common_unit, on_grid_of, read_image, read_label, reorient, write_volume
from uad.preprocessing.itk import ants, move_label, resample_spacing, to_ants
from uad.preprocessing.plausible import DEFAULT_LIMITS, face_fraction, refuse_background
from uad.preprocessing.scan import Scan, scans_of
from uad.preprocessing.shard import Progress, Row, input_hashes, run_shard, settings_hash

if TYPE_CHECKING:
    from uad.config.model import PlausibleSettings, PreprocessSettings
    from uad.preprocessing.hd_bet import HdBet


def skull_strip_shard(
    rows: pd.DataFrame,
    settings: PreprocessSettings,
    folder: str | Path,
    table: str | Path,
    *,
    name: str,
    device: str = "auto",
    threads: int = 1,
    label_on_own_grid: bool = False,
    exclude_label: int | None = None,
    limits: PlausibleSettings = DEFAULT_LIMITS,
    progress: Progress = print,
) -> pd.DataFrame:
    """Resample and skull-strip the scans of a shard.

    Writes `<subject>_<modality>_resampled.nii.gz` (float32, still with skull), `_mask.nii.gz` and, for
    scans with a lesion label, `_label.nii.gz` (uint8), all at `settings.spacing_mm` in ITK orientation RAI,
    and the table.

    The brain mask is the cohort table's if it names one; else, for scans that come stripped, follows
    `settings.stripped_mask` (D12); else HD-BET draws it.

    Args:
        rows: the shard's rows of the cohort table, every cell as text (`tabular.read_table`, `scan.members`).
        name: how messages call the shard, e.g. "ixi shard 0".
        device: "auto", "cpu" or "cuda", for HD-BET.
        label_on_own_grid: the lesion label lies on another grid in the scanner space of the scan (WMH) and is
            brought over by its header.
        exclude_label: label value that becomes 2 (left out of the evaluation; WMH: 2). Any other value
            above 0 becomes 1.
        limits: what a scan has to keep to (docs/preprocessing.md).

    Raises:
        InputError: more scans failed than `settings.max_failures`, or HD-BET's parameters are unusable.
    """
    step = SkullStrip(settings, Path(folder), device, threads, label_on_own_grid, exclude_label, progress)
    scans = scans_of(rows)
    if any(step.needs_hd_bet(scan) for scan in scans):
        step.hd_bet_checkpoint  # noqa: B018  (unusable parameters fail the shard, not every scan of it)
    return run_shard(name, scans, step, table, max_failures=settings.max_failures, limits=limits, progress=progress)


class SkullStrip:
    """The step of one scan; HD-BET is loaded when the first scan needs it."""

    def __init__(
        self,
        settings: PreprocessSettings,
        folder: Path,
        device: str,
        threads: int,
        label_on_own_grid: bool,
        exclude_label: int | None,
        progress: Callable[[str], None],
    ) -> None:
        self.settings, self.folder = settings, folder
        self.device, self.threads, self.progress = device, threads, progress
        self.label_on_own_grid, self.exclude_label = label_on_own_grid, exclude_label

    def needs_hd_bet(self, scan: Scan) -> bool:
        return not scan.mask and (not scan.stripped or self.settings.stripped_mask == "hd_bet")

    @cached_property
    def hd_bet_checkpoint(self) -> str:
        """SHA-256 of the checkpoint that will draw the masks."""
        from uad.common.pinned import pinned_sha256
        from uad.preprocessing.hd_bet import checked_parameters

        folder = checked_parameters(self.settings.hd_bet.parameters, self.settings.hd_bet.sha256)
        checkpoint = folder / "fold_all" / "checkpoint_final.pth"
        digest = sha256_of(checkpoint)
        if self.settings.hd_bet.sha256 is None and pinned_sha256(checkpoint, folder) is None:
            self.progress(f"HD-BET checkpoint is not pinned; set preprocess.hd_bet.sha256 to {digest}")
        return digest

    @cached_property
    def hd_bet(self) -> HdBet:
        from uad.preprocessing.hd_bet import HdBet, choose_device

        settings = self.settings.hd_bet
        device = choose_device(self.device)
        # The hash that recipes hold, so that what is loaded is what they name.
        return HdBet(settings.parameters, self.hd_bet_checkpoint, settings.test_time_augmentation, device, self.threads)

    def recipe(self, scan: Scan) -> dict[str, Any]:
        values: dict[str, Any] = {
            "version": VERSIONS["brain masks"],
            "spacing_mm": self.settings.spacing_mm,
            "label_on_own_grid": self.label_on_own_grid,
            "exclude_label": self.exclude_label,
            "stripped_mask": self.settings.stripped_mask if scan.stripped else None,
        }
        if self.needs_hd_bet(scan):
            augmented = self.settings.hd_bet.test_time_augmentation
            values["hd_bet"] = {"sha256": self.hd_bet_checkpoint, "test_time_augmentation": augmented}
        inputs = input_hashes(scan)
        if scan.sha256 not in ("", inputs["image"]):
            raise InputError(f"{scan.image}: has changed since ingest read it; run again, which reads it anew")
        return {"inputs": inputs, "settings": settings_hash(values)}

    def run(self, scan: Scan) -> Row:
        original = read_image(scan.image)
        image, clipped = resample_spacing(reorient(original), self.settings.spacing_mm)
        drawn = self._brain_mask(scan, original, image)
        brain = _nearest(drawn, image)
        if not brain.data.any():
            raise InputError(f"{scan.image}: its brain mask is empty; look at the scan, exclude it or give a mask")
        row: Row = {"image": f"{scan.name}_resampled.nii.gz", "mask": f"{scan.name}_mask.nii.gz"}
        write_volume(self.folder / row["image"], image)
        write_volume(self.folder / row["mask"], brain)
        row["brain_ml"] = round(float(brain.data.sum()) * brain.voxel_ml, 1)
        row["clipped_fraction"] = round(float(clipped[brain.data > 0].mean()), 6)
        row["face_fraction"] = round(face_fraction(drawn.data), 4)
        row["negative_fraction"] = round(float((image.data[brain.data > 0] < 0).mean()), 6)
        if scan.label:
            row["label"] = f"{scan.name}_label.nii.gz"
            label = self._label(scan, original, image)
            write_volume(self.folder / row["label"], label)
            lesion = label.data == 1
            row["lesion_ml"] = round(float(lesion.sum()) * label.voxel_ml, 4)
            row["lesion_outside"] = round(float((brain.data[lesion] == 0).mean()), 4) if lesion.any() else 0.0
        return row

    def _brain_mask(self, scan: Scan, original: Volume, image: Volume) -> Volume:
        """uint8 {0, 1}, on the grid of `image` where it is drawn on it, else on that of `original`."""
        if self.needs_hd_bet(scan):
            return image.with_data(self.hd_bet.mask(in_common_unit(image)))
        if scan.mask:
            given = on_grid_of(read_label(scan.mask), original, scan.mask)
            return given.with_data((given.data > 0).astype(np.uint8))
        if self.settings.stripped_mask == "get_mask":
            return image.with_data((ants.get_mask(to_ants(image)).numpy() > 0).astype(np.uint8))
        refuse_background(original, scan.image)
        # before resampling, which lets values ring outside the brain
        return original.with_data(binary_fill_holes(original.data != 0).astype(np.uint8))

    def _label(self, scan: Scan, original: Volume, image: Volume) -> Volume:
        """uint8 {0, 1 lesion, 2 excluded} on the grid of `image`."""
        label = read_label(scan.label)
        if self.label_on_own_grid:
            _check_inside(label, original, scan.label)
        else:
            label = on_grid_of(label, original, scan.label)
        classes = (label.data > 0).astype(np.uint8)
        if self.exclude_label is not None:
            classes[label.data == self.exclude_label] = 2
        return _nearest(label.with_data(classes), image)


def _check_inside(label: Volume, image: Volume, path: str) -> None:
    """Refuse a label whose header puts all of its labelled voxels outside the scan."""
    labelled = np.argwhere(label.data > 0)
    homogeneous = np.column_stack([labelled, np.ones(len(labelled))])
    index = (np.linalg.inv(image.affine) @ label.affine @ homogeneous.T)[:3].T
    inside = ((index >= -0.5) & (index <= np.array(image.data.shape) - 0.5)).all(axis=1)
    if len(labelled) and not inside.any():
        raise InputError(f"{path}: no labelled voxel lies inside the scan; check both headers")


def _nearest(label: Volume, image: Volume) -> Volume:
    """A mask or label on the grid of `image`, by header."""
    upright = reorient(label)
    if upright.data.shape == image.data.shape and np.allclose(upright.affine, image.affine, atol=1e-6):
        return upright
    return move_label(upright, image, (), "nearestNeighbor")

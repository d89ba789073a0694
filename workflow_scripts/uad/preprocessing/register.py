"""Second stage of preprocessing: to atlas space, crop, N4.  docs/paper.md#preprocessing, steps 3 to 5; D11, D12"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from uad.common.errors import InputError
from uad.common.files import atomic_path, sha256_of
from uad.common.recipe import VERSIONS
from uad.common.volumes import Volume, read_image, read_image_of_any_unit, read_label, write_volume
from uad.preprocessing.atlas import Atlas, load_atlas
from uad.preprocessing.bias_field import correct_bias_field
from uad.preprocessing.crop import bounding_box, crop
from uad.preprocessing.itk import ants, move, move_label, to_ants
from uad.preprocessing.plausible import DEFAULT_LIMITS, share_lost
from uad.preprocessing.quality import mutual_information
from uad.preprocessing.scan import Scan, scans_of
from uad.preprocessing.shard import Progress, Row, input_hashes, run_shard, settings_hash

if TYPE_CHECKING:
    from uad.config.model import PlausibleSettings, PreprocessSettings, RegistrationSettings

# ANTs' own pyramid, of which a shorter list of iterations takes the finest levels.
_SHRINK_FACTORS = (6, 4, 2, 1)
_SMOOTHING_SIGMAS = (3, 2, 1, 0)
_LOST_BRAIN_TOLERANCE = 0.1


def register_shard(
    rows: pd.DataFrame,
    stripped: pd.DataFrame,
    atlas: str | Path,
    settings: PreprocessSettings,
    folder: str | Path,
    table: str | Path,
    *,
    name: str,
    seed: int,
    workers: int = 1,
    limits: PlausibleSettings = DEFAULT_LIMITS,
    progress: Progress = print,
) -> pd.DataFrame:
    """Register, crop and bias-correct the skull-stripped scans of a shard.

    Writes `<subject>_<modality>.nii.gz` (float32, brain only), `_mask.nii.gz`, `_label.nii.gz` for scans
    with a label (uint8) and the transform `<subject>_<modality>.mat` into `folder`, and the table.

    Scans that the cohort table calls registered are put on the atlas grid by their header
    (`settings.register_stripped_registered` registers them as the authors do); bias-corrected ones skip N4;
    those that are stripped, registered and bias-corrected keep their own grid and are only cropped.

    Args:
        rows: the shard's rows of the cohort table; stripped: the shard's table of `skull_strip_shard`, both
            with every cell as text (`tabular.read_table`).
        atlas: skull-stripped T1 template (NIfTI).
        workers: processes; each uses one thread, so results do not depend on their number.
        limits: what a scan has to keep to (docs/preprocessing.md).

    Raises:
        InputError: more scans failed than `settings.max_failures`, or the atlas is unusable.
    """
    clipped = {f"{r.subject}_{r.modality}": r.clipped_fraction for r in stripped.itertuples()}
    step = Registration(settings, Path(folder), str(atlas), seed, clipped)
    load_atlas(step.atlas_path, settings.atlas.orientation, settings.spacing_mm)
    done = stripped.set_index(["subject", "modality"])
    failed = stripped[stripped["status"] != "ok"]
    scans = []
    for scan in scans_of(rows):
        if (scan.subject, scan.modality) not in done.index:
            raise InputError(f"{name}: {scan.subject} {scan.modality} is missing after skull stripping; run it again")
        row = done.loc[(scan.subject, scan.modality)]
        if row["status"] == "ok":
            scans.append(replace(scan, image=row["image"], mask=row["mask"], label=row["label"]))
    flags = {f"{r.subject}_{r.modality}": r.flag for r in stripped.itertuples()}
    return run_shard(
        name, scans, step, table, max_failures=settings.max_failures, limits=limits, workers=workers, progress=progress,
        failed_before=failed.to_dict("records"), flagged_before=flags,
    )  # fmt: skip


class Registration:
    """The step of one scan.

    Args:
        clipped: the clipped fraction that the first stage reported, by scan name, for the table.
    """

    def __init__(
        self, settings: PreprocessSettings, folder: Path, atlas: str, seed: int, clipped: dict[str, str]
    ) -> None:
        self.settings, self.folder, self.seed, self.clipped = settings, folder, seed, clipped
        self.atlas_path = atlas
        self.atlas_sha256 = sha256_of(atlas) if Path(atlas).is_file() else ""

    def recipe(self, scan: Scan) -> dict[str, Any]:
        registration, n4 = self.settings.registration, self.settings.n4
        values = {
            "version": VERSIONS["registration"],
            "seed": self.seed,
            "spacing_mm": self.settings.spacing_mm,
            "atlas": [self.atlas_sha256, self.settings.atlas.orientation],
            "registration": [
                registration.transform,
                list(registration.iterations),
                registration.histogram_matching,
                registration.label_interpolation,
            ],
            "register_stripped_registered": self.settings.register_stripped_registered,
            "n4": [n4.levels, n4.iterations, n4.tolerance, n4.spline_mm, n4.mask, n4.mask_sigma, n4.mask_stripped],
            "last_plane": self.settings.crop.last_plane,
            "state": [scan.stripped, scan.registered, scan.bias_corrected, self.settings.stripped_mask],
        }
        return {"inputs": input_hashes(scan), "settings": settings_hash(values)}

    def run(self, scan: Scan) -> Row:
        ready = scan.stripped and scan.registered and scan.bias_corrected  # such scans keep grid and values
        image = read_image(scan.image) if ready else read_image_of_any_unit(scan.image)
        brain = read_label(scan.mask)
        if not (scan.stripped and self.settings.stripped_mask == "get_mask"):  # the authors keep such scans whole, D12
            image = image.with_data(image.data * brain.data)
        weights = brain
        label = read_label(scan.label) if scan.label else None
        atlas = load_atlas(self.atlas_path, self.settings.atlas.orientation, self.settings.spacing_mm)
        with atomic_path(self.folder / f"{scan.name}.mat") as transform:
            if self._needs_registration(scan):
                align(image, atlas.image, self.settings.registration, self.seed, transform)
            else:
                _write_identity(transform)
            if not ready:
                image, brain, weights, label = self._to_atlas(scan, image, brain, label, atlas, transform)
        row: Row = {
            "brain_ml": round(float(brain.data.sum()) * brain.voxel_ml, 1),
            "atlas_dice": round(_dice_on_atlas(brain, atlas), 4),
            "mutual_information": round(_information_on_atlas(image, brain, atlas), 4),
            "clipped_fraction": self.clipped[scan.name],
        }
        box = bounding_box(brain.data, self.settings.crop.last_plane)
        if label is not None:
            row |= _lesion_kept(label, crop(label, box), read_label(scan.label))
        image, brain = crop(image, box), crop(brain, box)
        if not scan.bias_corrected:
            weighted = self.settings.n4.mask_stripped or not scan.stripped
            image, field = correct_bias_field(image, brain, self.settings.n4, crop(weights, box) if weighted else None)
            inside = field[brain.data > 0]
            row |= {"n4_min": round(float(inside.min()), 4), "n4_max": round(float(inside.max()), 4)}
        return row | self._write(scan, image, brain, crop(label, box) if label is not None else None)

    def _needs_registration(self, scan: Scan) -> bool:
        if scan.stripped and scan.registered and scan.bias_corrected:
            return False
        return not scan.registered or (scan.stripped and self.settings.register_stripped_registered)

    def _to_atlas(
        self, scan: Scan, image: Volume, brain: Volume, label: Volume | None, atlas: Atlas, transform: Path
    ) -> tuple[Volume, Volume, Volume, Volume | None]:
        """Image, brain mask, the mask as N4's weights and label on the atlas grid, all by the same transform.

        A mask that is moved linearly is binary only as a mask; its weights keep their values between 0 and 1, as in the
        authors' code (D11).
        """
        grid, transforms = atlas.image, [str(transform)]
        interpolation = self.settings.registration.label_interpolation
        moved = grid.with_data(move(image, grid, transforms, "linear").astype(np.float32))
        moved_brain = move_label(brain, grid, transforms, interpolation)
        weights = grid.with_data(move(brain, grid, transforms, interpolation))
        lost = 1 - moved_brain.data.sum() * moved_brain.voxel_ml / (brain.data.sum() * brain.voxel_ml)
        if not self._needs_registration(scan) and lost > _LOST_BRAIN_TOLERANCE:
            raise InputError(
                f"{scan.image}: {lost:.0%} of its brain lies outside the atlas grid although the cohort "
                "table calls it registered; set registered to 0, or use the atlas it was registered to"
            )
        if not moved_brain.data.any():
            raise InputError(f"{scan.image}: the registration moved the brain out of the atlas; look at the scan")
        moved_label = None if label is None else move_label(label, grid, transforms, interpolation)
        return moved, moved_brain, weights, moved_label

    def _write(self, scan: Scan, image: Volume, brain: Volume, label: Volume | None) -> Row:
        row: Row = {"image": f"{scan.name}.nii.gz", "mask": f"{scan.name}_mask.nii.gz"}
        write_volume(self.folder / row["image"], image)
        write_volume(self.folder / row["mask"], brain)
        if label is not None:
            row["label"] = f"{scan.name}_label.nii.gz"
            write_volume(self.folder / row["label"], label)
        return row


def align(image: Volume, template: Volume, settings: RegistrationSettings, seed: int, transform: str | Path) -> None:
    """Align a stripped image to a stripped template and write the linear transform to `transform` (ITK, `.mat`)."""
    iterations = tuple(settings.iterations)
    with tempfile.TemporaryDirectory() as scratch:
        result = ants.registration(
            to_ants(template),
            to_ants(image),
            type_of_transform=settings.transform,
            outprefix=os.path.join(scratch, "affine"),
            aff_iterations=iterations,
            aff_shrink_factors=_SHRINK_FACTORS[-len(iterations) :],
            aff_smoothing_sigmas=_SMOOTHING_SIGMAS[-len(iterations) :],
            random_seed=seed,
            use_legacy_histogram_matching=settings.histogram_matching,
        )
        shutil.copyfile(result["fwdtransforms"][0], transform)


def _write_identity(transform: Path) -> None:
    ants.write_transform(ants.new_ants_transform(transform_type="AffineTransform", dimension=3), str(transform))


def _lesion_kept(label: Volume, cropped: Volume, before: Volume) -> Row:
    """Lesion volume in ml and the share of it that the crop loses; 1 where registration leaves none of a lesion."""
    lesion = label.data == 1
    if lesion.any():
        lost = share_lost(lesion, cropped.data == 1)
        return {"lesion_ml": round(float(lesion.sum()) * label.voxel_ml, 4), "lesion_lost": round(lost, 4)}
    lesion_ml = round(float((before.data == 1).sum()) * before.voxel_ml, 4)
    return {"lesion_ml": lesion_ml, "lesion_lost": float(lesion_ml > 0)}


def _dice_on_atlas(brain: Volume, atlas: Atlas) -> float:
    """Overlap of a brain mask, placed by its header, with the atlas brain."""
    mask = move_label(brain, atlas.brain, (), "nearestNeighbor").data > 0
    reference = atlas.brain.data > 0
    return float(2 * (mask & reference).sum() / (mask.sum() + reference.sum()))


def _information_on_atlas(image: Volume, brain: Volume, atlas: Atlas) -> float:
    """Mutual information of an image, placed by its header, with the atlas, where both have brain; in nats."""
    grid = atlas.image
    if image.data.shape != grid.data.shape or not np.array_equal(image.affine, grid.affine):
        image = grid.with_data(move(image, grid, (), "linear"))
        brain = move_label(brain, grid, (), "nearestNeighbor")
    return mutual_information(image.data, grid.data, (brain.data > 0) & (atlas.brain.data > 0))

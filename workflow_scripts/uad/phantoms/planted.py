"""A cohort of healthy scans with planted strokes, in the layout of a BIDS folder.  docs/own-data.md#planted-strokes

The healthy scans are test scans, the shapes real strokes, so the lesions are known to the voxel and so is the scan
without them.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from uad.cohorts.bids import NIFTI
from uad.cohorts.people import person_of
from uad.common.errors import InputError
from uad.common.processes import forked_workers
from uad.common.seeds import seed_for
from uad.common.tabular import write_table
from uad.common.volumes import Volume, on_grid_of, read_image, read_label, write_volume
from uad.phantoms.stroke import Stroke, fluid_intensity, place, plant
from uad.preprocessing.atlas import load_atlas
from uad.preprocessing.register import align
from uad.preprocessing.templates import find_atlas

if TYPE_CHECKING:
    from uad.config.model import PlantedSettings, RegistrationSettings

COLUMNS = ("subject", "healthy", "mask", "mask_ml", "contrast", "fluid", "lesion_ml", "outside")
_ABOUT = ("site", "scanner", "age")
_QUARTERS = 4
_TRIES = 5
_TEMPLATE_MM = 2.0  # grid that a scan is registered on


@dataclass(frozen=True)
class Planting:
    """One planted scan to come.

    subject: `sub-<person>_ses-<...>planted<k>`, which the default rule of `person_of` takes back to the person.
    masks: files to try, in order.
    seed: of its look.
    """

    subject: str
    masks: tuple[Path, ...]
    seed: int


def plant_cohort(
    healthy: pd.DataFrame,
    splits: pd.DataFrame,
    settings: PlantedSettings,
    registration: RegistrationSettings,
    *,
    name: str,
    subjects: int,
    person: str | None,
    masks: str | Path,
    seed: int,
    folder: str | Path,
    workers: int = 1,
    progress: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Write `subjects` planted scans below `folder`, which is emptied first.

    Each `sub-*/ses-*/anat/*_T1w.nii.gz` has its brain mask, lesion mask and the scan without the lesion
    (`desc-untouched_T1w`) below `derivatives/`; `participants.tsv` has age, site and scanner of the healthy cohort.
    The same arguments give the same bytes, whatever the number of workers.

    Args:
        healthy: table of the healthy cohort; splits: its split table.
        registration: of scans to MNI space.
        name: of the planted cohort.
        person: rule that tells the person from a healthy subject's id.
        masks: folder with stroke masks in MNI space (NIfTI).
        workers: processes; each uses one thread.

    Returns:
        One row per planted scan: subject; healthy (subject that the scan is of); mask (file name) and its volume in ml;
        contrast as drawn; fluid (intensity of CSF in the scan); lesion_ml; outside (masks tried before, which lay
        outside of the brain).

    Raises:
        InputError: no test scan, no masks, a scan without a brain mask, or a scan whose brain no mask fits.
    """
    scans = healthy[healthy["subject"].isin(_only_tested(splits, person))].sort_values("subject")
    if scans.empty:
        raise InputError(
            f"planted.of: no subject of {settings.of} is in its test set in every fold; give it a test set"
        )
    bare = scans["subject"][scans["mask"] == ""]
    if len(bare):
        raise InputError(
            f"planted.of: {bare.iloc[0]} of {settings.of} has no brain mask, and a stroke needs the brain; place "
            "*_desc-brain_mask.nii.gz beside the scans (docs/own-data.md)"
        )
    plantings = _plantings(scans["subject"], _by_size(masks), name, subjects, person, seed)
    shutil.rmtree(folder, ignore_errors=True)
    step = _Planter(settings, registration, Path(folder), seed_for(seed, "registration"))
    load_atlas(str(find_atlas("mni152", "")), "RAI", _TEMPLATE_MM)  # the workers inherit it
    jobs = [(row, plantings[row["subject"]]) for row in scans.to_dict("records") if plantings[row["subject"]]]
    rows: list[dict[str, Any]] = []
    with forked_workers(min(workers, len(jobs))) as pool:
        for future in as_completed([pool.submit(step, *job) for job in jobs]):
            for row in future.result():
                rows.append(row)
                progress(f"{len(rows)}/{subjects} {row['subject']}: {row['mask']}, {row['lesion_ml']} ml")
    people = pd.DataFrame(
        {"participant_id": _label(person_of(row["subject"], person), "sub"), **{key: row[key] for key in _ABOUT}}
        for row, _ in jobs
    )
    write_table(people.drop_duplicates("participant_id"), Path(folder) / "participants.tsv")
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("subject", ignore_index=True)


def _only_tested(splits: pd.DataFrame, person: str | None) -> set[str]:
    """Subjects that are in the test set of every fold, and whose person is in no other set of any."""
    people = splits["subject"].map(lambda subject: person_of(subject, person))
    elsewhere = set(people[splits["split"] != "test"])
    folds = splits[~people.isin(elsewhere)].groupby("subject")["fold"].nunique()
    return set(folds.index[folds == splits["fold"].nunique()])


def _by_size(folder: str | Path) -> list[tuple[Path, ...]]:
    """The stroke masks in quarters of equal number, the small ones first."""
    files = sorted(path for path in Path(folder).rglob("*") if NIFTI.search(path.name) and path.name[0] != ".")
    if len(files) < _QUARTERS:
        raise InputError(
            f"{folder}: {len(files)} stroke masks here, at least {_QUARTERS} are needed; place masks in MNI152 space "
            "(*.nii.gz) there, or name their folder with planted.masks (docs/own-data.md, Planted strokes)"
        )
    volume = {path: _mask_ml(path) for path in files}
    order = sorted(files, key=volume.__getitem__)
    return [tuple(order[i] for i in part) for part in np.array_split(np.arange(len(order)), _QUARTERS)]


def _mask_ml(path: Path) -> float:
    mask = read_label(path)
    if not mask.data.any():
        raise InputError(f"{path}: holds no lesion voxel; remove it")
    return float((mask.data > 0).sum()) * mask.voxel_ml


def _plantings(
    scans: Sequence[str], quarters: Sequence[tuple[Path, ...]], name: str, count: int, person: str | None, seed: int
) -> Mapping[str, list[Planting]]:
    """Healthy subject -> what is planted into its scan: in turn, every quarter of sizes as often.

    No mask is taken twice as long as there are enough.
    """
    rng = np.random.default_rng(seed_for(seed, "planted", name, "masks"))
    shuffled = [[quarter[i] for i in rng.permutation(len(quarter))] for quarter in quarters]
    sizes = rng.permutation(np.arange(count) % _QUARTERS)
    scans = list(scans)
    found: dict[str, list[Planting]] = {scan: [] for scan in scans}
    for index, size in enumerate(sizes):
        scan, turn = scans[index % len(scans)], index // len(scans) + 1
        masks, step = shuffled[size], int((sizes == size).sum())
        first = int((sizes[:index] == size).sum())
        tried = dict.fromkeys(masks[(first + step * i) % len(masks)] for i in range(_TRIES))
        subject = _planted_id(scan, turn, person)
        found[scan].append(Planting(subject, tuple(tried), seed_for(seed, "planted", name, subject)))
    ids = [planting.subject for several in found.values() for planting in several]
    double = next((subject for subject in ids if ids.count(subject) > 1), None)
    if double:
        raise InputError(f"planted.of: two healthy subjects would both be called {double}; rename one of them")
    return found


def _planted_id(subject: str, turn: int, person: str | None) -> str:
    """BIDS id of a planted scan: the person, and what is left of the healthy id as part of the session."""
    who = person_of(subject, person)
    visit = subject.replace(who, "", 1)
    return f"{_label(who, 'sub')}_{_label(visit, 'ses')}planted{turn}"


def _label(text: str, key: str) -> str:
    """`<key>-<label>`; a BIDS label has letters and digits only."""
    return f"{key}-" + re.sub(r"[^A-Za-z0-9]", "", re.sub(rf"^_?{key}-", "", text))


class _Planter:
    """Plants into one healthy scan; a worker has a copy of it."""

    def __init__(self, settings: PlantedSettings, registration: RegistrationSettings, folder: Path, seed: int) -> None:
        self.settings, self.registration, self.folder, self.seed = settings, registration, folder, seed

    def __call__(self, scan: Mapping[str, Any], plantings: Sequence[Planting]) -> list[dict[str, Any]]:
        """Write the planted scans of one healthy scan; returns their rows."""
        image = read_image(scan["t1"])
        brain = on_grid_of(read_label(scan["mask"]), image, scan["mask"])
        brain = brain.with_data((brain.data > 0).astype(np.uint8))
        template = load_atlas(str(find_atlas("mni152", "")), "RAI", _TEMPLATE_MM)
        fluid = fluid_intensity(image, brain)
        with tempfile.TemporaryDirectory() as scratch:
            transform = str(Path(scratch) / "to-mni.mat")
            stripped = image.with_data(image.data * brain.data)
            align(stripped, template.image, self.registration, self.seed, transform)
            return [self._plant(scan, planting, image, brain, fluid, transform) for planting in plantings]

    def _plant(
        self, scan: Mapping[str, Any], planting: Planting, image: Volume, brain: Volume, fluid: float, transform: str
    ) -> dict[str, Any]:
        rng = np.random.default_rng(planting.seed)
        contrast = float(rng.uniform(*self.settings.contrast))
        path, mask, stroke = self._placed(scan, planting, brain, transform, rng)
        where = self.folder / planting.subject.replace("_", "/", 1) / "anat"
        derived = self.folder / "derivatives" / where.relative_to(self.folder)
        write_volume(where / f"{planting.subject}_T1w.nii.gz", plant(image, stroke, contrast, fluid))
        write_volume(derived / f"{planting.subject}_desc-untouched_T1w.nii.gz", image)
        write_volume(derived / f"{planting.subject}_desc-brain_mask.nii.gz", brain)
        write_volume(derived / f"{planting.subject}_label-lesion_mask.nii.gz", image.with_data(stroke.truth))
        return {
            "subject": planting.subject, "healthy": scan["subject"],
            "mask": path.name, "mask_ml": round(float(mask.data.sum()) * mask.voxel_ml, 3),
            "contrast": round(contrast, 4), "fluid": round(fluid, 4),
            "lesion_ml": round(float(stroke.truth.sum()) * image.voxel_ml, 3), "outside": planting.masks.index(path),
        }  # fmt: skip

    def _placed(
        self, scan: Mapping[str, Any], planting: Planting, brain: Volume, transform: str, rng: np.random.Generator
    ) -> tuple[Path, Volume, Stroke]:
        """The first mask that fits into the brain, and its stroke."""
        for path in planting.masks:
            mask = read_label(path)
            mask = mask.with_data((mask.data > 0).astype(np.uint8))
            stroke = place(mask, brain, transform, self.settings.edge_mm, rng)
            if stroke is not None:
                return path, mask, stroke
        raise InputError(
            f"{scan['t1']}: once it is registered, none of {', '.join(map(str, planting.masks))} fits into its brain; "
            "look at its brain mask, and whether the stroke masks are in MNI152 space"
        )

"""Turn the glioma slices of Kaggle's LGG segmentation data set into scans that the adapter `folder` reads.

python tools/lgg_from_kaggle.py archive.zip data/raw/lgg         # or the folder kaggle_3m

Source: Buda et al. 2019, doi 10.1016/j.compbiomed.2019.05.002; https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation.
A patient is a folder of slices `<patient>_<n>.tif`, 256 x 256 with the channels T1 before contrast, FLAIR and T1 after
contrast, and masks `<patient>_<n>_mask.tif` drawn on FLAIR. A channel that a patient lacks holds FLAIR.

What is made is an estimate of what was taken: the slices have no geometry. A pixel of 256 x 256 counts as 0.9375 mm,
and 150 mm as the height of every stack. Left and right are unknown. Brain masks are left to HD-BET.  docs/data.md
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image, UnidentifiedImageError

from uad.cohorts.unpack import unpack
from uad.common.errors import InputError, run_program
from uad.common.files import atomic_path
from uad.common.log import job_log

_T1, _FLAIR = 0, 1  # channels
_SIDE = 256
_PIXEL_MM = 1.875  # of 2 x 2 pixels
_HEIGHT_MM = 150.0
_SLICE = re.compile(r"(?P<patient>TCGA_[A-Za-z0-9_]+)_(?P<number>\d+)\.tif", re.IGNORECASE)
_MEMBER = re.compile(r"(?:^|/)kaggle_3m/TCGA_[^/]+/[^/]+\.tif$", re.IGNORECASE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the archive as downloaded, or the folder kaggle_3m")
    parser.add_argument("folder", type=Path, help="where the scans go, e.g. data/raw/lgg")
    arguments = parser.parse_args()

    say = job_log("lgg")
    if arguments.source.is_dir():
        convert(arguments.source, arguments.folder, say)
        return
    if not arguments.source.is_file():
        raise InputError(f"{arguments.source}: does not exist; download the archive, or name the folder kaggle_3m")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder.parent) as scratch:
        convert(unpack(arguments.source, Path(scratch) / "slices", [_MEMBER]), arguments.folder, say)


def convert(source: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Write T1 and lesion mask of every patient below `source` who has a T1 of his own.

    Raises:
        InputError: no patient here, a slice is missing or of another size, or its mask is.
    """
    scans = {patient: read_stack(slices) for patient, slices in sorted(find_slices(source).items())}
    lacking = [patient for patient, (t1, _) in scans.items() if t1 is None]
    kept = {patient: (t1, mask) for patient, (t1, mask) in scans.items() if t1 is not None}
    if not kept:
        raise InputError(f"{source}: no patient here has a T1 before contrast; is it the folder kaggle_3m?")
    upwards = from_foot_to_head([t1 for t1, _ in kept.values()])
    for patient, (t1, mask) in kept.items():
        write_scan(folder, patient, t1 if upwards else t1[..., ::-1], mask if upwards else mask[..., ::-1])
    say(f"{len(kept)} scans in {folder}; slices numbered from {'foot to head' if upwards else 'head to foot'}")
    if lacking:
        say(f"{len(lacking)} patients left out, who have no T1 before contrast: {', '.join(lacking)}")


def find_slices(source: Path) -> dict[str, list[Path]]:
    """Patient -> slices in the order of their numbers; Kaggle's archive has every patient twice, who counts once."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(source.rglob("*.tif")):
        if match := _SLICE.fullmatch(path.name):
            found.setdefault(match["patient"], {}).setdefault(int(match["number"]), path)
    if not found:
        raise InputError(f"{source}: holds no TCGA_<...>_<n>.tif; name the archive as downloaded, or kaggle_3m")
    for patient, slices in found.items():
        absent = sorted(set(range(1, max(slices) + 1)) - set(slices))
        if absent:
            raise InputError(f"{slices[max(slices)].parent}: lacks slice {absent[0]} of {patient}; download it again")
    return {patient: [slices[number] for number in sorted(slices)] for patient, slices in found.items()}


def read_stack(slices: list[Path]) -> tuple[np.ndarray | None, np.ndarray]:
    """T1 and lesion mask of a patient, both [X, Y, Z] = [128, 128, slices], uint8; T1 is None where it is FLAIR."""
    images = np.stack([_read(path, 3) for path in slices])
    masks = np.stack([_read(path.with_name(f"{path.stem}_mask{path.suffix}"), 1) for path in slices])
    has_t1 = not np.array_equal(images[..., _T1], images[..., _FLAIR])
    t1 = np.rint(_halved(images[..., _T1])).astype(np.uint8)
    return (t1 if has_t1 else None), (_halved(masks > 127) >= 0.5).astype(np.uint8)


def from_foot_to_head(stacks: list[np.ndarray]) -> bool:
    """Whether the slices of most patients, [X, Y, Z] each, go up: the top of the head is smaller than the neck."""
    ends = [[np.count_nonzero(stack[..., z] > 0.1 * stack.max()) for z in (0, -1)] for stack in stacks]
    return sum(first >= last for first, last in ends) * 2 >= len(stacks)


def write_scan(folder: Path, patient: str, t1: np.ndarray, mask: np.ndarray) -> None:
    """Write both as NIfTI files of the adapter's layout; x to the right or left, y forwards, z up."""
    subject = f"sub-{re.sub('[^A-Za-z0-9]', '', patient)}"
    affine = np.diag([_PIXEL_MM, _PIXEL_MM, _HEIGHT_MM / t1.shape[2], 1.0])
    affine[:3, 3] = -_PIXEL_MM * _SIDE / 4, -_PIXEL_MM * _SIDE / 4, -_HEIGHT_MM / 2
    for place, ending, values in (("", "T1w", t1), ("derivatives", "label-lesion_mask", mask)):
        image = nibabel.Nifti1Image(values, affine)
        image.header.set_xyzt_units("mm")
        with atomic_path(folder / place / subject / "anat" / f"{subject}_{ending}.nii.gz") as temporary:
            nibabel.save(image, temporary)


def _halved(stack: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels of [Z, rows, columns], turned to [X, Y, Z]: rows are counted from the front of the head."""
    z, rows, columns = stack.shape
    means = stack.reshape(z, rows // 2, 2, columns // 2, 2).mean(axis=(2, 4))
    return means[:, ::-1].transpose(2, 1, 0)


def _read(path: Path, channels: int) -> np.ndarray:
    """One slice, [256, 256] or, of 3 channels, [256, 256, 3], uint8."""
    if not path.is_file():
        raise InputError(f"{path}: does not exist; download the data set again")
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path}: cannot be read as TIFF ({error}); download the data set again") from error
    wanted = (_SIDE, _SIDE, channels)[: 3 if channels > 1 else 2]
    if values.shape != wanted or values.dtype != np.uint8:
        raise InputError(f"{path}: has {values.dtype} {values.shape}, a slice of this data set has uint8 {wanted}")
    return values


if __name__ == "__main__":
    run_program(main)

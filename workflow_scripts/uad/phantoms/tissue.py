"""Phantom brains with their tissue labels on the packed grid, to train the perceptual backbone on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from uad.cohorts.unpack import unpack
from uad.common.volumes import read_image, read_label, reorient
from uad.config.model import PackSettings
from uad.phantoms import write_phantom_cohort
from uad.preprocessing.pack import pack_volume

_PHANTOMS = 6


def tissue_phantoms(folder: Path, seed: int, voxel_mm: float, settings: PackSettings) -> tuple[np.ndarray, np.ndarray]:
    """Write phantoms of the BraTS layout (brain only, in atlas space) below `folder` and pack them.

    Returns:
        images [N, Z, Y, X] in [0, 1], T1 and T2 of each phantom, and tissues [N, Z, Y, X]: 0 background, 1 CSF,
        2 grey matter, 3 white matter.
    """
    (archive,) = write_phantom_cohort("brats21", folder, _PHANTOMS, seed, voxel_mm)
    cases = unpack(archive, folder / "unpacked", [re.compile(r"\.nii\.gz$")])
    images, tissues = [], []
    for case in sorted(cases.glob("BraTS2021_*/")):
        brain = reorient(read_label(folder / "truth" / f"{case.name}_brain.nii.gz"), "RAI")
        tissue = reorient(read_label(folder / "truth" / f"{case.name}_tissue.nii.gz"), "RAI")
        for modality in ("t1", "t2"):
            image = reorient(read_image(case / f"{case.name}_{modality}.nii.gz"), "RAI")
            packed = pack_volume(image.data, brain.data, tissue.data, settings)
            images.append(packed.image.transpose(2, 1, 0))
            tissues.append(packed.label.transpose(2, 1, 0))
    return np.stack(images), np.stack(tissues)

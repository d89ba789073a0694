"""Phantom cohorts: synthetic scans in the archive layouts of the five data sets, for the demo and the tests.

The heads are variations of MNI152 (see `maps` and `anatomy`) with planted lesions (`lesions`) and the
contrast, bias and noise of several scanners (`contrast`); a module per data set knows its layout and quirks.
"""

from __future__ import annotations

from pathlib import Path

from uad.common.errors import InputError
from uad.phantoms import atlas, brats21, ixi, mslub, wmh

_COHORTS = {"ixi": ixi, "brats21": brats21, "mslub": mslub, "atlas": atlas, "wmh": wmh}


def write_phantom_cohort(cohort: str, folder: Path, subjects: int, seed: int, voxel_mm: float) -> list[Path]:
    """Write one data set's archive(s) in its native layout, and the truth below `folder/truth`.

    The same arguments give the same bytes; a subject depends on `seed`, `cohort` and its index only.

    Args:
        cohort: ixi, brats21, mslub, atlas or wmh.
        subjects: how many usable ones (IXI: with both T1 and T2); layouts add cases that have to be left out.
        voxel_mm: working voxel size; each scan's own spacing follows from it as in the real data set.

    Returns:
        The archives (and tables) written. The truth, uint8 on the grid of the scan (WMH: of the 3DT1):
        `<subject>_{brain,lesion,tissue}.nii.gz`, for IXI `<subject>_{brain,lesion,tissue}_{t1,t2}.nii.gz`;
        lesion 0 none, 1 lesion, 2 excluded from evaluation;
        tissue 0 background, 1 CSF, 2 grey matter, 3 white matter.

    Raises:
        InputError: unknown cohort, no subjects, or a voxel size outside 1 to 8 mm.
    """
    if cohort not in _COHORTS:
        raise InputError(f"phantom cohort '{cohort}': unknown; choose one of {', '.join(_COHORTS)}")
    if subjects < 1:
        raise InputError(f"phantom cohort '{cohort}': {subjects} subjects; ask for at least one")
    if not 1 <= voxel_mm <= 8:
        raise InputError(f"phantom cohort '{cohort}': voxel size {voxel_mm} mm; choose 1 to 8 mm")
    return _COHORTS[cohort].write(Path(folder), subjects, seed, voxel_mm)

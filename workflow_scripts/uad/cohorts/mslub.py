"""MSLUB (3D-MR-MS): multiple sclerosis, 30 patients from Ljubljana, with skull."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from uad.cohorts.base import Adapter, Part
from uad.cohorts.promise import Promise
from uad.common.tabular import read_table

if TYPE_CHECKING:
    import pandas as pd


class Mslub(Adapter):
    """`patientXX/patientXX_T2W.nii.gz` (official) or `coregistered/patientXX/T2W.nii.gz` (copy on GitHub).

    The shipped brain mask is not used: the authors make their own. Neither is the shipped bias correction
    relied on: they run N4 as for the other cohorts. That the headers of image and label may differ by half a
    voxel is for preprocessing to resolve.
    """

    name = "mslub"
    modalities = ("t1", "t2")
    expected_subjects = 30
    promise = Promise(
        shapes=((192, 512, 512), (176, 512, 512)),
        voxel_mm=(0.4, 1.0),
        label_values=(1,),
        meanings=((1, "consensus of the raters"),),
    )
    parts = (
        Part(
            re.compile(
                r"^(?!(?:.*/)?(?:raw|MNI|coregistered_resampled|longitudinal)/)(?:.*/)?"
                r"(?P<subject>patient\d{2})/(?:(?P=subject)_)?(?P<kind>T1W|T2W|consensus_gt)\.nii\.gz$"
            ),
            ("*.zip", "*.tar", "*.tar.gz", "*.tgz"),  # the official archive's name is not known
            gigabytes=25,  # 30 patients, at most 8 volumes of 100 MB each
            members=2_000,
        ),
    )
    kinds = {"T1W": "t1", "T2W": "t2", "consensus_gt": "label"}
    metadata = re.compile(r"(?:^|/)patient_info\.csv$")
    how_to_get = (
        "Place the archive or folder 3D-MR-MS from https://lit.fe.uni-lj.si/en/research/resources/3D-MR-MS/ "
        "in the cohort's raw folder, or cross_sectional/ of the copy github.com/muschellij2/open_ms_data. "
        "Licence CC BY; cite Lesjak et al. 2018, doi 10.1007/s12021-017-9348-7."
    )

    def add_details(self, table: pd.DataFrame, files: Mapping[str, Path]) -> None:
        """Ages from the GitHub copy's `patient_info.csv`; the official archive has none."""
        import pandas as pd

        sheet = next((path for name, path in files.items() if self.metadata.search(name)), None)
        if sheet is None:
            return
        info = read_table(sheet)
        if {"patient_id", "age"} <= set(info):
            numbers = pd.to_numeric(info["patient_id"].str.extract(r"(\d+)")[0], errors="coerce")
            ages = dict(zip(numbers, pd.to_numeric(info["age"], errors="coerce"), strict=True))
            table["age"] = table["subject"].str.slice(7).astype(int).map(ages).astype(float)

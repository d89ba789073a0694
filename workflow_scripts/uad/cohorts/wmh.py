"""WMH challenge 2017: white matter hyperintensities, three sites of the training set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from uad.cohorts.base import Adapter, Part
from uad.cohorts.promise import Promise

if TYPE_CHECKING:
    import pandas as pd

_SCANNERS = {
    "Utrecht": "Philips Achieva 3T",
    "Singapore": "Siemens TrioTim 3T",
    "GE3T": "GE Signa HDxt 3T",
}  # Kuijf et al. 2019, Table I


def _part(site: str, old_zip: str) -> Part:
    # `test/` has folders of the same names
    path = rf"^(?!(?:.*/)?test/)(?:.*/)?(?P<site>{site})/(?P<number>\d+)/(?P<kind>orig/3DT1|wmh)\.nii\.gz$"
    return Part(re.compile(path), ("dataverse_files.zip", old_zip), gigabytes=9, members=2_500)


class Wmh(Adapter):
    """`training/Utrecht/0/...` (DataverseNL) or `Utrecht/0/...` (zips of 2017).

    `wmh.nii.gz` lies on the FLAIR grid (3 mm slices), the 3-D T1 on its own 1 mm grid, both in scanner space.
    Label 2 is other pathology and is left out of the evaluation, as in the challenge.
    """

    name = "wmh"
    modalities = ("t1",)
    expected_subjects = 60
    sites = tuple(_SCANNERS)
    label_on_own_grid = True
    exclude_label = 2
    promise = Promise(
        voxel_mm=(0.8, 1.3),
        label_values=(1, 2),
        meanings=((1, "white matter hyperintensity"), (2, "other pathology")),
    )
    parts = (_part("Utrecht", "Utrecht.zip"), _part("Singapore", "Singapore.zip"), _part("GE3T", "*GE3T.zip"))
    kinds = {"orig/3DT1": "t1", "wmh": "label"}
    how_to_get = (
        "Place the folder training/ (or dataverse_files.zip) of doi 10.34894/AECRSD from "
        "https://dataverse.nl in the cohort's raw folder. Licence CC BY-NC 4.0; cite Kuijf et al. "
        "2019, doi 10.1109/TMI.2019.2905770."
    )

    def subject_of(self, match: re.Match[str]) -> str:
        return f"{match['site']}_{match['number']}"

    def site_of(self, match: re.Match[str]) -> str:
        return match["site"]

    def add_details(self, table: pd.DataFrame, files: Mapping[str, Path]) -> None:
        table["scanner"] = table["site"].map(_SCANNERS)

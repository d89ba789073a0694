"""ATLAS v2.0: stroke, T1 in MNI space with skull, many sites."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uad.cohorts.base import Adapter, Part
from uad.cohorts.promise import Promise
from uad.common.tabular import read_table

if TYPE_CHECKING:
    import pandas as pd

_SUBJECT = r"sub-r\d{3}s\d{3}"


class Atlas(Adapter):
    """`Training/Rxxx/sub-rxxxsyyy/ses-1/anat/...`; the test cases have no lesion mask and are left out.

    The scans are in MNI space, not in SRI24 space, so they count as not registered.
    """

    name = "atlas"
    modalities = ("t1",)
    expected_subjects = 655
    promise = Promise(shapes=((197, 233, 189),), voxel_mm=(1, 1), meanings=((1, "stroke lesion"),))
    parts = (
        Part(
            re.compile(
                rf"(?:^|/)Training/(?P<site>R\d{{3}})/(?P<subject>{_SUBJECT})/(?P<session>ses-\d+)/anat/"
                r"(?P=subject)_(?P=session)(?:_space-[A-Za-z0-9]+)?_(?P<kind>T1w|label-L_desc-T1lesion_mask)\.nii\.gz$"
            ),
            ("ATLAS_R2.0.tar.gz", "ATLAS_R2.0.tar", "ATLAS_2.tar.gz", "ATLAS_2.tar", "ATLAS_2.zip"),
            gigabytes=11,
            members=12_000,  # 955 scans, 655 masks, the folders, and a hidden twin of each
        ),
    )
    kinds = {"T1w": "t1", "label-L_desc-T1lesion_mask": "label"}
    metadata = re.compile(r"(?:^|/)[^/]*ATLAS_2\.0_MetaData\.csv$")
    how_to_get = (
        "Ask for the key at https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html, download "
        "ATLAS_R2.0_encrypted.tar.gz, decrypt it with 'openssl aes-256-cbc -md sha256 -d -a -in "
        "ATLAS_R2.0_encrypted.tar.gz -out ATLAS_R2.0.tar.gz' and place ATLAS_R2.0.tar.gz in the cohort's raw "
        "folder. INDI terms: no re-identification; cite Liew et al. 2022, doi 10.1038/s41597-022-01401-7."
    )

    def site_of(self, match: re.Match[str]) -> str:
        return match["site"]

    def hint(self, names: Sequence[str]) -> str:
        encrypted = [name for name in names if "encrypted" in name]
        return f"Found {encrypted[0]}, which is still encrypted. " if encrypted else super().hint(names)

    def add_details(self, table: pd.DataFrame, files: Mapping[str, Path]) -> None:
        """Scanner brand and field strength from the metadata sheet; the id column is found by its content."""
        sheet = next((path for name, path in files.items() if self.metadata.search(name)), None)
        if sheet is None:
            return
        rows = read_table(sheet)
        ids = next((c for c in rows if rows[c].str.fullmatch(_SUBJECT, flags=re.IGNORECASE).any()), None)
        columns = [column for column in ("Scanner Brand", "Scanner Strength") if column in rows]
        if ids is None or not columns:
            self.notes.append(f"{sheet}: has no subject ids or no scanner columns, scanners stay empty")
            return
        scanners = dict(zip(rows[ids].str.lower(), rows[columns].agg(" ".join, axis=1).str.strip(), strict=True))
        table["scanner"] = table["subject"].map(scanners).fillna("")

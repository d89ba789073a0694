"""IXI: healthy subjects with T1 and T2 from three London hospitals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from uad.cohorts.base import Adapter, Part
from uad.cohorts.promise import Promise
from uad.cohorts.report import listed
from uad.common.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_SCANNERS = {"Guys": "Philips 1.5T", "HH": "Philips 3T", "IOP": "GE 1.5T"}


def _part(kind: str, gigabytes: float) -> Part:
    name = rf"(?:^|/)(?P<subject>IXI\d{{3}}-(?P<site>Guys|HH|IOP)-\d+)-(?P<kind>{kind})\.nii\.gz$"
    archives = (f"IXI-{kind}.tar", f"IXI-{kind}.tar.gz", f"IXI-{kind}.tgz", f"IXI-{kind}.zip")
    return Part(re.compile(name), archives, gigabytes, members=600)


class Ixi(Adapter):
    """Flat tars, one per modality, and `IXI.xls` with the ages."""

    name = "ixi"
    modalities = ("t1", "t2")
    healthy = True
    promise = Promise(voxel_mm=(0.8, 1.5))
    expected_subjects = 577
    sites = tuple(_SCANNERS)
    parts = (_part("T1", 4.9), _part("T2", 3.9))
    kinds = {"T1": "t1", "T2": "t2"}
    metadata = re.compile(r"(?:^|/)IXI\.xls$")
    how_to_get = (
        "Place IXI-T1.tar, IXI-T2.tar and IXI.xls from "
        "https://biomedic.doc.ic.ac.uk/brain-development/downloads/IXI/ in the cohort's raw folder. "
        "No registration. Licence CC BY-SA 3.0; cite https://brain-development.org/ixi-dataset/."
    )

    def site_of(self, match: re.Match[str]) -> str:
        return match["site"]

    def add_details(self, table: pd.DataFrame, files: Mapping[str, Path]) -> None:
        table["scanner"] = table["site"].map(_SCANNERS)
        numbers = table["subject"].str.slice(3, 6).astype(int)
        twice = sorted(table["subject"][numbers.duplicated(keep=False)])
        if twice:
            raise InputError(f"ixi: several scans of one IXI number, keep one of each: {listed(twice)}")
        sheet = next((path for name, path in files.items() if self.metadata.search(name)), None)
        if sheet is None:
            self.notes.append("ixi: no IXI.xls, ages stay empty")
            return
        ages = read_ages(sheet, self.notes)
        table["age"] = numbers.map(ages).astype(float)
        unknown = table["subject"][table["age"].isna()]
        if len(unknown):
            self.notes.append(f"ixi: no age for {len(unknown)} subjects: {listed(unknown)}")


def read_ages(sheet: Path, notes: list[str]) -> dict[int, float]:
    """Age in years by IXI number from sheet `Table`, where 0 means missing.

    26 numbers have two rows, mostly a full one and a zeroed copy: the full one counts. A number whose rows
    state different ages gets none, since nothing tells which row is right.
    """
    import pandas as pd

    try:
        rows = pd.read_excel(sheet, sheet_name="Table", engine="xlrd")[["IXI_ID", "AGE"]]
    except Exception as error:  # xlrd has its own errors for every way in which an old .xls can be broken
        raise InputError(
            f"{sheet}: cannot read IXI_ID and AGE of sheet 'Table' ({error}); download it again"
        ) from error
    rows = rows.apply(pd.to_numeric, errors="coerce").dropna()
    rows = rows[rows["AGE"] > 0]
    stated = {int(number): sorted(set(ages)) for number, ages in rows.groupby("IXI_ID")["AGE"]}
    contradictory = [f"IXI{number:03d}" for number, ages in stated.items() if len(ages) > 1]
    if contradictory:
        notes.append(f"{sheet}: rows contradict each other, age left empty: {listed(contradictory)}")
    return {number: float(ages[0]) for number, ages in stated.items() if len(ages) == 1}

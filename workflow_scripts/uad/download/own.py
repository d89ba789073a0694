"""Folders of scans: what the plan says of them, whether brain masks have to be made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uad.cohorts.folder import FolderAdapter
from uad.cohorts.report import listed
from uad.common.errors import InputError

if TYPE_CHECKING:  # pandas takes a while to import
    import pandas as pd


@dataclass(frozen=True)
class OwnFolder:
    """A cohort of adapter `folder`: its name, its folder, the modalities asked for, the expected number of subjects.

    `item` is its item of the source table; empty for the user's own.
    """

    name: str
    folder: str
    modalities: tuple[str, ...]
    subjects: int
    healthy: bool
    item: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def is_there(self) -> bool:
        """Whether the folder holds anything; cheap, for the start banner."""
        return Path(self.folder).is_dir() and any(Path(self.folder).iterdir())

    def report(self) -> tuple[bool, str]:
        """(whether it can be used, what it holds, by file names)."""
        if not Path(self.folder).is_dir():
            return False, f"the folder {self.folder} is not there; correct cohorts.{self.name}.raw, or place the scans"
        try:
            table = self.scans()
        except InputError as error:
            return False, str(error)
        images = table[[*self.modalities]]
        kept = (images != "").all(axis=1)
        text = [f"{self.folder}: {len(table)} subjects (the configuration expects {self.subjects})"]
        text += [f"{(table[modality] != '').sum()} {modality}" for modality in self.modalities]
        text.append(f"{(table['mask'] != '').sum()} brain masks")
        if not self.healthy:
            lacking = table["subject"][kept & (table["label"] == "")]
            kept &= table["label"] != ""
            text.append(f"{(table['label'] != '').sum()} lesion masks")
            if len(lacking):
                text.append(f"without a lesion mask, so left out: {listed(lacking)}")
        if not kept.any():
            text.append("no subject has every file needed")
        return bool(kept.any()), "; ".join(text)

    def every_scan_has_a_mask(self) -> bool:
        """Whether every scan has a brain mask; False for a folder that cannot be read yet."""
        try:
            table = self.scans()
        except InputError:
            return False
        return bool(len(table)) and bool((table["mask"] != "").all())

    def scans(self) -> pd.DataFrame:
        """The scans that ingest will find."""
        return FolderAdapter(healthy=self.healthy).scans(self.folder, Path(self.folder, ".none"))

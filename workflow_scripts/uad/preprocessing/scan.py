"""Scans: one modality of one subject, where its files are and what has been done to it already."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import zip_longest

import pandas as pd

from uad.common.errors import InputError

MODALITIES = ("t1", "t2")


@dataclass(frozen=True)
class Scan:
    """Input files of one scan (empty string: none) and its state, as the cohort table gives them.

    sha256: of the image when ingest read it; empty: not known.
    """

    subject: str
    modality: str
    image: str
    mask: str
    label: str
    stripped: bool
    registered: bool
    bias_corrected: bool
    sha256: str = ""

    @property
    def name(self) -> str:
        """Stem of the scan's output files."""
        return f"{self.subject}_{self.modality}"

    @property
    def files(self) -> dict[str, str]:
        """The input files that exist for this scan, by role."""
        roles = {"image": self.image, "mask": self.mask, "label": self.label}
        return {role: path for role, path in roles.items() if path}


def members(cohort: pd.DataFrame, shard: int, shards: int) -> pd.DataFrame:
    """Rows of the cohort table that belong to a shard: crc32(subject) modulo `shards`."""
    inside = [zlib.crc32(subject.encode()) % shards == shard for subject in cohort["subject"]]
    return cohort[inside]


def scans_of(rows: pd.DataFrame) -> list[Scan]:
    """The scans of the given rows of a cohort table, one per modality with a file.

    Raises:
        InputError: a subject appears twice.
    """
    twice = rows["subject"][rows["subject"].duplicated()].tolist()
    if twice:
        raise InputError(f"cohort table: subject {twice[0]} appears more than once; keep one row")
    scans = []
    for row in rows.to_dict("records"):
        used = [modality for modality in MODALITIES if row[modality]]
        digests = row.get("sha256", "").split(";")  # one per modality, in this order
        for modality, digest in zip_longest(used, digests[: len(used)], fillvalue=""):
            state = {flag: row[flag] == "1" for flag in ("stripped", "registered", "bias_corrected")}
            files = {"image": row[modality], "mask": row["mask"], "label": row["label"], "sha256": digest}
            scans.append(Scan(row["subject"], modality, **files, **state))
    return scans

"""The cohort table: one row per subject with its files, as `ingest` writes it (DESIGN, formats)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uad.errors import InputError
from uad.files import atomic_path, sha256_of

if TYPE_CHECKING:  # pandas takes a while to import, and the Snakefile only reads the adapters' attributes
    import pandas as pd

    from uad.cohorts.base import Adapter

MODALITIES = ("t1", "t2")
FILE_COLUMNS = (*MODALITIES, "mask", "label")
COLUMNS = (
    "subject", "site", "scanner", "age", *FILE_COLUMNS, "stripped", "registered", "bias_corrected", "sha256",
)  # fmt: skip
FLAGS = ("stripped", "registered", "bias_corrected")


def listed(names: Iterable[str], most: int = 10) -> str:
    """Names joined for a message, shortened when there are many."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def ingest(
    adapter: Adapter,
    raw_folder: str | Path,
    unpacked_folder: str | Path,
    modalities: Sequence[str],
    table_path: str | Path,
) -> tuple[pd.DataFrame, list[str]]:
    """Find, check and hash a cohort's scans, and write the cohort table atomically (DESIGN, formats).

    Kept are subjects with every modality in `modalities` and, unless the cohort is healthy, a label. Of
    subjects with the same image content only the first stays: a copy under another id would leak between
    splits.

    Returns:
        The table as written, sorted by subject, and one note per quirk that was met.

    Raises:
        InputError: nothing usable was found, or what was found is contradictory.
    """
    unknown = [modality for modality in modalities if modality not in adapter.modalities]
    if unknown or not modalities:
        raise InputError(f"{adapter.name}: has {', '.join(adapter.modalities)}, not {', '.join(unknown) or 'none'}")
    table = adapter.scans(raw_folder, unpacked_folder)
    notes = adapter.notes
    table.loc[:, [m for m in MODALITIES if m not in modalities]] = ""
    if adapter.healthy:
        if (table["label"] != "").any():
            notes.append(f"{adapter.name}: lesion labels are not used, because the cohort is declared healthy")
        table["label"] = ""
    for column in [m for m in MODALITIES if m in modalities] + ([] if adapter.healthy else ["label"]):
        lacking = table["subject"][table[column] == ""]
        if len(lacking):
            notes.append(f"{len(lacking)} subjects dropped, no {column}: {listed(lacking)}")
        table = table[table[column] != ""]
        if table.empty:
            raise InputError(
                f"{raw_folder}: no subject has every file needed, {column} is missing. {adapter.how_to_get}"
            )
    table = _hashed(table, modalities, notes)
    if adapter.expected_subjects not in (None, len(table)):
        notes.append(f"{adapter.name}: {len(table)} subjects; the full data set has {adapter.expected_subjects}")
    with atomic_path(table_path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, lineterminator="\n")
    return table, notes


def _hashed(table: pd.DataFrame, modalities: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """Add `sha256` and drop subjects whose image is a copy of an earlier subject's."""
    owners: dict[str, str] = {}
    kept, hashes = [], []
    for row in table.to_dict("records"):
        digests = [sha256_of(row[modality]) for modality in MODALITIES if modality in modalities]
        copied = next((owners[digest] for digest in digests if digest in owners), None)
        if copied:
            notes.append(f"{row['subject']} dropped: its image has the same content as that of {copied}")
            continue
        owners.update(dict.fromkeys(digests, row["subject"]))
        kept.append(row["subject"])
        hashes.append(";".join(digests))
    table = table[table["subject"].isin(kept)].reset_index(drop=True)
    return table.assign(sha256=hashes)


def read_cohort(path: str | Path) -> pd.DataFrame:
    """A cohort table as `ingest` wrote it: ids and paths as strings (never parsed as numbers), age as float.

    Raises:
        InputError: no such file, or columns are missing.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a cohort table ({str(error).splitlines()[0]})") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise InputError(f"{path}: is no cohort table, columns {', '.join(missing)} are missing")
    try:
        table["age"] = pd.to_numeric(table["age"].replace("", None)).astype(float)
        table[list(FLAGS)] = table[list(FLAGS)].astype(int)
    except ValueError as error:
        raise InputError(f"{path}: age and flags must be numbers ({error})") from error
    return table

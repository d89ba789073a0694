"""The cohort table: one row per subject with its files, as `ingest` writes it (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uad.cohorts.duplicates import Contents
from uad.cohorts.report import EMPTY_LABEL, Account, listed, markdown, seen_but_passed_over
from uad.common.errors import InputError
from uad.common.files import atomic_path, sha256_of
from uad.common.tabular import read_table, write_table

if TYPE_CHECKING:  # pandas takes a while to import, and the Snakefile only reads the adapters' attributes
    import pandas as pd

    from uad.cohorts.base import Adapter

MODALITIES = ("t1", "t2")
FILE_COLUMNS = (*MODALITIES, "mask", "label")
COLUMNS = (
    "subject", "site", "scanner", "age", *FILE_COLUMNS, "stripped", "registered", "bias_corrected", "sha256",
)  # fmt: skip
_MOST_REFUSED = 3  # the rest stands in the report
FLAGS = ("stripped", "registered", "bias_corrected")


def ingest(
    adapter: Adapter,
    raw_folder: str | Path,
    unpacked_folder: str | Path,
    modalities: Sequence[str],
    table_path: str | Path,
    *,
    published: bool = True,
    report_path: str | Path | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Find, check and hash a cohort's scans, and write the cohort table atomically (docs/formats.md).

    Kept are subjects with every modality in `modalities` and, unless the cohort is healthy, a label. Of
    subjects with the same image content only the first stays: a copy under another id would leak between
    splits. A file that cannot be used stops ingest; all such files are named at once.

    Args:
        published: the data are the published ones, so their number and grids are compared with what the publisher
            states. Phantoms have their own.
        report_path: of the ingest report (Markdown); if files are refused it gets the suffix `.failed.md`.

    Returns:
        The table as written, sorted by subject, and one note per quirk.

    Raises:
        InputError: nothing usable was found, or the files contradict each other or what the publisher states.
    """
    unknown = [modality for modality in modalities if modality not in adapter.modalities]
    if unknown or not modalities:
        raise InputError(f"{adapter.name}: has {', '.join(adapter.modalities)}, not {', '.join(unknown) or 'none'}")
    used = [modality for modality in MODALITIES if modality in modalities]
    table = adapter.scans(raw_folder, unpacked_folder, used)
    account = Account(len(table), adapter.expected_subjects if published else None, adapter.notes)
    account.unused = adapter.unused
    table.loc[:, [m for m in MODALITIES if m not in used]] = ""
    table = _complete(table, adapter, used, account, raw_folder)
    _check(table, adapter, used, published, account, Path(table_path).stem, report_path)
    table = _without_copies(table, used, account)
    if account.expected not in (None, len(table)):
        account.notes.append(f"{adapter.name}: {len(table)} subjects; the full data set has {account.expected}")
    table = table.assign(sha256=[";".join(sha256_of(row[m]) for m in used) for row in table.to_dict("records")])
    write_table(table, table_path)
    _write_report(report_path, markdown(Path(table_path).stem, adapter, account, table))
    return table, account.lines()


def _complete(
    table: pd.DataFrame, adapter: Adapter, used: Sequence[str], account: Account, raw_folder: str | Path
) -> pd.DataFrame:
    """The subjects that have every needed file."""
    if adapter.healthy:
        if (table["label"] != "").any():
            account.notes.append(f"{adapter.name}: lesion labels are not used, because the cohort is declared healthy")
        table["label"] = ""
    for column in [*used, *([] if adapter.healthy else ["label"])]:
        lacking = table["subject"][table[column] == ""]
        if len(lacking):
            account.dropped.append(f"{len(lacking)} subjects dropped, no {column}: {listed(lacking)}")
        table = table[table[column] != ""]
        if table.empty:
            raise InputError(
                f"{raw_folder}: no subject has every file needed, {column} is missing"
                f"{seen_but_passed_over(account.unused)}. {adapter.how_to_get}"
            )
    return table


def _check(
    table: pd.DataFrame,
    adapter: Adapter,
    used: Sequence[str],
    published: bool,
    account: Account,
    cohort: str,
    report_path: str | Path | None,
) -> None:
    """Check every file; refuse the cohort when one cannot be used."""
    from uad.cohorts.checks import check_scans

    account.findings = check_scans(table, adapter, used, published)
    refused = account.findings.refused
    if not refused:
        return
    see = ""
    if report_path:
        failed = Path(report_path).with_suffix(".failed.md")
        with atomic_path(failed) as temporary:
            temporary.write_text(markdown(cohort, adapter, account, None))
        see = f", see {failed}"
    if len(refused) == 1:
        raise InputError(refused[0] + see)
    more = f"; and {len(refused) - _MOST_REFUSED} more" if len(refused) > _MOST_REFUSED else ""
    raise InputError(
        f"{cohort}: {len(refused)} files cannot be used{see}; repair them or remove their scans: "
        f"{'; '.join(refused[:_MOST_REFUSED])}{more}"
    )


def _without_copies(table: pd.DataFrame, used: Sequence[str], account: Account) -> pd.DataFrame:
    """Drop subjects whose image is a copy of an earlier subject's, and point out equal lesion labels."""
    images, labels = Contents(), Contents()
    kept = []
    for row in table.to_dict("records"):
        subject, paths = row["subject"], [row[modality] for modality in used]
        copied = next((owner for path in paths if (owner := images.owner(path))), None)
        if copied:
            account.dropped.append(f"{subject} dropped: its image has the same content as that of {copied}")
            continue
        kept.append(subject)
        for path in paths:
            if images.owner(path):
                raise InputError(f"{path}: {subject} has this image as T1 and as T2; fetch the right one")
            images.add(path, subject)
        assert account.findings is not None
        empty = subject in account.findings.quirks.get(EMPTY_LABEL, [])
        if row["label"] and not empty:
            twin = labels.owner(row["label"])
            if twin:
                account.notes.append(f"{row['label']}: the lesion label of {subject} is a copy of that of {twin}")
            labels.add(row["label"], subject)
    return table[table["subject"].isin(kept)].reset_index(drop=True)


def _write_report(path: str | Path | None, text: str) -> None:
    if path is not None:
        Path(path).with_suffix(".failed.md").unlink(missing_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text)


def read_cohort(path: str | Path) -> pd.DataFrame:
    """A cohort table as `ingest` wrote it: ids and paths as strings (never parsed as numbers), age as float.

    Raises:
        InputError: no such file, or columns are missing.
    """
    table = read_table(path, numbers=("age",), integers=FLAGS)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise InputError(f"{path}: is not a cohort table, columns {', '.join(missing)} are missing")
    return table

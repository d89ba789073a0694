"""Running one preprocessing step over the scans of a shard.  docs/formats.md

A shard's declared output is its table.  Scans are processed one by one: what fails is a row with a message,
what is finished is kept and not done again, as long as its files and the recipe written beside them are
unchanged.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from uad.common.errors import DiskFull, InputError, says_disk_full
from uad.common.files import atomic_path, sha256_of
from uad.common.processes import forked_workers
from uad.common.tabular import write_table
from uad.preprocessing.plausible import DEFAULT_LIMITS, judged
from uad.preprocessing.scan import Scan

if TYPE_CHECKING:
    from uad.config.model import PlausibleSettings

COLUMNS = (
    "subject", "modality", "image", "mask", "label", "sha256", "seconds", "status", "message",
    "brain_ml", "atlas_dice", "mutual_information", "n4_min", "n4_max", "clipped_fraction",
    "face_fraction", "negative_fraction", "lesion_ml", "lesion_outside", "lesion_lost", "flag",
)  # fmt: skip
_FILE_ROLES = ("image", "mask", "label")

Row = dict[str, Any]
Progress = Callable[[str], None]


class Step(Protocol):
    """What is done to each scan of a shard."""

    folder: Path

    def recipe(self, scan: Scan) -> dict[str, Any]:
        """What the scan's outputs depend on, plain types only: hashes of its inputs, settings, version."""

    def run(self, scan: Scan) -> Row:
        """Write the scan's files into `folder`; returns their names by role and the QC columns."""


def input_hashes(scan: Scan) -> dict[str, str]:
    """SHA-256 of the scan's input files by role.

    Raises:
        InputError: a file is missing.
    """
    for path in scan.files.values():
        if not Path(path).is_file():
            raise InputError(f"{path}: does not exist; fetch it or correct the cohort's raw folder")
    return {role: sha256_of(path) for role, path in scan.files.items()}


def settings_hash(values: dict[str, Any]) -> str:
    """SHA-256 of plain settings values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def run_shard(
    name: str,
    scans: Sequence[Scan],
    step: Step,
    table: str | Path,
    *,
    max_failures: int,
    limits: PlausibleSettings = DEFAULT_LIMITS,
    workers: int = 1,
    progress: Progress = print,
    failed_before: Sequence[Row] = (),
    flagged_before: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Run a step on every scan, judge what came of it, and write the shard's table.

    Args:
        name: how messages call the shard, e.g. "ixi shard 0".
        workers: processes (forked); 1 works in this process.
        failed_before: rows of scans that failed in an earlier step; they stay in the table as failures.
        flagged_before: by scan name, the flag of an earlier step.

    Raises:
        InputError: more than `max_failures` scans failed.  The table then lies at `<table>.failed.tsv`, and
            finished scans are kept for the next run.
        DiskFull: there is no room for a scan's files.
    """
    rows = [{**row, "status": "failed"} for row in failed_before]
    for done, (scan, row, kept) in enumerate(_process_all(step, scans, workers), start=1):
        result = "kept" if kept else f"{row['seconds']} s"
        if row["status"] == "ok":
            row = judged(scan, row, limits, (flagged_before or {}).get(scan.name, ""))
            result += f", flagged: {row['flag']}" if row["flag"] else ""
        if row["status"] == "failed":
            result = f"failed: {row['message']}"
        progress(f"{done}/{len(scans)} {scan.subject} {scan.modality} {result}")
        rows.append(row)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["subject", "modality"], ignore_index=True)
    _write_table(name, frame, Path(table), max_failures)
    return frame


def _write_table(name: str, frame: pd.DataFrame, table: Path, max_failures: int) -> None:
    failed = frame[frame["status"] == "failed"]
    beside = table.with_suffix(".failed.tsv")
    too_many = len(failed) > max_failures
    write_table(frame, beside if too_many else table)
    if too_many:
        scans = "; ".join(f"{row.subject} {row.modality} ({row.message})" for row in failed.itertuples())
        raise InputError(
            f"{name}: {len(failed)} of {len(frame)} scans failed (allowed {max_failures}), see {beside}: {scans}"
        )
    beside.unlink(missing_ok=True)


def _process_all(step: Step, scans: Sequence[Scan], workers: int) -> Iterator[tuple[Scan, Row, bool]]:
    """Scans with their rows, in order of completion."""
    if workers == 1 or len(scans) < 2:
        for scan in scans:
            yield scan, *process_scan(step, scan)
        return
    with forked_workers(min(workers, len(scans))) as pool:
        waiting = {pool.submit(process_scan, step, scan): scan for scan in scans}
        yield from _collect(waiting, as_completed(waiting))


def _collect(waiting: dict[Future, Scan], finished: Iterable[Future]) -> Iterator[tuple[Scan, Row, bool]]:
    for future in finished:
        scan = waiting[future]
        try:
            yield scan, *future.result()
        except BrokenProcessPool:
            message = "its worker process died (often too little memory); run again with fewer workers"
            yield scan, _failed(scan, message, 0.0), False


def process_scan(step: Step, scan: Scan) -> tuple[Row, bool]:
    """The scan's row and whether it was kept from an earlier run.  Errors become a row with one line."""
    start = time.perf_counter()
    try:
        recipe = step.recipe(scan)
        note = step.folder / f"{scan.name}.json"
        kept = _finished_row(note, recipe, step.folder)
        if kept is not None:
            return kept, True
        note.unlink(missing_ok=True)
        row = {"subject": scan.subject, "modality": scan.modality, "mask": "", "label": "", **step.run(scan)}
        row["sha256"] = sha256_of(step.folder / row["image"])
        row |= {"seconds": round(time.perf_counter() - start, 1), "status": "ok", "message": ""}
        hashes = {row[role]: sha256_of(step.folder / row[role]) for role in _FILE_ROLES if row[role]}
        with atomic_path(note) as temporary:
            temporary.write_text(json.dumps({"recipe": recipe, "row": row, "files": hashes}, indent=1) + "\n")
        return _with_paths(row, step.folder), False
    except InputError as error:
        message = str(error)
    except Exception as error:  # one bad scan must not stop its shard
        if isinstance(error, DiskFull) or says_disk_full(error):
            raise  # no fault of the scan, and the next one would fail as well
        message = f"{type(error).__name__}: {str(error).strip()}"
    return _failed(scan, message, time.perf_counter() - start), False


def _failed(scan: Scan, message: str, seconds: float) -> Row:
    return {
        "subject": scan.subject, "modality": scan.modality, "seconds": round(seconds, 1), "status": "failed",
        "message": " ".join(message.split()),
    }  # fmt: skip


def _finished_row(note: Path, recipe: dict[str, Any], folder: Path) -> Row | None:
    """The row of an earlier run if its recipe is the same and its files are still what they were."""
    try:
        record = json.loads(note.read_text())
        if record["recipe"] != recipe:
            return None
        if any(sha256_of(folder / name) != digest for name, digest in record["files"].items()):
            return None
        return _with_paths(record["row"], folder)
    except (OSError, ValueError, KeyError):
        return None


def _with_paths(row: Row, folder: Path) -> Row:
    return row | {role: str(folder / row[role]) for role in _FILE_ROLES if row[role]}

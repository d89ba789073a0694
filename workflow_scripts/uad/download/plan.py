"""`snakemake plan`: for each item whether it is present, can be downloaded or needs the user, and the next step."""

from __future__ import annotations

import shutil
import textwrap
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from uad.common.errors import InputError
from uad.download.checks import size
from uad.download.credentials import FINDERS, secret
from uad.download.inventory import Inventory, Need
from uad.download.own import OwnFolder, StrokeMasks
from uad.download.sources import RemoteFile, Settings, Source, is_local

_NOTHING = "Nothing to download: the cohorts are phantoms or your own, and all tools are set."
PRESENT, FETCHABLE, NEEDS_YOU = "present", "fetchable", "needs you"


@dataclass(frozen=True)
class State:
    """The state of one item.

    Attributes:
        status: `present`, `fetchable` or `needs you`.
        fetch: bytes still to download; None: unknown.
        disk: bytes on disk when everything is downloaded, decrypted and unpacked; None: unknown.
        step: what happens next, or what the user has to do.
    """

    need: Need
    title: str
    licence: str
    status: str
    fetch: int | None
    disk: int | None
    step: str


def state_of(need: Need, settings: Settings) -> State:
    """The state of an item, from file names and the environment; no network, no hashes."""
    inventory = Inventory(need, settings)
    source, folder = inventory.source, inventory.folder
    trouble = ""
    try:
        files = inventory.files()
    except InputError as error:
        files, trouble = None, str(error)
    missing: Sequence[RemoteFile] | None = None if files is None else inventory.missing(files)
    if missing is not None:
        missing = [file for file in missing if not file.optional]
    elif inventory.placed():
        missing = []

    def state(status: str, step: str) -> State:
        fetch = 0 if status == PRESENT else _bytes(missing, folder)
        return State(need, source.title, source.licence, status, fetch, source.disk, step)

    if missing is not None and not missing:
        return state(PRESENT, f"nothing to do, it is in {folder}")
    if settings.offline:
        return state(NEEDS_YOU, f"sources.offline is set. {source.advice(folder)}")
    if trouble:
        return state(NEEDS_YOU, trouble)
    mirrored = need.item in settings.base_url
    if source.encrypted and not secret(source.encrypted.key):
        return state(NEEDS_YOU, source.advice(folder))
    if source.credential and not mirrored and not _has_credential(source.credential):
        return state(NEEDS_YOU, source.advice(folder))
    place = source.base_url if is_local(source.base_url) else urllib.parse.urlsplit(source.base_url).hostname
    return state(FETCHABLE, f"nothing to do, the run fetches it from {place}" + _how(source, mirrored))


def report(
    needs: Iterable[Need], settings: Settings, data_dir: str | Path, own: Sequence[OwnFolder | StrokeMasks] = ()
) -> str:
    """The plan as text."""
    fetched = _report(needs, settings, data_dir)
    lines = []
    for each in own:
        usable, found = each.report()
        if not usable and fetched == _NOTHING:
            fetched = ""
        lines += textwrap.wrap(
            f"{each.name} ({each.what}): {PRESENT if usable else NEEDS_YOU}. {found}", 116, subsequent_indent="    ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return "\n".join([*lines, *([""] if lines and fetched else []), fetched]).rstrip("\n")


def _report(needs: Iterable[Need], settings: Settings, data_dir: str | Path) -> str:
    """The part about the items of the source table."""
    states = [state_of(need, settings) for need in needs]
    if not states:
        return _NOTHING
    rows = [("", "item", "state", "to fetch", "disk", "licence")]
    rows += [(s.need.name, s.title, s.status, _size(s.fetch), _size(s.disk), s.licence) for s in states]
    lines = []
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row, state in zip(rows, [None, *states], strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]  # the last column is open
        lines.append("  ".join([*cells, row[5]]))
        if state is not None and state.status != PRESENT:
            lines += textwrap.wrap(
                state.step, 112, initial_indent="    ", subsequent_indent="    ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    return "\n".join([*lines, "", *_totals(states, Path(data_dir))])


def missing_lines(needs: Iterable[Need], settings: Settings, own: Sequence[OwnFolder | StrokeMasks] = ()) -> list[str]:
    """One short line per missing item, for the start banner."""
    states = [state_of(need, settings) for need in needs]
    return [f"{each.name}: nothing in {each.folder}" for each in own if not each.is_there()] + [
        f"{state.need.name}: {state.status}"
        + (f", {_size(state.fetch)}" if state.status == FETCHABLE and state.fetch else "")
        for state in states
        if state.status != PRESENT
    ]


def _totals(states: Sequence[State], data_dir: Path) -> list[str]:
    existing = next(folder for folder in [data_dir.absolute(), *data_dir.absolute().parents] if folder.exists())
    absent = [state for state in states if state.status != PRESENT]
    unfetched = [state.need.name for state in absent if state.fetch is None]
    unknown = [state.need.name for state in absent if state.disk is None]
    counts = ", ".join(
        f"{sum(state.status == status for state in states)} {status}" for status in (PRESENT, FETCHABLE, NEEDS_YOU)
    )
    text = (
        f"{counts}. To fetch or place: {size(sum(state.fetch or 0 for state in absent))}{_without(unfetched)}; "
        f"disk for it: at most {size(sum(state.disk or 0 for state in absent))}{_without(unknown)}"
    )
    return textwrap.wrap(f"{text}. Free in {data_dir}: {size(shutil.disk_usage(existing).free)}.", 116)


def _without(names: Sequence[str]) -> str:
    return f" (without {', '.join(names)}, whose size nobody states)" if names else ""


def _bytes(missing: Sequence[RemoteFile] | None, folder: Path) -> int | None:
    """Bytes of the missing files, less what an interrupted download left."""
    if missing is None:
        return None
    sizes = [file.bytes or file.about_bytes for file in missing]
    if None in sizes:
        return None
    parts = (folder / f"{file.name}{end}" for file in missing for end in ("", ".part"))
    return max(0, sum(size or 0 for size in sizes) - sum(part.stat().st_size for part in parts if part.exists()))


def _size(count: int | None) -> str:
    return "unknown" if count is None else size(count) if count else "-"


def _how(source: Source, mirrored: bool) -> str:
    if source.encrypted:
        return f" and decrypts it with {source.encrypted.key}"
    return " with your Kaggle key" if source.credential and not mirrored else ""


def _has_credential(name: str) -> bool:
    try:
        return FINDERS[name]() is not None
    except InputError:
        return False

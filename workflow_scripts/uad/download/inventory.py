"""Which files of an item are there and which are missing; looks at the disk only."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uad.cohorts import ADAPTERS
from uad.cohorts.base import Part, walk
from uad.cohorts.bids import NIFTI
from uad.common.errors import InputError
from uad.download import dataverse, record
from uad.download.sources import RemoteFile, Settings, Source, is_local, local_path, source_of

LISTING = ".dataverse.json"  # hidden, so that it is no data


@dataclass(frozen=True)
class Need:
    """An item of the source table that the configuration needs.

    Attributes:
        item: its name in the source table.
        name: the cohort, or for tools the item's name.
        folder: where its files belong.
        modalities: of the cohort; empty for tools.
    """

    item: str
    name: str
    folder: Path
    modalities: tuple[str, ...] = ()


class Inventory:
    """One item in one folder."""

    def __init__(self, need: Need, settings: Settings) -> None:
        self.need, self.settings = need, settings
        self.source: Source = source_of(need.item, settings)
        self.folder = need.folder
        self.listing = self.folder / LISTING

    def files(self) -> tuple[RemoteFile, ...] | None:
        """All files of the item that this configuration needs; None while the server's file list is not downloaded.

        An item that only the user can place has no files that are known: None, too.

        Raises:
            InputError: the list cannot be read, or the local mirror has no scans.
        """
        if self.source.by_hand_only:
            return None
        if not self.source.dataverse:
            listed = self.source.wanted(self.need.modalities)
            return self._of_local_folder(listed) if self.source.copies and is_local(self.source.base_url) else listed
        if is_local(self.source.base_url):
            folder = local_path(self.source.base_url)
            names = [name for name in sorted(walk(folder)) if self.is_wanted(name)]
            if not names:
                raise InputError(f"{folder}: has none of the scans; correct sources.base_url.{self.source.name}")
            return tuple(RemoteFile(name, (str(folder / name),)) for name in names)
        if self.listing.exists():
            return dataverse.files_of(self.listing.read_bytes(), self.source.base_url, self.is_wanted)
        return None

    def _of_local_folder(self, listed: tuple[RemoteFile, ...]) -> tuple[RemoteFile, ...]:
        """The listed files and what the local folder holds besides, such as brain masks; a folder that has none of the
        listed files is another form of the data set and gives what it has.
        """
        folder = local_path(self.source.base_url)
        names = {file.name for file in listed}
        there = set(walk(folder)) if folder.is_dir() else names
        others = [name for name in sorted(there - names) if self._is_copied(name)]
        if not others and not names & there:
            raise InputError(f"{folder}: has none of the scans; correct sources.base_url.{self.source.name}")
        return (
            *(listed if names & there else ()),
            *(RemoteFile(name, (str(folder / name),)) for name in others),
        )

    def _is_copied(self, name: str) -> bool:
        return bool(self.source.copies and self.source.copies.fullmatch(name))

    def is_wanted(self, name: str) -> bool:
        """Whether the cohort's adapter reads a file of this path."""
        return any(part.pattern.search(name) for part in self._parts())

    def product(self, file: RemoteFile) -> tuple[Path, ...]:
        """The files that a download leaves in the folder, after it is decrypted or unpacked."""
        if self.source.encrypted:
            return (self.folder / self.source.encrypted.product,)
        return tuple(self.folder / name for name in self.source.members or (file.name,))

    def missing(self, files: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Files that are neither here nor replaced by what the user placed instead."""
        absent = [file for file in files if not all(path.exists() for path in self.product(file))]
        if not absent or (self.source.copies and self.placed() and not self._fetched()):
            return []
        ours = {file.name for file in files} | {record.NAME}
        others = {name: path for name, path in walk(self.folder).items() if name not in ours}
        return [file for file in absent if not self._covered(file, others)]

    def placed(self) -> bool:
        """Whether every part of the cohort is there in some form; of a folder of scans, whether there is any."""
        parts, files = self._parts(), walk(self.folder)
        if self.source.copies:
            return any(NIFTI.search(name) for name in files)
        return bool(parts) and all(self._present(part, files) for part in parts)

    def _covered(self, file: RemoteFile, others: dict[str, Path]) -> bool:
        """Whether the user placed what a file holds in another form."""
        parts = [part for part in self._parts() if self._brings(part, file)]
        if (
            not parts
        ):  # a table about the subjects: assume the user who supplied the scans supplied it too; it is optional
            return file.optional and self.placed() and not self._fetched()
        return all(self._present(part, others) for part in parts)

    def _fetched(self) -> bool:
        """Whether anything here was fetched, not placed."""
        return any(entry["url"] for entry in record.Record(self.folder).entries.values())

    def _brings(self, part: Part, file: RemoteFile) -> bool:
        return bool(part.pattern.search(file.name)) or any(_matches(p.name, part) for p in self.product(file))

    def _present(self, part: Part, files: dict[str, Path]) -> bool:
        return any(part.pattern.search(name) or _matches(path.name, part) for name, path in files.items())

    def _parts(self) -> tuple[Part, ...]:
        """The parts of the data set that the cohort needs."""
        adapter = ADAPTERS.get(self.need.item)
        if adapter is None:
            return ()
        kinds = adapter.kinds
        wanted = {*self.need.modalities, "label"}
        return tuple(
            part for part in adapter.parts
            if any(column in wanted and kind in part.pattern.pattern for kind, column in kinds.items())
        )  # fmt: skip


def _matches(name: str, part: Part) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in part.archives)

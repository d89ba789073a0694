"""The source table (`sources.yaml`) and the configuration's section `sources`.

The Snakefile reads this for its banner, so nothing heavy is imported at its top.
"""

from __future__ import annotations

import csv
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from uad.common.errors import InputError

TABLE = Path(__file__).with_name("sources.yaml")
_ALGORITHMS = ("sha256", "sha1", "md5")  # best first


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        name: path below the item's folder, with `/`.
        urls: best first; `file://` or a path for a local file.
        bytes: exact size; None: not published.
        about_bytes: rough size, for the plan only.
        digest: (algorithm, hex digits), or None: the file is pinned on first use.
        modality: `t1` or `t2` if only that modality needs the file.
        optional: the benchmark works without it.
    """

    name: str
    urls: tuple[str, ...]
    bytes: int | None = None
    about_bytes: int | None = None
    digest: tuple[str, str] | None = None
    modality: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Encrypted:
    """An encrypted archive: `file` becomes `product` with the key in the environment variable `key`."""

    file: str
    product: str
    key: str


@dataclass(frozen=True)
class Source:
    """One item of the table; see the comments of `sources.yaml`."""

    name: str
    title: str
    access: str
    licence: str
    citation: str
    base_url: str
    by_hand: str
    disk: int | None = None
    files: tuple[RemoteFile, ...] = ()
    credential: str = ""
    dataverse: str = ""
    encrypted: Encrypted | None = None
    members: tuple[str, ...] = ()
    copies: re.Pattern[str] | None = None

    @property
    def by_hand_only(self) -> bool:
        """Whether nothing of it can be fetched from where it is asked for."""
        return not (self.files or self.dataverse or (self.copies and is_local(self.base_url)))

    def wanted(self, modalities: Sequence[str]) -> tuple[RemoteFile, ...]:
        """The files that these modalities need; none named: all."""
        return tuple(f for f in self.files if not (modalities and f.modality) or f.modality in modalities)

    def advice(self, folder: Path) -> str:
        """What the user can do by hand."""
        return f"{self.by_hand}, in {folder}. Licence: {self.licence}; cite {self.citation}"


@dataclass(frozen=True)
class Settings:
    """The configuration's section `sources`.

    Attributes:
        offline: download nothing.
        base_url: item -> mirror (http, https) or local folder (path or file://) that has the item's files.
        sha256: file name -> hash that replaces the published one, for a mirror whose files differ.
    """

    offline: bool = False
    base_url: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item, address in self.base_url.items():
            if item not in read_sources():
                raise InputError(f"config: sources.base_url.{item}: no such item; known: {', '.join(read_sources())}")
            parts = urllib.parse.urlsplit(address)
            if parts.scheme not in ("http", "https", "file", ""):
                raise InputError(
                    f"config: sources.base_url.{item}: use http, https, file or a folder, not {parts.scheme}"
                )
            if "@" in parts.netloc:
                raise InputError(f"config: sources.base_url.{item}: holds a user name; use ~/.netrc instead")
        known = {file.name for source in read_sources().values() for file in source.files}
        if unknown := sorted(set(self.sha256) - known):
            raise InputError(f"config: sources.sha256.{unknown[0]}: no item has a file of this name")


@cache
def read_sources() -> dict[str, Source]:
    """All items of the table in its order."""
    table = yaml.safe_load(TABLE.read_text())
    return {name: _source(name, entry) for name, entry in table.items()}


def source_of(name: str, settings: Settings) -> Source:
    """An item with the configured mirror and hashes."""
    source = read_sources()[name]
    base = settings.base_url.get(name)
    files = source.files
    if base is not None:
        files = tuple(replace(f, urls=(join(base, f.name),)) for f in files)
        source = replace(source, base_url=base)
    own = settings.sha256
    files = tuple(
        replace(f, digest=("sha256", own[f.name]), bytes=None, about_bytes=f.bytes) if f.name in own else f
        for f in files
    )
    return replace(source, files=files)


def join(base: str, name: str) -> str:
    """URL of a file below a base URL, with the name quoted, or its local path."""
    if is_local(base):
        return str(local_path(base) / name)
    return f"{base.rstrip('/')}/{urllib.parse.quote(name)}"


def is_local(address: str) -> bool:
    """Whether an address is a local path or `file://`."""
    return urllib.parse.urlsplit(address).scheme in ("", "file")


def local_path(address: str) -> Path:
    """The path of a local address."""
    parts = urllib.parse.urlsplit(address)
    return Path(urllib.parse.unquote(parts.path)) if parts.scheme == "file" else Path(address)


def _source(name: str, entry: dict[str, Any]) -> Source:
    entry = dict(entry)
    bases = [entry["base_url"], *([entry.pop("mirror")] if "mirror" in entry else [])]
    files = tuple(file for row in entry.pop("files", []) for file in _files(row, bases))
    encrypted = Encrypted(**entry.pop("encrypted")) if "encrypted" in entry else None
    copies = re.compile(entry.pop("copies")) if "copies" in entry else None
    return Source(
        name=name, files=files, encrypted=encrypted, members=tuple(entry.pop("members", ())), copies=copies, **entry
    )


def _files(row: dict[str, Any], bases: Sequence[str]) -> Iterator[RemoteFile]:
    """The files of one row; `count` makes one per number n from 1, as the name says, `list` one per line."""
    if "list" in row:
        yield from _listed(TABLE.with_name(row["list"]), bases, row.get("modality", ""))
        return
    bases = [row["base_url"]] if "base_url" in row else bases
    query = f"?{row['query']}" if "query" in row else ""
    digest = next(((kind, row[kind]) for kind in _ALGORITHMS if kind in row), None)
    keys = ("bytes", "about_bytes", "modality", "optional")
    for n in range(1, row.get("count", 1) + 1):
        name = row["name"].format(n=n)
        urls = [join(base, name) + query for base in bases] + ([row["mirror"]] if "mirror" in row else [])
        yield RemoteFile(name, tuple(urls), digest=digest, **{key: row[key] for key in keys if key in row})


def _listed(path: Path, bases: Sequence[str], modality: str) -> Iterator[RemoteFile]:
    """The files of a list: tab-separated, with columns name and remote, and bytes and sha256 where they are known."""
    with open(path, encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream, delimiter="\t"):
            count, digest = line.get("bytes"), line.get("sha256")
            yield RemoteFile(
                line["name"],
                tuple(join(base, line["remote"]) for base in bases),
                bytes=int(count) if count else None,
                digest=("sha256", digest) if digest else None,
                modality=modality,
            )

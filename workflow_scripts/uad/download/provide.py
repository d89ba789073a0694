"""Complete an item of the source table: check the files that are there, download the rest, decrypt, unpack."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from uad.cohorts import ADAPTERS
from uad.cohorts.unpack import unpack
from uad.common.errors import InputError
from uad.common.files import exclusive
from uad.download import dataverse
from uad.download.checks import digest_of, size
from uad.download.credentials import FINDERS, Credential, secret
from uad.download.decrypt import decrypt
from uad.download.download import Downloader
from uad.download.inventory import Inventory
from uad.download.record import NAME, Record
from uad.download.sources import RemoteFile, is_local


def provide(inventory: Inventory, say: Callable[[str], None], downloader: Downloader | None = None) -> None:
    """Complete an item's folder.

    Files that are there are checked once against the published (else the pinned) hash and never replaced; what the
    user placed in another form (unpacked, another archive) is left alone.  Runs that need the same folder take turns.

    Raises:
        InputError: one line: what is missing or wrong, and what to do.
    """
    with exclusive(inventory.folder, lambda: say(f"waiting: another run is downloading into {inventory.folder}")):
        _Provision(inventory, say, downloader or Downloader(say)).run()


class _Provision:
    def __init__(self, inventory: Inventory, say: Callable[[str], None], downloader: Downloader) -> None:
        self._inventory, self._say, self._downloader = inventory, say, downloader
        self._source, self._folder = inventory.source, inventory.folder
        self._offline = inventory.settings.offline and not is_local(self._source.base_url)
        self._record = Record(self._folder)
        self._hint = f"{self._source.advice(self._folder)}. Or name a mirror: sources.base_url.{self._source.name}"
        if self._source.name in ADAPTERS or inventory.need.modalities:
            self._hint += f"; or run without it: --config 'cohorts={{{inventory.need.name}: null}}'"

    def run(self) -> None:
        files = self._inventory.files()
        if files is None:
            if self._inventory.placed():
                return
            if self._source.by_hand_only:
                raise InputError(f"{self._inventory.need.name}: nothing in {self._folder}. {self._hint}")
            files = self._listing()
        for file in files:
            self._check_present(file)
        missing = self._inventory.missing(files)
        if missing:
            self._fetch_all(missing)

    def _listing(self) -> tuple[RemoteFile, ...]:
        self._refuse_offline(["the file list of the server"])
        base = self._source.base_url
        url = dataverse.listing_url(base, self._source.dataverse)
        listing = RemoteFile(self._inventory.listing.name, (url,))
        self._downloader.fetch(listing, self._inventory.listing, hint=self._hint)
        try:
            return dataverse.files_of(self._inventory.listing.read_bytes(), base, self._inventory.is_wanted)
        except InputError:
            self._inventory.listing.unlink()
            raise

    def _fetch_all(self, missing: Sequence[RemoteFile]) -> None:
        needed = [file.name for file in missing if not file.optional]
        if needed:
            self._refuse_offline(needed)
        elif self._offline:
            self._say(f"offline: optional file {', '.join(file.name for file in missing)} skipped")
            return
        credential = self._credential()
        total = sum(file.bytes or 0 for file in missing)
        self._say(f"{len(missing)} file(s) to download" + (f", {size(total)}" if total else ""))
        for file in missing:
            try:
                self._fetch(file, credential)
            except InputError as error:
                if not file.optional:
                    raise
                self._say(f"optional file {file.name} skipped: {error}")
        if self._source.encrypted:
            self._say(f"decrypting {self._source.encrypted.file}")
            decrypt(self._folder, self._source.encrypted, self._say)
        if self._source.members:
            self._unpack(missing[0])

    def _credential(self) -> Credential | None:
        """The item's credential; checked before a download of hours starts."""
        archive = self._source.encrypted
        if archive and not secret(archive.key):
            raise InputError(f"{self._source.name}: {archive.key} is not set in the environment. {self._hint}")
        own_server = self._source.name not in self._inventory.settings.base_url
        credential = FINDERS[self._source.credential]() if self._source.credential and own_server else None
        if self._source.access == "token" and own_server and credential is None:
            raise InputError(f"{self._source.name}: nothing in {self._folder}. {self._hint}")
        return credential

    def _fetch(self, file: RemoteFile, credential: Credential | None) -> None:
        target = self._folder / file.name
        if target.exists():  # an archive that is not decrypted or unpacked yet
            return
        expected = self._record.expected(file)
        url = self._downloader.fetch(file, target, digest=expected, credential=credential, hint=self._hint)
        self._note(file, url)

    def _check_present(self, file: RemoteFile) -> None:
        """Compare a file that is there with its known size and hash, unless that was done before."""
        path = self._folder / file.name
        if not path.exists() or self._record.checked(file):
            return
        expected = self._record.expected(file)
        found = path.stat().st_size
        reason = ""
        if file.bytes is not None and found != file.bytes:
            reason = f"has {found} bytes, the published file {file.bytes}; it is incomplete or another file"
        elif expected and (digest := digest_of(path, expected[0])) != expected[1]:
            known = "published" if file.digest else f"pinned (in {NAME})"
            reason = f"has {expected[0]} {digest[:12]}..., {known} is {expected[1][:12]}..."
        if reason:
            raise InputError(
                f"{path}: {reason}. Remove it to download it again, or, to use this one, put its SHA-256 under "
                f"sources.sha256 with the key {file.name}"
            )
        self._note(file, "")

    def _note(self, file: RemoteFile, url: str) -> None:
        digest = self._record.add(file, url)
        if file.digest is None:
            self._say(f"pinned {file.name}: sha256 {digest}")

    def _unpack(self, file: RemoteFile) -> None:
        """Move the wanted members of an archive into the folder, pin them, and delete the archive."""
        archive = self._folder / file.name
        wanted = [re.compile(rf"^{re.escape(member)}$") for member in self._source.members]
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            members = unpack(archive, Path(scratch) / "members", wanted)
            lacking = [member for member in self._source.members if not (members / member).is_file()]
            if lacking:
                raise InputError(f"{archive}: holds no {', '.join(lacking)}; remove it, then: {self._hint}")
            for member in self._source.members:
                (self._folder / member).parent.mkdir(parents=True, exist_ok=True)
                os.replace(members / member, self._folder / member)
                self._note(RemoteFile(member, ()), f"{file.name} of {self._source.name}")
        archive.unlink()

    def _refuse_offline(self, needed: Sequence[str]) -> None:
        if self._offline:
            first = ", ".join(needed[:3]) + (f" and {len(needed) - 3} more" if len(needed) > 3 else "")
            raise InputError(
                f"{self._source.name}: {first} not in {self._folder}, and sources.offline is set. {self._hint}"
            )

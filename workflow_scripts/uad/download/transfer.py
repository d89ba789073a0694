"""Download one file from one URL: resume, check, rename."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from uad.download.checks import HEAD, digest_of, public, size, wrong_content
from uad.download.complaints import BROKEN, NAME_UNKNOWN, Broken, Refused, complaint, connection_error
from uad.download.credentials import Credential
from uad.download.progress import Progress
from uad.download.sources import RemoteFile, is_local, local_path

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Patience:
    """Timeouts and retries of a download.

    Attributes:
        timeout: seconds to connect, or without a byte.
        attempts: consecutive failures without new bytes.
        back_off: first pause in seconds; it doubles up to `longest_pause`.
        longest_pause: in seconds; a server that asks for a longer one by Retry-After is not waited for.
        slowest: a connection that brings fewer bytes than this in `slow_seconds` is closed and opened again.
    """

    timeout: float = 60
    attempts: int = 6
    back_off: float = 2
    longest_pause: float = 300
    slowest: int = 50_000
    slow_seconds: float = 60


class Transfer:
    """One file from one URL."""

    def __init__(
        self,
        session: requests.Session,
        file: RemoteFile,
        url: str,
        target: Path,
        digest: tuple[str, str] | None,
        credential: Credential | None,
        say: Callable[[str], None],
    ) -> None:
        self._session, self._file, self._url, self._target = session, file, url, target
        self._digest, self._credential, self._say = digest, credential, say
        self.name = file.name
        self._part = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self._continued = False
        self._answered = False

    def have(self) -> int:
        """Bytes downloaded so far."""
        return self._part.stat().st_size if self._part.exists() else 0

    def go_on(self, patience: Patience) -> None:
        """Download the missing bytes over one connection.

        Raises:
            Broken, Refused, OSError (of the disk).
        """
        if is_local(self._url):
            self._copy()
            return
        headers = {"Accept-Encoding": "identity", "User-Agent": "uadbench"} | self._range()
        try:
            with self._session.get(
                self._url, headers=headers, auth=self._credential, stream=True, timeout=patience.timeout
            ) as reply:
                self._take(reply, patience)
        except requests.TooManyRedirects:
            raise Refused("redirects in a loop") from None
        except BROKEN as error:
            reason = connection_error(error, patience.timeout)
            # a server that has answered once exists: its name will resolve again
            raise Refused(reason) if reason == NAME_UNKNOWN and not self._answered else Broken(reason) from None
        except requests.RequestException as error:
            raise Refused(f"invalid URL ({type(error).__name__})") from None

    def finish(self) -> None:
        """Check the whole file and rename it to its final name.

        Raises:
            Refused: it is the wrong file; the download is deleted.
        """
        if self._file.bytes is not None and self.have() != self._file.bytes:
            self._drop(f"sent {self.have()} bytes, expected {self._file.bytes}")
        if self._digest is not None:
            found = digest_of(self._part, self._digest[0])
            if found != self._digest[1]:
                self._drop(f"sent a file with {self._digest[0]} {found[:12]}..., expected {self._digest[1][:12]}...")
        else:
            with open(self._part, "rb") as stream:
                if reason := wrong_content(stream.read(HEAD), self.name, hash_is_known=False):
                    self._drop(reason)
        os.replace(self._part, self._target)
        self._note.unlink(missing_ok=True)

    # --- the request ----------------------------------------------------------------------------------------

    def _range(self) -> dict[str, str]:
        """Headers that ask for the missing bytes if the server has the same version; empty: for the whole file."""
        note, have = self._read_note(), self.have()
        if have == 0 or note.get("url") != public(self._url) or not note.get("validator"):
            return {}
        return {"Range": f"bytes={have}-", "If-Range": note["validator"]}

    def _read_note(self) -> dict[str, Any]:
        try:
            return json.loads(self._note.read_text())
        except (OSError, ValueError):
            return {}

    # --- the reply ------------------------------------------------------------------------------------------

    def _take(self, reply: requests.Response, patience: Patience) -> None:
        self._answered = True
        start = self._start_of(reply)
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length else self._file.bytes
        chunks = _chunks(reply, patience)
        first = next(chunks, b"")
        if start == 0:
            self._check_offer(reply, first, total)
            self._write_note(reply)
        else:
            self._continued = True
            self._say(f"{self.name}: resuming at {size(start)}")
        _check_space(self._target, (total or 0) - start)
        progress = Progress(self.name, total, start, self._say)
        with open(self._part, "ab" if start else "wb") as stream:
            for chunk in itertools.chain([first], chunks):
                stream.write(chunk)
                progress.add(len(chunk))
        if total is not None and self.have() < total:
            raise Broken(f"the connection was lost at {size(self.have())} of {size(total)}")
        progress.finish()

    def _start_of(self, reply: requests.Response) -> int:
        """Offset in the file at which the reply's body starts.

        Raises:
            Broken, Refused: the reply has no part of the file.
        """
        status = reply.status_code
        if status == 206:
            start = reply.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
            if start == str(self.have()):
                return self.have()
            self._forget()
            raise Broken("sent the wrong byte range; restarting the download", wait=0)
        if status == 416:  # the partial file is as long as the file or longer: it is of another version
            self._forget()
            raise Broken("refused the byte range; restarting the download", wait=0)
        if status == 200:
            if self.have():
                self._say(f"{self.name}: the server cannot resume or has another version; downloading from the start")
            return 0
        raise complaint(reply)

    def _check_offer(self, reply: requests.Response, first: bytes, total: int | None) -> None:
        """Check headers and first bytes before anything is written; all other checks need the whole file."""
        kind = reply.headers.get("Content-Type", "")
        if reason := wrong_content(first[:HEAD], self.name, hash_is_known=True, content_type=kind):
            redirected = f", after a redirect to {public(reply.url)} (a login page?)" if reply.history else ""
            raise Refused(reason + redirected)
        if None not in (self._file.bytes, total) and total != self._file.bytes:
            raise Refused(f"offers {total} bytes, expected {self._file.bytes}")

    def _write_note(self, reply: requests.Response) -> None:
        """Note the version; a weak ETag is not used, for files with the same one may differ."""
        tag = reply.headers.get("ETag", "")
        validator = tag if tag and not tag.startswith("W/") else reply.headers.get("Last-Modified", "")
        self._note.write_text(json.dumps({"url": public(self._url), "validator": validator}) + "\n")

    # --- the files ------------------------------------------------------------------------------------------

    def _copy(self) -> None:
        source = local_path(self._url)
        if not source.is_file():
            raise Refused("does not exist")
        total = source.stat().st_size
        if self._file.bytes is not None and total != self._file.bytes:
            raise Refused(f"has {total} bytes, expected {self._file.bytes}")
        _check_space(self._target, total)
        progress = Progress(self.name, total, 0, self._say)
        with open(source, "rb") as reading, open(self._part, "wb") as writing:
            while chunk := reading.read(_CHUNK):
                writing.write(chunk)
                progress.add(len(chunk))
        progress.finish()

    def _forget(self) -> None:
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _drop(self, reason: str) -> None:
        """Delete the wrong file; where the download was resumed, say that a fresh one may help."""
        self._forget()
        if self._continued:
            reason += " after a resumed download; run again to download it from the start"
        raise Refused(reason)


def _chunks(reply: requests.Response, patience: Patience) -> Iterator[bytes]:
    """The body as it arrives; raises Broken when it comes too slowly."""
    began, count = time.monotonic(), 0
    while chunk := reply.raw.read1(_CHUNK, decode_content=False):
        yield chunk
        count += len(chunk)
        if time.monotonic() - began > patience.slow_seconds:
            if count < patience.slowest:
                raise Broken(f"only {size(count)} received in {patience.slow_seconds:.0f} s")
            began, count = time.monotonic(), 0


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{size(needed)} more are needed, {size(free)} are free")

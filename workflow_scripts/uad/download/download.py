"""Download one file; it gets its final name only after it was checked.

Bytes go to `<name>.part`; `<name>.part.json` notes which version of the file they belong to (ETag or modification
time), so that a killed download resumes and never mixes two versions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import requests

from uad.common.errors import InputError
from uad.download.checks import public, size
from uad.download.complaints import Broken, Refused, disk_error
from uad.download.credentials import Credential
from uad.download.sources import RemoteFile
from uad.download.transfer import Patience, Transfer

__all__ = ["Downloader", "Patience"]


class Downloader:
    """Downloads files over http(s), through the proxies of the environment, or copies them from a local folder."""

    def __init__(
        self,
        say: Callable[[str], None],
        patience: Patience | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._say, self._patience, self._pause = say, patience or Patience(), pause
        self._session = requests.Session()  # reads proxies and ~/.netrc from the environment

    def fetch(
        self,
        file: RemoteFile,
        target: Path,
        *,
        digest: tuple[str, str] | None = None,
        credential: Credential | None = None,
        hint: str = "",
    ) -> str:
        """Download a file to `target`; its URLs are tried in turn.  Returns the one that worked.

        Args:
            digest: (algorithm, hex digits) that the file must have; default the file's own, None: any.
            hint: what to do by hand, for the end of the error message.

        Raises:
            InputError: one line: which URL failed and why, what to do.  Nothing is left at `target`; bytes to resume
                from stay at `<target>.part`.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        reasons = []
        for url in file.urls:
            transfer = Transfer(self._session, file, url, target, digest or file.digest, credential, self._say)
            try:
                self._persist(transfer)
                transfer.finish()
                return public(url)
            except (Refused, Broken) as error:
                reasons.append(f"{public(url)}: {error}")
                if len(reasons) < len(file.urls):
                    self._say(f"{file.name}: {reasons[-1]}; trying {public(file.urls[len(reasons)])}")
            except OSError as error:
                raise InputError(disk_error(error, target)) from error
        raise InputError("; ".join(reasons) + (f". {hint}" if hint else ""))

    def _persist(self, transfer: Transfer) -> None:
        """Retry until complete. Give up after `attempts` consecutive failures without new bytes."""
        failures, seen = 0, transfer.have()
        while True:
            try:
                return transfer.go_on(self._patience)
            except Broken as error:
                failures = failures + 1 if transfer.have() <= seen else 1
                seen = max(seen, transfer.have())
                wait = self._patience.back_off * 2 ** (failures - 1) if error.wait is None else error.wait
                if failures >= self._patience.attempts or (error.wait or 0) > self._patience.longest_pause:
                    raise Broken(f"{error}; run again later, {_so_far(transfer.have())}") from error
                wait = min(wait, self._patience.longest_pause)
                self._say(f"{transfer.name}: {error}; retrying in {wait:.0f} s")
                self._pause(wait)


def _so_far(count: int) -> str:
    return f"{size(count)} are kept" if count else "nothing downloaded so far"

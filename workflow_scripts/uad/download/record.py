"""`fetched.json` beside downloaded files: where each came from, and its published or pinned hash."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from uad.common.files import atomic_path
from uad.common.pinned import NAME, fetched_entries
from uad.download.checks import digest_of
from uad.download.sources import RemoteFile


class Record:
    """The record of one folder; file name -> url, bytes, mtime_ns, algorithm, digest, origin.

    `origin` is `published` where the source table or a listing states the hash, else `pinned`: the hash that the
    file had when it was first used.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.entries = fetched_entries(folder)

    def checked(self, file: RemoteFile) -> bool:
        """Whether the file is unchanged since it was last checked against the same hash."""
        entry = self.entries.get(file.name)
        status = _status(self.folder / file.name)
        if entry is None or status is None or [entry["bytes"], entry["mtime_ns"]] != status:
            return False
        return file.digest is None or file.digest == (entry["algorithm"], entry["digest"])

    def expected(self, file: RemoteFile) -> tuple[str, str] | None:
        """The published hash, else the pinned one, else None."""
        if file.digest is not None:
            return file.digest
        entry = self.entries.get(file.name)
        return (entry["algorithm"], entry["digest"]) if entry else None

    def add(self, file: RemoteFile, url: str) -> str:
        """Note that a file has been checked; returns its hash.

        Without write access nothing is noted, and the files are checked every time.
        """
        algorithm, digest = file.digest or ("sha256", digest_of(self.folder / file.name, "sha256"))
        count, mtime_ns = _status(self.folder / file.name) or (0, 0)
        self.entries[file.name] = {
            "url": url,
            "bytes": count,
            "mtime_ns": mtime_ns,
            "algorithm": algorithm,
            "digest": digest,
            "origin": "published" if file.digest else "pinned",
        }
        with contextlib.suppress(OSError), atomic_path(self.folder / NAME) as temporary:
            temporary.write_text(json.dumps(self.entries, indent=1, sort_keys=True) + "\n")
        return digest


def _status(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]

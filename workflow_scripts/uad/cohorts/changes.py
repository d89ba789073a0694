"""Whether raw data changed since ingest read them: by size and time, and by hash only where the time differs.

Ingest writes a record of the raw files (path, bytes, mtime_ns, sha256) and a token.  The token is a parameter of rules
`download` and `ingest`: while the folder agrees with the record it stays the same, else it changes and both run
again.  The Snakefile imports this module, so nothing heavy is imported at its top.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uad.cohorts.base import walk
from uad.common.errors import InputError
from uad.common.files import sha256_of, write_text

# what ingest may read; a changed note or picture runs nothing again
_DATA = re.compile(
    r"\.nii(?:\.gz)?$|\.zip$|\.tar$|\.t?gz$|(?:^|/)participants\.tsv$|\.xls$|\.csv$", re.IGNORECASE
)  # fmt: skip

State = dict[str, list[int]]  # path below the raw folder -> bytes, mtime_ns


def state_of_folder(raw: str | Path, unpacked: str | Path) -> State:
    """Sizes and times of the files below a raw folder that ingest may read.

    Raises:
        InputError: a folder may not be read.
    """
    state: State = {}
    for name, path in walk(Path(raw), leave_out=Path(unpacked)).items():
        if _DATA.search(name):
            with contextlib.suppress(OSError):  # a link to nothing
                status = path.stat()
                state[name] = [status.st_size, status.st_mtime_ns]
    return state


def token_of(
    record: str | Path, raw: str | Path, unpacked: str | Path, put: Callable[[str | Path, str], None] = write_text
) -> str:
    """The token of a raw folder: the recorded one while the record agrees, `new` without a record, else another one.

    New times of unchanged files are noted in the record, so that they are hashed only once.

    Args:
        put: writes the text to the record, now or later.
    """
    try:
        noted: dict[str, Any] = json.loads(Path(record).read_text())
    except (OSError, ValueError):
        return "new"
    now, files = state_of_folder(raw, unpacked), noted["files"]
    same = now.keys() == files.keys() and all(now[name][0] == files[name][0] for name in now)
    touched = [name for name in now if same and now[name][1] != files[name][1]]
    if not same or any(sha256_of(Path(raw, name)) != files[name][2] for name in touched):
        return hashlib.sha256(json.dumps(now, sort_keys=True).encode()).hexdigest()[:10]
    if touched:
        for name in touched:
            files[name][1] = now[name][1]
        put(record, _text(noted))
    return noted["token"]


def write_record(record: str | Path, raw: str | Path, unpacked: str | Path, token: str, before: State) -> None:
    """Note what ingest has read.

    Args:
        before: the folder's state when ingest began.

    Raises:
        InputError: a file has changed while ingest read the folder.
    """
    hashes = {name: sha256_of(Path(raw, name)) for name in before if Path(raw, name).is_file()}
    after = state_of_folder(raw, unpacked)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise InputError(f"{raw}: {changed[0]} has changed while it was read; run again when nobody writes there")
    write_text(record, _text({"token": token, "files": {name: [*before[name], hashes[name]] for name in before}}))


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=0) + "\n"

"""Files: atomic writes, content hashes, and locks between processes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from uad.common.errors import DiskFull, InputError, says_disk_full, says_no_access


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with the same suffixes, and rename it to `path` when the block succeeds.

    So no reader ever sees a half-written file under the final name, even if the writer is killed.

    Raises:
        DiskFull: no space for the file.
        InputError: no write permission for its folder.
    """
    path = Path(path)
    suffix = "".join(path.suffixes)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[: -len(suffix) or None]}-", suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; results are shared within a group
        os.replace(temporary, path)
    except Exception as error:
        if temporary is None and says_no_access(error):
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); get write permission for its folder"
            ) from error
        if not says_disk_full(error):
            raise
        size = temporary.stat().st_size if temporary else 0
        free = shutil.disk_usage(path.parent).free
        raise DiskFull(
            f"{path}: no room on its disk: the file takes {size / 1e6:.1f} MB or more, {free / 1e6:.1f} MB are free; "
            "make room (`snakemake -c1 plan` says how much a run takes) and start again: what is finished is kept"
        ) from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a file unless it holds this text already.

    Raises:
        DiskFull, InputError: as `atomic_path`.
    """
    path = Path(path)
    if not path.exists() or path.read_text() != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text)


def sha256_of(path: str | Path, opened: Callable[..., Any] = open) -> str:
    """SHA-256 as 64 hex digits of a file's bytes, or of what `opened` finds in them, e.g. `gzip.open`."""
    with opened(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def exclusive(folder: str | Path, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Lock `folder`, which need not exist yet, against other processes that use this function.

    `waiting` is called once if another process has the lock; `holder_of` says which.  The kernel frees the lock when
    its process ends, also after kill -9.  On NFS, Linux passes it on to the server, so that machines see each other.
    Where no lock can be taken (read-only disk, or no flock), False is yielded and nothing is locked.
    """
    lock, held = _lock_file(folder), False
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(open(lock, "a"))
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(stream, fcntl.LOCK_EX)
            held = True
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
            stream.flush()
        yield held


def holder_of(folder: str | Path) -> str:
    """Who has the lock of `folder`, or had it last: process, machine, since when; empty if unknown."""
    with contextlib.suppress(OSError):
        return _lock_file(folder).read_text().strip()
    return ""


def _lock_file(folder: str | Path) -> Path:
    return Path(folder).with_name(f".{Path(folder).name}.lock")  # hidden: no data

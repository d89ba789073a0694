"""Errors that are meant for the reader, and the one place where a program turns them into an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable


class InputError(Exception):
    """Something the user gave (a file, a scan, a config key) is wrong.

    The message is one line: which file, what is wrong, what to do.
    """


class DiskFull(Exception):
    """A disk has no room for a result; the message is one line: which file, how much room it needs, what to do."""


class Interrupted(Exception):
    """Work was asked to stop (SIGTERM, Ctrl-C) and kept what is done; one line, the next start goes on."""


def says_disk_full(error: Exception) -> bool:
    """Whether an error means that a disk is full; libraries in other languages pass on the words, not the number."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full)


def says_no_access(error: Exception) -> bool:
    """Whether an error means that a file or disk may not be read or written."""
    return isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


def run_program(main: Callable[[], None]) -> None:
    """Run a command-line program; an `InputError`, a full or a closed disk becomes one line on stderr and exit code 1,
    `Interrupted` 143.
    """
    try:
        main()
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except (InputError, DiskFull) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if says_no_access(error):
            print(f"error: {error}; get the right to read or write there, or name another folder", file=sys.stderr)
            sys.exit(1)
        if not says_disk_full(error):
            raise
        print(f"error: {error}; make room and start again: what is finished is kept", file=sys.stderr)
        sys.exit(1)

"""Errors with a message for the user, and how a program turns them into an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import TypeGuard


class InputError(Exception):
    """Wrong input from the user: a file, a scan or a key of the configuration.

    The message is one line: which file, what is wrong, what to do.
    """


class DiskFull(Exception):
    """No space on the disk for a result; the message is one line: which file, how much space it needs, what to do."""


class Interrupted(Exception):
    """The work was stopped (SIGTERM, Ctrl-C) and saved; the message is one line, and the next start resumes."""


def says_disk_full(error: Exception) -> bool:
    """Whether an error means a full disk; libraries in C may pass on only the text, not the error number."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full)


def says_no_access(error: Exception) -> TypeGuard[OSError]:
    """Whether an error means that permission to read or write is missing."""
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
            print(f"error: {error}; get permission to read or write there, or name another folder", file=sys.stderr)
            sys.exit(1)
        if not says_disk_full(error):
            raise
        print(f"error: {error}; make room and start again: what is finished is kept", file=sys.stderr)
        sys.exit(1)

"""Errors that are meant for the reader, and the one place where a program turns them into an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable


class InputError(Exception):
    """Something the user gave (a file, a scan, a config key) is wrong.

    The message is one line: which file, what is wrong, what to do.
    """


def run_program(main: Callable[[], None]) -> None:
    """Run a command-line program; an `InputError` becomes one line on stderr and exit code 1."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)

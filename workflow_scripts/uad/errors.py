"""Errors that are meant for the reader, and the one place where a program turns them into an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable


class InputError(Exception):
    """Something the user gave (a file, a scan, a config key) is wrong.

    The message is one line: which file, what is wrong, what to do.
    """


class Interrupted(Exception):
    """Work was asked to stop (SIGTERM) and kept what is done; the message is one line, the next start goes on."""


def run_program(main: Callable[[], None]) -> None:
    """Run a command-line program; an `InputError` becomes one line on stderr and exit code 1, `Interrupted` 143."""
    try:
        main()
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)

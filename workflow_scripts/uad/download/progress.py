"""Progress of a download as a line every few seconds: jobs write to logs, where a bar would not do."""

from __future__ import annotations

import time
from collections.abc import Callable

from uad.download.checks import size

_EVERY = 5.0  # seconds


class Progress:
    """Counts bytes; says a line every few seconds, and one at the end."""

    def __init__(self, name: str, total: int | None, start: int, say: Callable[[str], None]) -> None:
        self._name, self._total, self._say = name, total, say
        self._start = self._count = start
        self._began = self._said = time.monotonic()

    def add(self, count: int) -> None:
        """Count more bytes."""
        self._count += count
        if time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            self._say(self._line())

    def finish(self) -> None:
        """Say the last line."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        rate = (self._count - self._start) / seconds
        self._say(f"{self._name}: {size(self._count)} in {seconds:.0f} s ({size(rate)}/s)")

    def _line(self) -> str:
        rate = (self._count - self._start) / max(time.monotonic() - self._began, 1e-3)
        if not self._total:
            return f"{self._name}: {size(self._count)}, {size(rate)}/s"
        left = (self._total - self._count) / max(rate, 1)
        done = f"{size(self._count)} of {size(self._total)} ({100 * self._count / self._total:.0f} %)"
        return f"{self._name}: {done}, {size(rate)}/s, {left / 60:.0f} min left"

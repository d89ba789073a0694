"""Files that jobs of a run read, written when the run starts and not while Snakemake plans it.

Rules name them as parameters, so their content is known while jobs are planned. A dry run, `--list-rules` and `--lint`
plan and never start: they write nothing.
"""

from __future__ import annotations

from pathlib import Path

from uad.common.files import write_text


class PlannedFiles:
    """Keeps texts until `write`; afterwards writes them at once.

    Args:
        copies: a folder that has each file as soon as it is known, by its name alone: for who reads a dry run.
    """

    def __init__(self, copies: str | Path | None = None) -> None:
        self._copies = copies
        self._texts: dict[Path, str] = {}
        self._started = False

    def put(self, path: str | Path, text: str) -> None:
        """Have the file hold this text once the run has started."""
        if self._copies:
            write_text(Path(self._copies, Path(path).name), text)
        if self._started:
            write_text(path, text)
        else:
            self._texts[Path(path)] = text

    def write(self) -> None:
        """The run starts.

        Raises:
            DiskFull, InputError: as `files.atomic_path`.
        """
        self._started = True
        while self._texts:
            write_text(*self._texts.popitem())

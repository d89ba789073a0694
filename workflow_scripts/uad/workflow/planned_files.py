"""Files that jobs of a run read; written when the run starts, not while Snakemake plans it.

Rules name them as parameters, so their content is known during planning. A dry run, `--list-rules` and `--lint` never
start a run, so they write nothing.
"""

from __future__ import annotations

from pathlib import Path

from uad.common.files import write_text


class PlannedFiles:
    """Keeps texts until `write`; afterwards writes them at once.

    Attributes:
        texts: path -> text of what is not written yet.
    """

    def __init__(self) -> None:
        self.texts: dict[Path, str] = {}
        self._started = False

    def put(self, path: str | Path, text: str) -> None:
        """Have the file hold this text once the run has started."""
        if self._started:
            write_text(path, text)
        else:
            self.texts[Path(path)] = text

    def write(self) -> None:
        """The run starts.

        Raises:
            DiskFull, InputError: as `files.atomic_path`.
        """
        self._started = True
        while self.texts:
            write_text(*self.texts.popitem())

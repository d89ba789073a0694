"""Puts the report together: tables, figures, breakdowns, quality, costs, provenance and a viewer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from uad.common.errors import InputError
from uad.reporting.elements import Viewer
from uad.reporting.page.niivue import niivue_files
from uad.reporting.page.run import Inputs, Run
from uad.reporting.page.sections import read_spec
from uad.reporting.page.template import render

ASSETS = Path(__file__).with_name("assets")


def build_report(
    settings: Mapping[str, Any], inputs: Inputs, folder: Path, progress: Callable[[str], None]
) -> dict[str, int]:
    """Write the report to `folder`, which is replaced as a whole once it is complete.

    Returns:
        Counts for the provenance record: scans in the viewer, bytes of the folder.

    Raises:
        InputError: a file is missing or damaged, or the viewer's package is not installed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        draft = Path(name) / folder.name
        scans = _write(Run(settings, inputs, draft), progress)
        size = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    return {"viewer_scans": scans, "bytes": size}


def _write(run: Run, progress: Callable[[str], None]) -> int:
    """Fill the run's folder; returns the number of scans in the viewer."""
    for name, paths in (("tables", run.inputs.tables), ("figures", run.inputs.figures)):
        (run.folder / name).mkdir(parents=True)
        for path in paths:
            for file in {path, path.with_suffix(".svg")}:
                if file.exists():
                    shutil.copyfile(file, run.folder / name / file.name)
    shown = []
    for section in read_spec():
        progress(section.title)
        if parts := section.parts(run):
            shown.append((section, parts))
    about = {name: run.settings[name] for name in ("run", "protocol", "phantom", "folds")}
    page = render("index.html.j2", sections=shown, **about)
    if lost := [path for path in run.inputs.figures if f'"figures/{path.name}"' not in page]:
        raise InputError(f"{lost[0]}: has no caption in spec.yaml of the page")
    (run.folder / "index.html").write_text(page, encoding="utf-8", newline="\n")
    shutil.copytree(ASSETS, run.folder / "assets")
    for name, text in niivue_files().items():
        (run.folder / "assets" / name).write_text(text, encoding="utf-8", newline="\n")
    return sum(len(part.scans) for _, parts in shown for part in parts if isinstance(part, Viewer))

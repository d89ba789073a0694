"""A study's answer as files: a page, the same as Markdown, tables and figures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uad.common.files import write_text
from uad.reporting import style
from uad.reporting.elements import Bullets, Part, Text
from uad.reporting.markdown import render_part
from uad.reporting.page.build import ASSETS
from uad.reporting.page.sections import picture_of
from uad.reporting.page.template import render
from uad.reporting.tables import write_csv
from uad.studies.base import Answer, Study


def write_answer(study: Study, answer: Answer, folder: Path, about: Mapping[str, Any]) -> None:
    """Write index.html, findings.md, <table>.csv and <figure>.png and .svg to a study's folder.

    Args:
        about: run, protocol, phantom and folds, as the report says them.
    """
    assert set(answer.rows) == set(study.tables) and set(answer.figures) == set(study.figures)
    for name, rows in answer.rows.items():
        write_csv(rows, folder / f"{name}.csv")
    mark = style.PHANTOM_MARK if about["phantom"] else ""
    for name, (figure, _) in answer.figures.items():
        style.save(figure, folder / name, mark)
    shutil.copytree(ASSETS, folder / "assets", dirs_exist_ok=True)
    files = [f"{name}.csv" for name in answer.rows]
    parts: list[Part] = [
        Text(study.varied),
        Text("What was found", tag="h3"), Bullets(answer.found or ["Nothing that the data carry."]),
        *answer.tables,
        *(picture_of(folder / f"{name}.png", caption, "") for name, (_, caption) in answer.figures.items()),
        Text("What the data cannot tell", tag="h3"), Bullets(answer.limits),
        Text("", "note", files=files),
    ]  # fmt: skip
    write_text(folder / "index.html", render("study.html.j2", question=study.question, content=parts, **about))
    write_text(folder / "findings.md", _markdown(study, answer))


def _markdown(study: Study, answer: Answer) -> str:
    found = render_part(Bullets(answer.found or ["Nothing that the data carry."]))
    tables = [f"**{table.caption}**\n\n{render_part(table)}" for table in answer.tables]
    limits = f"What the data cannot tell:\n\n{render_part(Bullets(answer.limits))}"
    return "\n\n".join([f"# {study.question}", study.varied, found, *tables, limits]) + "\n"

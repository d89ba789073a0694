"""The reproduction report as a part of the page: its summary in sight, every cell below it to unfold."""

from __future__ import annotations

from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from uad.common.errors import InputError

_HEADING = "\n## "


def reproduction_section(path: Path) -> dict[str, Markup]:
    """`summary` and `details` of a file that `uad.reporting.reproduction` wrote, as HTML.

    Markup within the file is text.  Raises `InputError` where the file has no sections.
    """
    title, *sections = path.read_text(encoding="utf-8").split(_HEADING)
    if len(sections) < 2:
        raise InputError(f"{path}: holds no reproduction report; delete it and run again")
    opening = title.partition("\n")[2]  # the page has its own heading
    short = sections[0].partition("\n")[2]
    return {
        "summary": _html(opening + "\n\n" + short),
        "details": _html("".join("\n### " + section for section in sections[1:])),
    }


def _html(text: str) -> Markup:
    page = MarkdownIt("js-default").render(text)
    tables = page.replace("<table>", '<div class="scroll"><table class="sortable">').replace(
        "</table>", "</table></div>"
    )
    return Markup(tables)

"""What a report is made of, as plain values: `page` draws them as HTML, `markdown` writes those that are text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOTHING = "–"


class Marked(str):
    """A text with Markdown's marks for bold and code; any other text is shown as it is."""


@dataclass(frozen=True)
class Cell:
    """One printed cell; `sort` orders the column by a number, None by the text.

    `marks` stand after the text, `below` is a second line in small letters, coloured by `band` ("within", "outside").
    """

    text: str
    sort: float | None = None
    link: str = ""
    css: str = ""
    bold: bool = False
    marks: str = ""
    below: str = ""
    band: str = ""


@dataclass(frozen=True)
class Table:
    """A sortable table.

    Attributes:
        heads: of the columns.
        lines: a line's first cell is its head.
        note: stands below.
        words: the columns that hold words, which are aligned left.
        caption: stands above.
        groups: (title, how many columns it spans) above the heads, for the columns after `words`.
        files: of the report's folder, linked below.
    """

    heads: Sequence[str]
    lines: Sequence[Sequence[Cell]] = ()
    note: str = ""
    words: Sequence[int] = (0,)
    caption: str = ""
    groups: Sequence[tuple[str, int]] = ()
    files: Sequence[str] = ()


@dataclass(frozen=True)
class Text:
    """A paragraph or, by its `tag`, a heading ("h3") or lines as they are ("pre"); `css` is "warning", "note" or ""."""

    text: str
    css: str = ""
    tag: str = "p"
    files: Sequence[str] = ()  # of the report's folder, linked at the end


@dataclass(frozen=True)
class Bullets:
    lines: Sequence[str]
    css: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture, its size on the page in CSS pixels, and its file as SVG, if there is one."""

    file: str
    width: int
    height: int
    caption: str
    title: str = ""
    alt: str = ""  # needed where the caption does not say what is seen
    vector: str = ""
    css: str = ""


@dataclass(frozen=True)
class Group:
    """Parts side by side: `css` is "columns" (tables), "plates" (figures) or "gallery" (small pictures)."""

    parts: Sequence[Part]
    css: str


@dataclass(frozen=True)
class Fold:
    """Parts that a click on the title unfolds."""

    title: str
    parts: Sequence[Part]
    opened: bool = False


@dataclass(frozen=True)
class Terms:
    """Words (keys) and what they mean."""

    meanings: Mapping[str, str]


@dataclass(frozen=True)
class ScanTable:
    """The table of single scans, which the page loads by place (`uad.reporting.page.scan_rows`).

    Attributes:
        places: what can be chosen: title, file, and its arms.
        files: of the report's folder, linked below.
    """

    places: Sequence[Mapping[str, Any]]
    files: Sequence[str] = ()


@dataclass(frozen=True)
class Viewer:
    """The viewer; `scans` is its catalogue (`uad.reporting.page.scans`)."""

    scans: Sequence[Mapping[str, Any]]


Part = Table | Text | Bullets | Picture | Group | Fold | Terms | ScanTable | Viewer


def number(value: float | None, decimals: int = 1, unit: str = "") -> Cell:
    """A number in a cell; NaN and None are a dash that sorts last."""
    if value is None or math.isnan(value):
        return Cell(NOTHING, math.nan)
    return Cell(f"{value:.{decimals}f}{unit}".replace("-", "−"), float(value))


def duration(seconds: float) -> Cell:
    """Seconds as h:mm:ss; less than a minute with a decimal."""
    if math.isnan(seconds):
        return Cell(NOTHING, math.nan)
    if seconds < 60:
        return Cell(f"{seconds:.1f} s", seconds)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return Cell(f"{hours}:{minutes:02d}:{rest:02d}", seconds)

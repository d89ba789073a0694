"""Tables of the page as plain values, and the templates that write them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

_HERE = Path(__file__).parent
ASSETS = _HERE / "assets"
NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """One printed cell; `sort` orders the column by a number, None by the text."""

    text: str
    sort: float | None = None
    link: str = ""
    css: str = ""


@dataclass(frozen=True)
class Table:
    """A sortable table; a line's first cell is its head. `note` stands below it."""

    caption: str
    heads: list[str]
    lines: list[list[Cell]] = field(default_factory=list)
    note: str = ""


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


def render(template: str, **content: Any) -> str:
    """A template of this package filled in; everything that is no markup is escaped."""
    loader = jinja2.FileSystemLoader(_HERE / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["isnan"] = math.isnan
    return environment.get_template(template).render(**content)

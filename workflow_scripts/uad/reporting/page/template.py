"""The templates of the page, filled in."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from uad.reporting.elements import Marked

_TEMPLATES = Path(__file__).parent / "templates"
_MARKS = MarkdownIt("js-default")  # markup within its texts is text


def render(template: str, **content: Any) -> str:
    """A template of this package filled in; everything that is no markup is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_markup,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"isnan": math.isnan, "kind": lambda part: type(part).__name__}
    return environment.get_template(template).render(**content)


def _markup(value: Any) -> Markup:
    """A value as it stands in the page; quotation marks as `html.escape` writes them."""
    if isinstance(value, Marked):
        return Markup(_MARKS.renderInline(value))
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))

"""A figure as the page shows it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from uad.reporting import style
from uad.reporting.elements import Picture

_CSS_DPI = 150  # figures are shown at this many pixels per printed inch


def picture_of(path: Path, caption: str, folder: str) -> Picture:
    """The figure with its size; `folder` of the page, with a slash, has it as PNG and, where there is one, as SVG."""
    with Image.open(path) as image:
        width, height = (round(side * _CSS_DPI / style.DPI) for side in image.size)
    vector = path.with_suffix(".svg")
    css = "plate wide" if width > 1.2 * height else "plate"
    return Picture(
        f"{folder}{path.name}", width, height, caption,
        vector=f"{folder}{vector.name}" if vector.exists() else "", css=css,
    )  # fmt: skip

"""Anomaly maps of all arms side by side, two slices per cohort: the paper's Figure 6 (docs/paper.md#experiments)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from uad.common.errors import InputError
from uad.common.pictures import lesion_slice
from uad.reporting import style
from uad.reporting.panels import brain_box, draw_panel

_LABEL_CM = 1.1
_NOTE = "Models of fold 0. Each map runs from 0 (black) to its own maximum in the scan (yellow): shades do not compare."

_SHARE = 1 / 4  # of the largest lesion area that the second slice shows at least


def two_slices(label: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """The slice with most lesion and the one farthest from it with at least a quarter of that area; [Z, Y, X] volumes.

    Where no other slice has as much lesion, the second is the one with the largest brain outside.

    Raises:
        InputError: a volume of one slice.
    """
    if len(image) < 2:
        raise InputError("a volume of one slice is too flat for two examples")
    first = lesion_slice(label, image)
    area = (label == 1).sum(axis=(1, 2))
    others = np.flatnonzero((area > 0) & (area >= _SHARE * area[first]) & (np.arange(len(area)) != first))
    if len(others):
        return first, int(others[np.argmax(np.abs(others - first))])
    rest = np.delete(np.arange(len(image)), first)
    return first, int(rest[lesion_slice(np.zeros_like(label[rest]), image[rest])])


def residuals_figure(
    examples: Mapping[tuple[str, str], Mapping[str, Mapping[str, Any]]],
    arms: Sequence[Mapping[str, Any]],
    shown: Sequence[str],
    titles: Mapping[tuple[str, str], str],
) -> Figure:
    """Rows: two slices per (cohort, modality); columns: input, the anomaly map of each arm in `shown`, truth.

    Args:
        examples: (cohort, modality) -> arm -> example (`uad.reporting.panels`); all arms show the same subject.
        arms: all arms of the run, for their labels.
        titles: (cohort, modality) -> row label.

    Each map runs from 0 to its own maximum in the volume, because maps of different methods have no common unit.
    """
    columns = ["image", *shown, "label"]
    side = (style.DOUBLE_CM - _LABEL_CM) / len(columns)
    labels = {arm["arm"]: arm["label"] for arm in arms}
    headings = {"image": "input", "label": "truth", **{arm: labels[arm].replace(", ", ",\n") for arm in shown}}
    headroom = 1.2 + 0.09 * max(len(line) for heading in headings.values() for line in heading.split("\n"))
    with style.context():
        size = style.DOUBLE_CM, side * 1.25 * 2 * len(examples) + headroom
        figure = style.new_figure(*size, w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
        panels = figure.subplots(2 * len(examples), len(columns), squeeze=False)
        for index, (place, cohort) in enumerate(examples.items()):
            first = next(iter(cohort.values()))
            for row, z in zip(panels[2 * index :], two_slices(first["label"], first["image"]), strict=False):
                box = brain_box(first["image"][z])
                for panel, column in zip(row, columns, strict=True):
                    _draw(panel, column, cohort, first, (z, *box))
            panels[2 * index, 0].set_ylabel(titles[place], fontsize=6, y=0)  # y: between the two rows
        for panel, column in zip(panels[0], columns, strict=True):
            panel.set_title(headings[column], rotation=60, ha="left", va="bottom", fontsize=6, x=0.3)
        figure.supxlabel(_NOTE, fontsize=6)
    return figure


def _draw(
    panel: Axes, column: str, cohort: Mapping[str, Mapping[str, Any]], first: Mapping[str, Any], cut: tuple
) -> None:
    key = column if column in ("image", "label") else "map"
    example = first if key != "map" else cohort.get(column)
    arrays = None if example is None else {name: example[name][cut] for name in ("image", "map", "label")}
    top = float(example["map"].max()) if key == "map" and example is not None else None
    draw_panel(panel, key, arrays, first["image"][cut].shape, top=top, note=False)

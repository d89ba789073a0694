"""Picture of one volume per cohort: input, reconstruction, anomaly map, prediction and truth of every arm
(the paper's Figure 4).

An example file holds one test volume of one arm per cohort, keyed `<cohort>/<name>`: `image`, `reconstruction`, `map`,
`prediction`, `label` as [Z, Y, X] (images in [0, 1], prediction 0 or 1, label 0, 1 or 2 = excluded) and the
texts `subject`, `cohort`, `t_test`. A method without reconstruction leaves that array empty (size 0).
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from uad.common.errors import InputError
from uad.common.pictures import lesion_slice
from uad.reporting import style

ARRAYS = ("image", "reconstruction", "map", "prediction", "label")
TEXTS = ("subject", "cohort", "t_test")
TITLES = {"image": "input", "map": "anomaly map", "label": "truth"}

_PREDICTED = ListedColormap(["#E69F00"])
_LESION = ListedColormap(["#56B4E9", "#999999"])
_MARGIN = 2  # voxels around the brain
_PAGE_CM = 23.0  # height for the rows, unless a column would become narrower than its title
_ONE_BLOCK = 6  # arms that fit below each other on a page
_TITLE_CM = 1.9
_LABEL_CM = 1.8


def load_example(path: str | Path, cohort: str) -> dict[str, Any]:
    """Read one cohort's example into a dict of arrays and texts; raises `InputError` for a file that is no
    such thing.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            absent = [key for key in (*ARRAYS, *TEXTS) if f"{cohort}/{key}" not in archive]
            if absent:
                raise InputError(f"{path}: {cohort} lacks {', '.join(absent)}; score the arm again")
            example = {key: archive[f"{cohort}/{key}"] for key in ARRAYS}
            return {**example, **{key: str(archive[f"{cohort}/{key}"]) for key in TEXTS}}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable example file ({error}); score the arm again") from error


def slice_examples(examples: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """Cut the same slice, cropped to the brain, from every arm's example: arm -> {array name: [Y, X]}.

    Raises `InputError` where the arms show different subjects or grids.
    """
    first = next(iter(examples.values()))
    for arm, example in examples.items():
        same = example["subject"] == first["subject"] and example["image"].shape == first["image"].shape
        if not same:
            raise InputError(
                f"example of arm {arm}: subject {example['subject']} {example['image'].shape} differs from "
                f"{first['subject']} {first['image'].shape}; score all arms on one cohort"
            )
    index = lesion_slice(first["label"], first["image"])
    rows, columns = brain_box(first["image"][index])
    return {
        arm: {key: example[key][index, rows, columns] for key in ARRAYS if example[key].size}
        for arm, example in examples.items()
    }


def brain_box(image: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a slice [Y, X] that hold the brain and a small margin."""
    inside = image > 0
    if not inside.any():
        return slice(None), slice(None)
    spans = [np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (slice(max(int(span[0]) - _MARGIN, 0), int(span[-1]) + _MARGIN + 1) for span in spans)
    return rows, columns


def examples_figure(
    slices: Mapping[str, Mapping[str, np.ndarray]],
    arms: Sequence[Mapping[str, Any]],
    shown: Sequence[str],
    title: str,
) -> Figure:
    """Input and truth once, then reconstruction, anomaly map and prediction of each arm named in `shown`.

    `slices` is arm -> {array name: [Y, X]}; `arms` are all arms of the run, so that colours agree with the
    other figures. Arms are rows, in two blocks side by side where they are many. Truth and predictions are left out
    where no arm predicts: a healthy scan has no lesion and no threshold. Input and reconstruction share one grey scale
    ([0, 1]). Each map has its own scale, from 0 to its maximum, which is printed in it, because maps of different
    methods have no common unit. An arm without example stays as a row that says "missing". Raises `InputError` without
    any example.
    """
    if not slices:
        raise InputError("examples: no arm has an example file for this cohort; score at least one arm on it")
    first = next(iter(slices.values()))
    predicts = any("prediction" in arrays for arrays in slices.values())
    keys = ("reconstruction", "map", "prediction") if predicts else ("reconstruction", "map")
    blocks = 1 if len(shown) <= _ONE_BLOCK else 2
    rows = math.ceil(len(shown) / blocks)
    height, width = first["image"].shape
    side = min((style.DOUBLE_CM - _LABEL_CM * blocks) / (len(keys) * blocks), _PAGE_CM / (rows + 1) * width / height)
    side = max(side, _TITLE_CM)
    with style.context():
        size = (side * len(keys) + _LABEL_CM) * blocks, side * height / width * (rows + 1) + 2.0
        figure = style.new_figure(*size, w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)
        grid = figure.subplots(rows + 1, len(keys) * blocks, squeeze=False)
        _draw_scan(grid[0], first, ("image", "label") if predicts else ("image",), slices)
        labels, looks = {arm["arm"]: arm["label"] for arm in arms}, style.looks(arms)
        for place, arm in enumerate(shown):
            block, row = divmod(place, rows)
            panels = grid[row + 1, block * len(keys) : (block + 1) * len(keys)]
            for panel, key in zip(panels, keys, strict=True):
                draw_panel(panel, key, slices.get(arm), (height, width))
                if row == 0:
                    panel.set_title(TITLES.get(key, key))
            _name_row(panels[0], labels[arm], looks[arm].colour)
        for panel in grid[1:, (blocks - 1) * len(keys) :][len(shown) - (blocks - 1) * rows :].ravel():
            panel.remove()
        figure.suptitle(title, fontsize=8)
        figure.supxlabel("Models of fold 0. Maps start at 0 (black).", fontsize=6.5)
    return figure


def _draw_scan(
    row: Sequence[Axes],
    arrays: Mapping[str, np.ndarray],
    keys: Sequence[str],
    slices: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """What all arms share, in the first row."""
    excluded = any((arrays["label"] == 2).any() for arrays in slices.values())
    titles = {**TITLES, "label": "truth\n(grey: excluded)"} if excluded else TITLES
    for panel, key in zip(row, keys, strict=False):
        draw_panel(panel, key, arrays, arrays["image"].shape)
        panel.set_title(titles[key])
    for panel in row[len(keys) :]:
        panel.remove()


def _name_row(panel: Axes, label: str, colour: str) -> None:
    text = label.replace(", ", ",\n")
    panel.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=7)
    place: dict[str, Any] = {"transform": panel.transAxes, "clip_on": False, "solid_capstyle": "butt"}
    panel.plot([-0.045, -0.045], [0, 1], color=colour, linewidth=3, **place)


def draw_panel(
    panel: Axes,
    key: str,
    arrays: Mapping[str, np.ndarray] | None,
    shape: tuple[int, int],
    top: float | None = None,
    note: bool = True,
) -> None:
    """Draw one of `ARRAYS` of a slice; a grey field where it is missing.

    top: end of a map's scale, its own maximum if None. note: print that maximum, or why a field is grey.
    """
    panel.set(xticks=[], yticks=[], facecolor="black")
    panel.grid(False)
    panel.spines[:].set_visible(False)
    if arrays is None or key not in arrays:
        panel.set_facecolor("#eeeeee")
        panel.imshow(np.full(shape, np.nan))
        text = "missing" if arrays is None else "none"
        place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6 if note else 4}
        panel.text(0.5, 0.5, text, transform=panel.transAxes, color="#555555", **place)
    elif key == "map":
        top = float(np.nanmax(arrays[key])) if top is None else top
        panel.imshow(arrays[key], cmap="inferno", vmin=0, vmax=top or 1, interpolation="nearest")
        if not note:
            return
        maximum = panel.text(0.97, 0.03, f"max {top:.2g}", transform=panel.transAxes, ha="right", color="white")
        maximum.set(fontsize=6, path_effects=[withStroke(linewidth=1.5, foreground="black")])
    elif key in ("prediction", "label"):
        panel.imshow(arrays["image"], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        mask = np.ma.masked_equal(arrays[key], 0)
        colours, top = (_PREDICTED, 1) if key == "prediction" else (_LESION, 2)
        panel.imshow(mask, cmap=colours, vmin=1, vmax=top, interpolation="nearest", alpha=0.85)
    else:
        panel.imshow(arrays[key], cmap="gray", vmin=0, vmax=1, interpolation="nearest")

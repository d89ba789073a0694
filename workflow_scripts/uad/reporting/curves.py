"""Learning curves of the trained arms: losses per fold, and the terms of the loss that a method names.

A curve is the `log.csv` of one training: `step`, `train_loss` (or `train_loss_<part>` for methods whose parts train in
turns), `val_loss`, then one column per term.  Training columns are means since the row before; a value that does not
exist is empty.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from uad.common.errors import InputError
from uad.common.tabular import read_table
from uad.reporting import style

_TITLE = 22  # characters that fit over a panel

Curves = Mapping[str, Mapping[int, pd.DataFrame]]  # arm -> fold -> curve

TRAINING = "train_loss"
VALIDATION = "val_loss"
_PART = f"{TRAINING}_"
_COLUMNS = 4
_LOG_FROM = 5  # values that span more than this factor get a logarithmic axis
_STEPS = [1, 2, 2.5, 5, 10]
# Folds of one arm lie close together: training is a pale band below the thin lines of validation.
_PALE: dict[str, Any] = {"linewidth": 1.5, "alpha": 0.5, "zorder": 2}
_THIN: dict[str, Any] = {"linewidth": 0.7, "zorder": 3}
_BEST: dict[str, Any] = {
    "marker": "o",
    "markersize": 3.2,
    "markerfacecolor": "white",
    "markeredgewidth": 0.9,
    "linestyle": "",
    "zorder": 4,
}


@dataclass(frozen=True)
class _Panel:
    """One panel: which columns of one training it shows, `pale` one measured while training."""

    arm: str
    title: str
    curves: Mapping[int, pd.DataFrame]
    pale: str | None
    thin: str | None = None
    label: str = "loss"


def read_curve(path: str | Path) -> pd.DataFrame:
    """One learning curve, one row per validation: `step` (int, rising), the other columns float, NaN where empty.

    Raises:
        InputError: the file is missing, is no learning curve or is damaged.
    """
    remedy = "delete the model beside it and train the arm again"
    try:
        curve = read_table(path).replace("", "nan").astype(float).astype({"step": int})
    except (InputError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a readable learning curve ({error}); {remedy}") from error
    absent = [name for name in (TRAINING, VALIDATION) if not any(c.startswith(name) for c in curve.columns)]
    if absent:
        raise InputError(f"{path}: learning curve without {', '.join(absent)}; {remedy}")
    if curve.empty or not curve["step"].is_monotonic_increasing or not curve["step"].is_unique:
        raise InputError(f"{path}: learning curve without rows, or its steps do not rise; {remedy}")
    return curve


def read_curves(paths: Iterable[str | Path]) -> dict[tuple[str, str], dict[str, dict[int, pd.DataFrame]]]:
    """(stage, modality) -> arm -> fold -> curve of `.../<stage>/<arm>/<modality>/fold<k>/log.csv`.

    The stage is `models` or `pretrained`.  Raises `InputError` as `read_curve`.
    """
    curves: dict[tuple[str, str], dict[str, dict[int, pd.DataFrame]]] = {}
    for path in paths:
        stage, arm, modality, fold = Path(path).parts[-5:-1]
        curves.setdefault((stage, modality), {}).setdefault(arm, {})[int(fold.removeprefix("fold"))] = read_curve(path)
    return curves


def learning_curves_figure(
    curves: Curves,
    arms: Sequence[Mapping[str, Any]],
    folds: Sequence[int],
    title: str,
    pretraining: Curves | None = None,
) -> Figure:
    """Losses against the training step, one panel per training and per further column, one line per fold.

    Args:
        curves: the arms that were trained, each with the folds at hand (`read_curve`); an arm without any says so.
        arms: all arms of the run, so that colours agree with the other figures.
        folds: expected folds; those missing are named below the panels.
        title: what the curves have in common, e.g. "T2".
        pretraining: curves of the arms that were pre-trained, drawn before the arm's own.

    Pale: while training; thin: on healthy validation slices; circle: the fold's best checkpoint (lowest
    validation loss), which is the one tested.  Raises `InputError` where no arm was trained.
    """
    trained = [arm for arm in arms if arm["arm"] in curves]
    if not trained:
        raise InputError("learning curves: no arm was trained; leave the figure out")
    stages = [(arm, stage) for arm in trained for stage in _stages(arm, curves, pretraining or {})]
    panels = [panel for arm, (name, found) in stages for panel in _panels_of(arm["arm"], name, found)]
    looks = style.looks(arms)
    columns = min(len(panels), _COLUMNS)
    lines = math.ceil(len(panels) / columns)
    with style.context():
        figure = style.new_figure(style.width_cm(columns), 3.1 * lines + 2.2)
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            _draw(axes, panel, looks[panel.arm].colour)
        for axes in grid[max(len(panels) - columns, 0) : len(panels)]:  # the lowest of each column
            axes.set_xlabel("training step")
        for axes in grid[len(panels) :]:
            axes.remove()
        heading = f"Learning curves, {title}" + "\n" * (columns == 1) + " (losses of different arms do not compare)"
        figure.suptitle(heading, fontsize=8)
        style.legend(figure, _handles(len(folds)), columns, _missing(stages, folds))
    return figure


def _stages(
    arm: Mapping[str, Any], curves: Curves, pretraining: Curves
) -> Iterator[tuple[str, Mapping[int, pd.DataFrame]]]:
    """Title and curves of each training of one arm."""
    if arm["arm"] in pretraining:
        yield f"{arm['label']}, pre-training", pretraining[arm["arm"]]
    yield arm["label"], curves[arm["arm"]]


def _panels_of(arm: str, title: str, curves: Mapping[int, pd.DataFrame]) -> Iterator[_Panel]:
    """The panel of the losses, then one for each part that is not comparable with them and each term."""
    names = list(dict.fromkeys(column for curve in curves.values() for column in curve.columns))
    parts = [name for name in names if name.startswith(_PART)]
    terms = [name for name in names if name not in ("step", TRAINING, VALIDATION, *parts)]
    judged = TRAINING if TRAINING in names else _judged_part(parts, curves)
    of_part = f": {judged.removeprefix(_PART)}" if judged and judged in parts else ""
    yield _Panel(arm, title + of_part, curves, judged, VALIDATION)
    for name in (part for part in parts if part != judged):
        yield _Panel(arm, f"{title}: {name.removeprefix(_PART)}", curves, name)
    for name in terms:
        yield _Panel(arm, f"{title}: {name.replace('_', ' ')}", curves, name, label="part of the loss")


def _judged_part(parts: Sequence[str], curves: Mapping[int, pd.DataFrame]) -> str | None:
    """The one part that trains while the validation loss is measured: that loss judges it, so both share an axis."""
    table = pd.concat([curve[curve[VALIDATION].notna()] for curve in curves.values()]) if curves else pd.DataFrame()
    moving = [part for part in parts if part in table and table[part].notna().all()]
    return moving[0] if len(moving) == 1 else None


def _draw(axes: Axes, panel: _Panel, colour: str) -> None:
    axes.set_title(textwrap.fill(panel.title, _TITLE, break_on_hyphens=False), loc="left")
    axes.set_ylabel(panel.label)
    if single := _single_values(panel):
        axes.set(xticks=[], yticks=[])
        style.say(axes, "one value each:\n" + "\n".join(single))
        return
    drawn = []
    for curve in panel.curves.values():
        for name, line in ((panel.pale, _PALE), (panel.thin, _THIN)):
            if name in curve and curve[name].notna().any():
                values = curve.set_index("step")[name].dropna()
                dot = "." if len(values) == 1 else "none"  # a line needs two points
                axes.plot(values.index, values, color=colour, marker=dot, **line)
                drawn.append(values)
                if name == panel.thin:
                    axes.plot(values.idxmin(), values.min(), markeredgecolor=colour, **_BEST)
    if drawn:
        _scale(axes, pd.concat(drawn))
    else:
        style.say(axes, "missing")


def _single_values(panel: _Panel) -> list[str]:
    """ "fold 0: 0.0123", in words what a curve of a single point would show; empty where any line has two points."""
    words = []
    for fold, curve in panel.curves.items():
        for name in (panel.pale, panel.thin):
            values = curve[name].dropna() if name in curve else ()
            if len(values) > 1:
                return []
            words += [f"fold {fold}: {value:.3g}" for value in values]
    return words


def _scale(axes: Axes, values: pd.Series) -> None:
    """Steps from 0, unless a part began late; a logarithmic axis where positive values span a wide range."""
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=_STEPS))
    if values.index.max() >= 10_000:  # long numbers would run into each other
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step / 1000:g}k" if step else "0"))
    if values.index.min() <= values.index.max() / 4:
        axes.set_xlim(left=0)
    low, high = values.min(), values.max()
    if low > 0 and high / low > _LOG_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))


def _handles(folds: int) -> list[Line2D]:
    each = ", one line per fold" if folds > 1 else ""
    return [
        Line2D([], [], color="#444444", label=f"thin, in the arm's colour: healthy validation{each}", **_THIN),
        Line2D([], [], color="#444444", label="wide and pale: training", **_PALE),
        Line2D([], [], markeredgecolor="#444444", label="best checkpoint", **_BEST),
    ]


def _missing(
    stages: Sequence[tuple[Mapping[str, Any], tuple[str, Mapping[int, pd.DataFrame]]]], folds: Sequence[int]
) -> dict[str, list[str]]:
    """Title of a training -> which of the expected folds it lacks."""
    gaps = {}
    for _, (title, found) in stages:
        gone = [fold for fold in folds if fold not in found]
        if gone:
            gaps[title] = ["all folds" if len(gone) == len(folds) else "fold " + ", ".join(map(str, gone))]
    return gaps

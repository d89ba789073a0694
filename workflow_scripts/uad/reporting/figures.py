"""Dice against the noise level, the paper's Figure 5, made of metric rows (docs/paper.md#experiments)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from uad.common.errors import InputError
from uad.reporting import style
from uad.reporting.cells import Cell, build_cell, cell_rows, find_missing, select_rows
from uad.reporting.paper_numbers import METRICS, cohort_title

Arm = Mapping[str, Any]
Place = tuple[str, str]  # cohort, modality

_DASH = (5, 2)  # of an ensemble, in line widths
_END: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "markevery": [1]}  # the last of a line's two points
_SHIFT = 0.05  # sideways step between arms, as a share of the step between noise levels: keeps error bars apart


def t_test_figure(metrics: pd.DataFrame, arms: Sequence[Arm], places: Sequence[Place], folds: Sequence[int]) -> Figure:
    """Dice (%) against t_test (steps) per arm, one panel per (cohort, modality); dashed: the arm's ensemble, with the
    arm's marker, hollow, at its right end.

    Points are means over folds of test-volume means, bars their standard deviation (n-1). Controls and arms
    without noise level are left out. Raises `InputError` where no arm was scored at any noise level.
    """
    rows = select_rows(metrics, folds)
    t_tests = sorted({int(t_test) for t_test in rows["t_test"] if t_test.isdigit()})
    methods = [arm for arm in arms if not arm["control"]]
    shown = [arm for arm in methods if (rows.loc[rows["arm"] == arm["arm"], "t_test"] != "").any()]
    if not shown or not t_tests:
        raise InputError("metrics: no arm was scored at a noise level; leave the figure of Dice against t_test out")
    scored = set(rows["arm"])
    absent = [arm for arm in methods if arm["arm"] not in scored]
    columns = min(len(places), 2)
    lines = math.ceil(len(places) / columns)
    with style.context():
        figure = style.new_figure(style.width_cm(columns), 4.8 * lines + 1.6)
        for panel, place in zip(style.panels(figure, len(places), columns), places, strict=True):
            _draw_arms(panel, rows, shown, style.looks(arms), place, t_tests, folds)
            _label(panel, place, t_tests)
        handles = [style.handle(style.looks(arms)[arm["arm"]], arm["label"]) for arm in shown]
        handles.append(Line2D([], [], color="#444444", linestyle=(0, _DASH), **_END, label="ensemble (dashed)"))
        style.legend(figure, handles, columns, find_missing(rows, [*shown, *absent], places, folds))
    return figure


def _draw_arms(
    panel: Axes,
    rows: pd.DataFrame,
    arms: Sequence[Arm],
    looks: Mapping[str, style.Look],
    place: Place,
    t_tests: Sequence[int],
    folds: Sequence[int],
) -> None:
    step = _SHIFT * min(np.diff(t_tests), default=100)
    means = [
        (arm["arm"], t_test + (index - (len(arms) - 1) / 2) * step, mean)
        for index, arm in enumerate(arms)
        for t_test in t_tests
        for mean in _dice(rows, arm, 0, place, str(t_test), folds).fold_means.values()
    ]
    if means:
        # errorbar "sd" has n - 1, as `Cell.std`
        seaborn.lineplot(
            pd.DataFrame(means, columns=["arm", "t_test", "dice"]), x="t_test", y="dice", hue="arm", style="arm",
            palette={arm["arm"]: looks[arm["arm"]].colour for arm in arms}, dashes=False, legend=False, ax=panel,
            markers={arm["arm"]: looks[arm["arm"]].marker for arm in arms}, markeredgecolor="auto", markeredgewidth=1.0,
            errorbar="sd", err_style="bars", err_kws={"capsize": 1.6, "elinewidth": 0.7},
        )  # fmt: skip
    for index, arm in enumerate(arms):
        # Dashes of each arm begin elsewhere, so that lines at one height do not hide each other.
        start = sum(_DASH) * index / len(arms)
        ensemble = _dice(rows, arm, 1, place, "", folds)
        _draw_ensemble(panel, ensemble, looks[arm["arm"]], start, end=1 - 0.02 * (index % 2))


def _dice(rows: pd.DataFrame, arm: Arm, ens: int, place: Place, t_test: str, folds: Sequence[int]) -> Cell:
    return build_cell(cell_rows(rows, arm["arm"], ens, *place, t_test), "dice", folds)


def _draw_ensemble(panel: Axes, ensemble: Cell, look: style.Look, start: float, end: float) -> None:
    if ensemble.fold_means:
        dash = _END | {"linestyle": (start, _DASH), "linewidth": 1.0, "zorder": 1.9, "marker": look.marker}
        panel.axhline(ensemble.mean, xmax=end, color=look.colour, clip_on=False, **dash)


def _label(panel: Axes, place: Place, t_tests: Sequence[int]) -> None:
    panel.set_title(cohort_title(*place), loc="left")
    panel.set_xlabel(r"noise level $t_\mathrm{test}$ (steps)")
    panel.set_ylabel(METRICS["dice"].heading)
    panel.set_xticks(t_tests if len(t_tests) <= 9 else t_tests[::2])
    if panel.has_data():
        top = max(panel.get_ylim()[1], 1.0) * style.HEADROOM
        panel.set_ylim(-0.03 * top, top)  # markers at zero stay whole
    else:
        style.say(panel, "missing")
    panel.yaxis.set_major_locator(MaxNLocator(5))

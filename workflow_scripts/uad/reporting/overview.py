"""Dice of every arm on every cohort at a glance, with the controls (docs/methods/oracle.md) as bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from uad.reporting import style
from uad.reporting.cells import Cell, build_cell, cell_rows, check_t_test, find_missing, readings_of, select_rows
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.reporting.style import Look
from uad.reporting.volume_scores import Arm, Line, Place, ceiling_arm, label_of


def overview_figure(
    metrics: pd.DataFrame,
    arms: Sequence[Arm],
    places: Sequence[Place],
    folds: Sequence[int],
    single: str = "500",
) -> Figure:
    """Dice (%) of every arm and reading, one panel per (cohort, modality).

    Bars are means over folds, whiskers the standard deviation (n-1), dots the folds. Controls are grey bands
    (mean ± standard deviation over folds); those beyond the axis are listed below it. The axis holds the ceiling, what
    post-processing leaves of a perfect map. An arm without rows keeps its line, which says "missing".
    """
    rows = select_rows(metrics, folds)
    check_t_test(rows, single)
    methods = [arm for arm in arms if not arm["control"]]
    lines = [(arm, ens) for arm in methods for ens in sorted(readings_of(rows, arm["arm"])) or [0]]
    ceiling = ceiling_arm(arms)
    controls = [(arm, 0) for arm in arms if arm["control"] and arm is not ceiling]
    looks = style.looks(arms)
    columns = min(len(places), 4)
    height = math.ceil(len(places) / columns)
    drawn: set[str] = set()
    with style.context():
        figure = style.new_figure(style.width_cm(columns), height * (0.46 * max(len(lines), 3) + 1.5) + 1.2)
        panels = style.panels(figure, len(places), columns, sharey=True)
        for panel, place in zip(panels, places, strict=True):
            best = _cells(rows, [(ceiling, 0)], place, folds, single)[0].mean if ceiling else math.nan
            cells = _cells(rows, lines, place, folds, single)
            _draw_bars(panel, cells, [looks[arm["arm"]] for arm, _ in lines], best)
            panel.set_title(cohort_title(*place), loc="left")
            panel.set_xlabel(METRICS["dice"].heading)
            drawn |= _draw_bands(panel, controls, _cells(rows, controls, place, folds, single), looks)
        for panel in panels:
            style.name_lines(panel, [label_of(line) for line in lines])
        handles = _handles([arm for arm, _ in controls if arm["arm"] in drawn], looks, len(folds))
        handles += [style.ceiling_handle()] if ceiling else []
        style.legend(figure, handles, columns, find_missing(rows, arms, places, folds))
    return figure


def _cells(rows: pd.DataFrame, lines: Sequence[Line], place: Place, folds: Sequence[int], single: str) -> list[Cell]:
    parts = [cell_rows(rows, arm["arm"], ens, *place, single) for arm, ens in lines]
    return [build_cell(part, "dice", folds) for part in parts]


def _draw_bars(panel: Axes, cells: Sequence[Cell], looks: Sequence[Look], ceiling: float) -> None:
    """Bars of the arms, and the line of the ceiling (%, NaN without one)."""
    # Dots sit in fold order from top to bottom of the bar, so that equal folds do not hide each other.
    means = [
        (line, mean, line + height)
        for line, cell in enumerate(cells)
        for mean, height in zip(cell.fold_means.values(), _heights(len(cell.fold_means)), strict=True)
    ]
    if means:
        data = pd.DataFrame(means, columns=["line", "dice", "height"])
        colours = {line: look.colour for line, look in enumerate(looks)}
        drawn = {"data": data, "x": "dice", "hue": "line", "palette": colours, "legend": False, "ax": panel}
        # errorbar "sd" has n - 1, as `Cell.std`
        seaborn.barplot(
            **drawn, y="line", orient="y", native_scale=True, dodge=False, width=0.66, saturation=1, alpha=0.45,
            errorbar="sd", capsize=0.25, err_kws={"color": "black", "linewidth": 0.8, "zorder": 4},
        )  # fmt: skip
        for bar in panel.patches:
            bar.set(edgecolor=bar.get_facecolor(), linewidth=0.8)
        seaborn.scatterplot(**drawn, y="height", s=5, linewidth=0.3, zorder=3)
    for line, cell in enumerate(cells):
        if not cell.fold_means:
            word = "undefined" if cell.rows else "missing"
            style.say_in_line(panel, word, line)
    ends = [cell.mean + np.nan_to_num(cell.std) for cell in cells if cell.fold_means]
    top = max([1.0, *ends, *(mean for _, mean, _ in means)])
    if not math.isnan(ceiling):
        panel.axvline(ceiling, zorder=2.5, **style.CEILING)
        top = max(top, ceiling)
    panel.set_xlim(-0.02 * top, top * style.HEADROOM)  # a control at zero stays visible
    panel.xaxis.set_major_locator(MaxNLocator(4))


def _heights(count: int) -> np.ndarray:
    """Of the dots of so many folds about the middle of their bar, in bars."""
    return np.linspace(-0.2, 0.2, count) if count > 1 else np.zeros(count)


def _draw_bands(panel: Axes, controls: Sequence[Line], cells: Sequence[Cell], looks: Mapping[str, Look]) -> set[str]:
    """Draw the controls that lie within the axis, name the others below it, and return the names of the
    drawn.
    """
    limit = panel.get_xlim()[1]
    found = [(arm, cell) for (arm, _), cell in zip(controls, cells, strict=True) if cell.fold_means]
    inside = [(arm, cell) for arm, cell in found if cell.mean <= limit]
    beyond = [f"{arm['label']} {cell.mean:.3g}" for arm, cell in found if cell.mean > limit]
    for arm, cell in inside:
        look = looks[arm["arm"]]
        if not math.isnan(cell.std):
            low, high = cell.mean - cell.std, cell.mean + cell.std
            panel.axvspan(low, high, color=look.colour, alpha=0.25, linewidth=0, zorder=0)
        panel.axvline(cell.mean, color=look.colour, linestyle=look.line, linewidth=1.0, zorder=2.5)
    if beyond:
        panel.set_xlabel(METRICS["dice"].heading + "\nbeyond the axis:\n" + "\n".join(beyond))
    return {arm["arm"] for arm, _ in inside}


def _handles(controls: Sequence[Arm], looks: Mapping[str, Look], folds: int) -> list[Line2D]:
    dot = Line2D([], [], color="#444444", marker="o", markersize=2.5, linestyle="", label="one fold")
    whisker = Line2D([], [], color="black", marker="|", linewidth=0.8, label="mean ± std over folds")
    bands = [style.handle(looks[arm["arm"]], f"control: {arm['label']}") for arm in controls]
    return [whisker, dot, *bands] if folds > 1 else [dot, *bands]

"""What the long tables say about significance: p values and whatever else was computed for a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from uad.reporting.elements import NOTHING, Cell, Table, number
from uad.reporting.paper_numbers import METRICS, cohort_title

# column of the long table -> its heading; a table without the column lacks it here too
_COLUMNS = {
    "ci_low": "95 % interval",
    "against": "against",
    "p_value": "p",
    "p_holm": "p, Holm",
    "effect_size": "effect size",
}
_P_VALUES = ("p_value", "p_holm")


def comparison_tables(table: pd.DataFrame, arms: Sequence[Mapping[str, Any]]) -> list[Table]:
    """One table per cohort and metric of a long table (docs/formats.md), a line per arm and reading.

    The p of the best arm is the largest against its rivals, that of any other arm is against the best
    (`uad.reporting.tables`).
    """
    named = {arm["arm"]: arm["label"] for arm in arms if not arm["control"]}
    labels = {**named, **{f"{arm} ens": f"{label} (ENS)" for arm, label in named.items()}}
    columns = [column for column in _COLUMNS if column in table.columns]
    rows = table[table["arm"].isin(named) & table["mean"].notna()]
    result = []
    for (cohort, modality, metric), cells in rows.groupby(["cohort", "modality", "metric"], sort=False):
        heads = ["Arm", METRICS[metric].heading, *(_COLUMNS[column] for column in columns)]
        better = METRICS[metric].better
        lines = [
            _line(cell, labels, columns, METRICS[metric].decimals)
            for cell in cells.sort_values("mean", ascending=better < 0, kind="stable").to_dict("records")
        ]
        result.append(Table(heads, lines, caption=f"{cohort_title(cohort, modality)}: {METRICS[metric].title}"))
    return result


def _line(cell: Mapping[str, Any], labels: Mapping[str, str], columns: Sequence[str], decimals: int) -> list[Cell]:
    name = labels[f"{cell['arm']} ens" if cell["ens"] else cell["arm"]]
    values = [_value(column, cell, labels, decimals) for column in columns]
    mean = number(cell["mean"], decimals)
    return [Cell(name), replace(mean, text=mean.text + ("*" if cell["star"] else "")), *values]


def _value(column: str, cell: Mapping[str, Any], labels: Mapping[str, str], decimals: int) -> Cell:
    value = cell[column]
    if column == "ci_low" and not pd.isna(value):
        return Cell(f"{value:.{decimals}f} to {cell['ci_high']:.{decimals}f}", float(value))
    if column == "against":
        return Cell(NOTHING if pd.isna(value) else labels.get(value, str(value)))
    if column not in _P_VALUES or pd.isna(value):
        return number(value, 2 if column == "effect_size" else decimals)
    return Cell("< 0.0001" if value < 1e-4 else f"{value:.4f}", float(value))

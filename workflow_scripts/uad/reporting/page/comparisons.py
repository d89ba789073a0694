"""What the long tables say about significance: p values and whatever else was computed for a cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from uad.reporting.elements import NOTHING, Cell, Table, number
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.reporting.statistics import ALPHA

# column of the long table -> its heading; a table without the column lacks it here too
_COLUMNS = {
    "ci_low": "95 % interval",
    "against": "against",
    "p_value": "p",
    "p_holm": "p, Holm",
    "effect_size": "effect size",
}
_P_VALUES = ("p_value", "p_holm")


def too_few(table: pd.DataFrame) -> dict[tuple[str, str], int]:
    """(cohort, modality) -> scored volumes n, of the places where no paired test can give p < 5 %.

    A permutation test of n pairs has 2^n equally likely signs, so its two-sided p is at least 2 / 2^n.
    """
    scored = (table["n_volumes"] - table["n_undefined"]).groupby([table["cohort"], table["modality"]], sort=False)
    return {place: int(count) for place, count in scored.max().items() if smallest_p(count) > ALPHA}


def smallest_p(volumes: int) -> float:
    """The smallest p of a two-sided paired permutation test."""
    return 2.0 / 2.0**volumes


def comparison_tables(
    table: pd.DataFrame, arms: Sequence[Mapping[str, Any]], without_p: Collection[tuple[str, str]] = ()
) -> list[Table]:
    """One table per cohort and metric of a long table (docs/formats.md), a line per arm and reading.

    The p of the best arm is the largest against its rivals, that of any other arm is against the best
    (`uad.reporting.tables`). `without_p`: (cohort, modality) whose tables leave p out.
    """
    named = {arm["arm"]: arm["label"] for arm in arms if not arm["control"]}
    labels = {**named, **{f"{arm} ens": f"{label} (ENS)" for arm, label in named.items()}}
    columns = [column for column in _COLUMNS if column in table.columns]
    rows = table[table["arm"].isin(named) & table["mean"].notna()]
    result = []
    for (cohort, modality, metric), cells in rows.groupby(["cohort", "modality", "metric"], sort=False):
        shown = [column for column in columns if column not in _P_VALUES or (cohort, modality) not in without_p]
        heads = ["Arm", METRICS[metric].heading, *(_COLUMNS[column] for column in shown)]
        better = METRICS[metric].better
        lines = [
            _line(cell, labels, shown, METRICS[metric].decimals)
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

"""The scores by cohort, by site and by lesion size.

Every value is over test volumes: a volume's score is its mean over the folds that tested it, so that a volume counts
once (as in the paired tests over volumes; Tables 2 and 3 average within folds first).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from uad.reporting.cells import build_cell, cell_rows, readings_of, select_rows
from uad.reporting.elements import Cell, Table, number
from uad.reporting.lesion_classes import LESION_CLASSES, lesion_class
from uad.reporting.paper_numbers import METRICS

_PERCENT = METRICS["dice"].scale
_SPREAD = ("mean", "median", "lower quartile", "upper quartile")
_EXTRA = {
    "auroc": "AUROC",
    "dice_fpr01": "Dice at 1 % FPR",
    "dice_fpr05": "Dice at 5 % FPR",
    "dice_fpr10": "Dice at 10 % FPR",
}

Arm = Mapping[str, Any]
Place = tuple[str, str]  # cohort, modality


@dataclass(frozen=True)
class Line:
    """One arm in one reading on one place, with its test rows."""

    label: str
    control: bool
    rows: pd.DataFrame

    def scores(self, metric: str, folds: Sequence[int]) -> pd.Series:
        """subject -> mean over folds in the printed unit, NaN where undefined."""
        return build_cell(self.rows, metric, folds).scores


def lines_of(scores: pd.DataFrame, arms: Sequence[Arm], place: Place, folds: Sequence[int], single: str) -> list[Line]:
    """The arms and readings that were scored on a place, in display order."""
    rows = select_rows(scores, folds)
    lines = []
    for arm in arms:
        for ens in sorted(readings_of(rows, arm["arm"])):
            found = cell_rows(rows, arm["arm"], ens, *place, single)
            if len(found):
                lines.append(Line(arm["label"] + (" (ENS)" if ens else ""), arm["control"], found))
    return lines


def cohort_table(lines: Sequence[Line], folds: Sequence[int]) -> Table:
    """Spread of Dice over volumes, and the scores that Table 3 leaves out, all in %."""
    heads = ["Arm", "Volumes", *(f"Dice, {name}" for name in _SPREAD), "AUPRC", *_EXTRA.values()]
    table = []
    for line in lines:
        dice = line.scores("dice", folds)
        quartiles = dice.quantile([0.5, 0.25, 0.75])
        others = [_mean_percent(line, column) for column in _EXTRA]
        values = [dice.mean(), *quartiles, line.scores("auprc", folds).mean(), *others]
        table.append([_head(line), Cell(_volumes(dice), len(dice)), *map(number, values)])
    return Table(heads, table)


def site_table(lines: Sequence[Line], folds: Sequence[int], metric: str) -> Table | None:
    """A metric's mean per site; None where the cohort's table names no more than one."""
    sites = _first(lines, "site").fillna("").replace("", "unnamed")
    if sites.nunique() < 2:
        return None
    return _grouped(lines, metric, folds, sites, sorted(sites.unique()))


def lesion_table(lines: Sequence[Line], folds: Sequence[int]) -> Table:
    """Mean Dice per class of lesion volume."""
    volumes = _first(lines, "lesion_ml")
    return _grouped(lines, "dice", folds, lesion_class(volumes[volumes > 0]), LESION_CLASSES)


def _grouped(
    lines: Sequence[Line], metric: str, folds: Sequence[int], groups: pd.Series, names: Sequence[str]
) -> Table:
    """A metric's mean over the volumes of each group; `groups` maps subject -> name of its group."""
    sizes = groups.value_counts()
    heads = ["Arm", *(f"{name} (n = {sizes.get(name, 0)})" for name in names)]
    table = []
    for line in lines:
        means = line.scores(metric, folds).groupby(groups).mean()
        if means.isna().all():  # an arm without reconstruction has no SSIM
            continue
        table.append([_head(line), *(number(means.get(name), METRICS[metric].decimals) for name in names)])
    return Table(heads, table)


def _first(lines: Sequence[Line], column: str) -> pd.Series:
    """subject -> what its first row says in a column that is the same for every arm and fold."""
    return pd.concat([line.rows for line in lines]).groupby("subject")[column].first()


def _mean_percent(line: Line, column: str) -> float:
    return float(line.rows.groupby("subject")[column].mean().mean()) * _PERCENT


def _volumes(scores: pd.Series) -> str:
    undefined = int(scores.isna().sum())
    return f"{len(scores)}" + (f" ({undefined} without score)" if undefined else "")


def _head(line: Line) -> Cell:
    return Cell(line.label, css="control" if line.control else "")

"""The paper's cells beside the run's, and the order of the arms.  docs/paper.md#numbers, docs/statistics.md#bands"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import stats

from uad.reporting.paper_numbers import PAPER_MODALITY, REMOVED, band_of, cohort_title, half_band, paper_tables

REPRODUCED_TAU = 0.8  # docs/statistics.md#bands
_FEWEST = 3  # rows that have an order worth naming
_COLUMNS = [
    *("table", "row", "cohort", "modality", "metric", "arm", "state", "why"),
    *("mean", "std", "paper_mean", "paper_std", "delta", "paper_delta", "difference", "half", "miss"),
]


@dataclass(frozen=True)
class Order:
    """Kendall's tau between our order of the paper's Table 3 rows and the paper's, for one cohort and metric.

    `tau` is NaN below three rows; `verdict` is "reproduced" or "not reproduced" for BraTS21, "" elsewhere.
    """

    cohort: str
    metric: str
    rows: int
    printed: int
    tau: float
    verdict: str


def compare(tables: Mapping[int, pd.DataFrame], arms: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The paper's cells of Tables 2 to 4 with our answers, one row per cell and arm that answers it.

    `state` is "within", "outside" or "not run", with `why`; `half` is half the band, `miss` the difference in units
    of it.

    Args:
        tables: number -> long table (`uad.reporting.tables`); a table that was not made is left out.
        arms: the run's arms.
    """
    labels = {arm["arm"]: arm["label"] for arm in arms}
    answers = _answers(tables, arms)
    rows = []
    for cell in paper_tables().itertuples():
        modality = PAPER_MODALITY[cell.cohort]
        key = (int(cell.table), cell.model, int(cell.ens), cell.ssl, cell.removed, cell.cohort, modality, cell.metric)
        found = answers.get(key, [])
        why = "" if found else _why(cell, modality, tables, arms)
        half = half_band(cell.cohort, cell.metric, cell.mean, cell.std)
        for ours in found or (None,):
            difference = math.nan if ours is None else ours["mean"] - cell.mean
            rows.append({
                "table": int(cell.table), "row": _row_name(cell), "cohort": cell.cohort, "modality": modality,
                "metric": cell.metric, "arm": "" if ours is None else labels[ours["arm"]],
                "state": band_of(difference, half) or "not run",
                "why": why if ours is None else _status_text(ours),
                "mean": math.nan if ours is None else ours["mean"], "std": math.nan if ours is None else ours["std"],
                "delta": math.nan if ours is None else ours["delta"], "paper_mean": cell.mean, "paper_std": cell.std,
                "paper_delta": cell.delta if cell.table == "4" else math.nan, "difference": difference, "half": half,
                "miss": abs(difference) / half,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=_COLUMNS)


def _answers(tables: Mapping[int, pd.DataFrame], arms: Sequence[Mapping[str, Any]]) -> dict[tuple, list[dict]]:
    """Key of a paper cell -> our cells that answer it; Table 2 does not say which cDDPM it shows."""
    models = {arm["arm"]: arm["paper_model"] for arm in arms if arm["paper_model"]}
    answers: dict[tuple, list[dict]] = {}
    for table, cells in tables.items():
        for cell in cells[cells["arm"].isin(models)].to_dict("records"):
            ssl = "" if table == 2 else str(cell["ssl"])
            place = cell["cohort"], cell["modality"], cell["metric"]
            key = (table, models[cell["arm"]], cell["ens"], ssl, cell["removed"], *place)
            answers.setdefault(key, []).append(cell)
    return answers


def _row_name(cell: Any) -> str:
    """The paper's row in words, e.g. "cDDPM ENS SSL without median filter"."""
    parts = [cell.model, "ENS" if cell.ens == "1" else "", "SSL" if cell.ssl == "1" else ""]
    parts.append(f"without {REMOVED[cell.removed][1]}" if cell.removed else "")
    return " ".join(part for part in parts if part)


def _why(cell: Any, modality: str, tables: Mapping[int, pd.DataFrame], arms: Sequence[Mapping[str, Any]]) -> str:
    table = tables.get(int(cell.table))
    if table is None:
        return "the table was not asked for"
    ours = {str(int(arm["ssl"])) for arm in arms if arm["paper_model"] == cell.model}
    if not ours or (cell.ssl and cell.ssl not in ours):
        return "no arm of the run stands for this row"
    if not ((table["cohort"] == cell.cohort) & (table["modality"] == modality)).any():
        return f"{cohort_title(cell.cohort, modality)} is not in the run"
    return "the arm has no such reading"


def _status_text(ours: Mapping[str, Any]) -> str:
    if ours["status"] == "missing":
        return "the arm has no scores"
    if ours["status"] == "undefined":
        return "the arm's score is undefined"
    return f"missing folds: {ours['missing_folds']}" if ours["missing_folds"] else ""


def orders(comparison: pd.DataFrame) -> list[Order]:
    """Rank correlation of our Table 3 with the paper's, per cohort and metric, over the rows that have both."""
    result = []
    for (cohort, metric), cells in comparison[comparison["table"] == 3].groupby(["cohort", "metric"], sort=False):
        both = cells[cells["mean"].notna()]
        judged = len(both) >= _FEWEST
        tau = float(stats.kendalltau(both["mean"], both["paper_mean"]).statistic) if judged else math.nan
        verdict = ""
        if cohort == "brats21" and not math.isnan(tau):
            verdict = "reproduced" if tau >= REPRODUCED_TAU - 1e-9 else "not reproduced"
        result.append(Order(cohort, metric, len(both), cells["row"].nunique(), tau, verdict))
    return result

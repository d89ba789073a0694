"""The reproduction report of a run: every number the paper prints beside ours, misses first.

The paper's cells lead (`uad.reporting.comparison`), so nothing that was not run drops out in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from uad.reporting.comparison import REPRODUCED_TAU, Order, compare, orders
from uad.reporting.markdown import markdown_table
from uad.reporting.paper_numbers import METRICS, PAPER_MODALITY, cohort_title
from uad.reporting.protocol_text import choices_text
from uad.reporting.sheets import BAND_MARKS, number, splits_sheet

_COUNTS = {"within": "inside the band", "outside": "outside", "not run": "not run"}


@dataclass(frozen=True)
class About:
    """What the report says about the run; `config` is the resolved configuration as plain types."""

    run: str
    protocol: str
    phantom: bool
    config: Mapping[str, Any]


def reproduction_report(
    sizes: pd.DataFrame, tables: Mapping[int, pd.DataFrame], arms: Sequence[Mapping[str, Any]], about: About
) -> str:
    """The report as Markdown; `sizes` is the long form of Table 1."""
    comparison = compare(tables, arms)
    ranked = orders(comparison)
    parts = [
        f"# Reproduction report: run {about.run}, protocol {about.protocol}",
        "Reference: the tables of arXiv 2312.04215, version 1. A cell is inside the band when it lies within two of"
        " the paper's standard deviations of its value; Dice and AUPRC may always be off by 2 points on BraTS21 and by"
        " 1.5 elsewhere.",
        *([_PHANTOM] if about.phantom else []),
        "## In short\n\n" + _summary(comparison, ranked),
        *_cell_sections(comparison),
        "## Order of the arms\n\n" + _orders_text(ranked),
        "## Sizes (Table 1)\n\n" + _sizes_text(sizes, about),
        "## Volumes and folds left out\n\n" + _left_out(tables, arms),
        "## Protocol choices in force\n\n" + choices_text(about.protocol, about.config),
    ]
    return "\n\n".join(parts) + "\n"


_PHANTOM = (
    "> **These are phantoms, not the paper's data.** Their numbers cannot agree with the paper's: the comparison below"
    " shows that the report works and says nothing about the methods."
)


def _summary(comparison: pd.DataFrame, ranked: Sequence[Order]) -> str:
    lines = []
    for table, cells in comparison.groupby("table"):
        counts = cells["state"].value_counts()
        lines.append([f"Table {table}", *(str(counts.get(state, 0)) for state in _COUNTS)])
    text = markdown_table(["", *_COUNTS.values()], lines)
    return text + "\n\n" + "\n".join(f"- {line}" for line in [*_row_verdicts(comparison), *_order_verdict(ranked)])


def _row_verdicts(comparison: pd.DataFrame) -> list[str]:
    """A row of Table 3 counts as reproduced when its Dice is inside the band on all four cohorts."""
    dice = comparison[(comparison["table"] == 3) & (comparison["metric"] == "dice")]
    states = dice.groupby("row", sort=False)["state"].agg(lambda states: set(states))
    verdicts = {
        "reproduced (Dice inside the band on every cohort)": [r for r, s in states.items() if s == {"within"}],
        "missed (Dice outside the band on at least one cohort)": [r for r, s in states.items() if "outside" in s],
        "not run in full, nothing outside": [r for r, s in states.items() if "not run" in s and "outside" not in s],
    }
    return [f"Rows of Table 3 {name}: {', '.join(rows) or 'none'}." for name, rows in verdicts.items()]


def _order_verdict(ranked: Sequence[Order]) -> list[str]:
    order = next(order for order in ranked if (order.cohort, order.metric) == ("brats21", "dice"))
    if not order.verdict:
        return [f"Order of the arms on BraTS21: not judged, {order.rows} of the paper's {order.printed} rows were run."]
    comparison = "at least" if order.verdict == "reproduced" else "below"
    return [
        f"Order of the arms on BraTS21 **{order.verdict}**: Kendall's tau of Dice is {order.tau:.2f}, {comparison}"
        f" {REPRODUCED_TAU:g}, over {order.rows} of the paper's {order.printed} rows."
    ]


def _cell_sections(comparison: pd.DataFrame) -> list[str]:
    """Misses, largest first; then what was not run; then what agrees."""
    outside = comparison[comparison["state"] == "outside"].sort_values("miss", ascending=False, kind="stable")
    silent = comparison[comparison["state"] == "not run"]
    within = comparison[comparison["state"] == "within"]
    groups = silent.groupby(["table", "row", "arm", "why"], sort=False)
    lines = [[f"{table}", row, arm or "–", f"{len(cells)}", why] for (table, row, arm, why), cells in groups]
    not_run = markdown_table(["table", "row", "arm", "cells", "why"], lines, text=(1, 2, 4)) if lines else "None."
    return [
        f"## Misses: outside the band ({len(outside)})\n\n" + _cells_text(outside),
        f"## Not run ({len(silent)})\n\n" + not_run,
        f"## Inside the band ({len(within)})\n\n" + _cells_text(within),
    ]


def _cells_text(cells: pd.DataFrame) -> str:
    if cells.empty:
        return "None."
    lines = []
    for cell in cells.itertuples():
        decimals = METRICS[cell.metric].decimals
        lines.append([
            f"{cell.table}", cell.row, cell.arm, cohort_title(cell.cohort, cell.modality), METRICS[cell.metric].heading,
            number(cell.mean, cell.std, decimals, cell.delta) + ("†" if cell.why else ""),
            number(cell.paper_mean, cell.paper_std, decimals, cell.paper_delta),
            f"{BAND_MARKS[cell.state]} {cell.difference:+.{decimals}f}".replace("-", "−"),
            f"± {cell.half:.{decimals}f}",
        ])  # fmt: skip
    text = markdown_table(
        ["table", "row", "arm", "cohort", "metric", "ours", "paper", "difference", "band"], lines, text=(1, 2, 3, 4)
    )
    partial = sorted({f"{cell.arm}: {cell.why}" for cell in cells.itertuples() if cell.why})
    return text + (f"\n\n† {'; '.join(partial)}." if partial else "")


def _orders_text(ranked: Sequence[Order]) -> str:
    lines = []
    for order in ranked:
        tau = "–" if math.isnan(order.tau) else f"{order.tau:.2f}".replace("-", "−")
        where = cohort_title(order.cohort, PAPER_MODALITY[order.cohort])
        lines.append([where, METRICS[order.metric].title, tau, f"{order.rows} of {order.printed}", order.verdict])
    text = markdown_table(["cohort", "metric", "Kendall's tau", "rows", "order"], lines, text=(0, 1, 4))
    return text + f"\n\nThe order counts as reproduced when tau is at least {REPRODUCED_TAU:g} on BraTS21."


def _sizes_text(sizes: pd.DataFrame, about: About) -> str:
    sheet = splits_sheet(sizes, about.run, about.protocol, about.phantom)
    heads = [*sheet.stub, *(heading for _, heading in sheet.columns)]
    lines = [[*stub, *(f"{entry.ours} {entry.paper}".strip() for entry in entries)] for stub, entries in sheet.rows]
    return markdown_table(heads, lines, text=(0, 1)) + "\n\nThe paper's sizes are in parentheses."


def _left_out(tables: Mapping[int, pd.DataFrame], arms: Sequence[Mapping[str, Any]]) -> str:
    labels = {arm["arm"]: arm["label"] for arm in arms}
    cells = pd.concat(tables.values())
    lines = []
    missing = cells[(cells["missing_folds"] != "") & (cells["status"] == "partial")]
    for (arm, folds), part in missing.groupby(["arm", "missing_folds"], sort=False):
        lines.append(f"- {labels[arm]}: no scores of fold {folds.replace(';', ', ')} in {len(part)} cells.")
    undefined = cells[cells["metric"].isin(["dice", "auprc"]) & (cells["n_undefined"] > 0) & (cells["n_folds"] > 0)]
    for place, part in undefined.groupby(["cohort", "modality"], sort=False):
        scores = " and ".join(f"no {METRICS[metric].title}" for metric in sorted(part["metric"].unique(), reverse=True))
        count = part["n_undefined"].max()
        lines.append(f"- {cohort_title(*place)}: {count} test volumes without a lesion voxel have {scores}.")
    return "\n".join(lines) or "None: every fold of every arm that was run, every test volume."

"""The reproduction report of a run: every number the paper prints beside ours, misses first.

The paper's cells lead (`uad.reporting.comparison`), so nothing that was not run drops out in silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from uad.reporting.comparison import REPRODUCED_TAU, Order, compare, orders
from uad.reporting.elements import Bullets, Cell, Marked, Part, Table, Text
from uad.reporting.markdown import render_part
from uad.reporting.paper_numbers import METRICS, PAPER_MODALITY, cohort_title
from uad.reporting.protocol_text import choices_parts
from uad.reporting.sheets import BAND_MARKS, number, splits_sheet
from uad.reporting.tables import read_csv

_COUNTS = {"within": "inside the band", "outside": "outside", "not run": "not run"}


@dataclass(frozen=True)
class About:
    """What the report says about the run.

    Attributes:
        paper_cohorts: those whose data are the paper's; where there are none, nothing is compared.
        config: the resolved configuration as plain types.
    """

    run: str
    protocol: str
    phantom: bool
    paper_cohorts: Sequence[str]
    config: Mapping[str, Any]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> About:
        """From a job's settings, whose keys have the same names."""
        return cls(**{field.name: settings[field.name] for field in fields(cls)})


def read_tables(paths: Iterable[Path]) -> dict[int, pd.DataFrame]:
    """Number -> long table, of files `table<n>.csv`."""
    return {int(path.stem.removeprefix("table")): read_csv(path) for path in paths}


def reproduction_report(tables: Mapping[int, pd.DataFrame], arms: Sequence[Mapping[str, Any]], about: About) -> str:
    """The report as Markdown; `tables` holds the long tables by number."""
    blocks = [f"# Reproduction report: run {about.run}, protocol {about.protocol}"]
    for title, parts in reproduction_sections(tables, arms, about).items():
        blocks += [*([f"## {title}"] if title else []), *map(render_part, parts)]
    return "\n\n".join(blocks) + "\n"


def reproduction_sections(
    tables: Mapping[int, pd.DataFrame], arms: Sequence[Mapping[str, Any]], about: About
) -> dict[str, list[Part]]:
    """Title -> what stands below it, in order: first what needs no title, then the summary, then every cell."""
    sizes, tables = tables[1], {number: tables[number] for number in (2, 3, 4) if number in tables}
    if about.paper_cohorts:
        papers = {place: table[table["cohort"].isin(about.paper_cohorts)] for place, table in tables.items()}
        comparison = compare(papers, arms)
        ranked = orders(comparison)
        compared: dict[str, list[Part]] = {
            "": [Text(_REFERENCE)],
            "In short": _summary(comparison, ranked),
            **_cell_sections(comparison),
            "Order of the arms": [_orders_table(ranked)],
        }
    else:
        compared = {"": [Text(_PHANTOM if about.phantom else _OTHER_DATA, "warning")]}
    return {
        **compared,
        "Sizes (Table 1)": [_sizes_table(sizes, about)],
        "Volumes and folds left out": [_left_out(tables, arms)],
        "Protocol choices in force": choices_parts(about.protocol, about.config),
    }


_REFERENCE = (
    "Reference: the tables of arXiv 2312.04215, version 1. A cell is inside the band when it lies within two of"
    " the paper's standard deviations of its value; Dice and AUPRC may always be off by 2 points on BraTS21 and by"
    " 1.5 elsewhere."
)
_PHANTOM = Marked("**These are phantoms, not the paper's data.** Nothing is compared with the paper's numbers.")
_OTHER_DATA = Marked("**No cohort of this run has the paper's data.** Nothing is compared with the paper's numbers.")


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]], words: Sequence[int] = (0,), note: str = "") -> Table:
    return Table(heads, [list(map(Cell, row)) for row in rows], note, words)


def _summary(comparison: pd.DataFrame, ranked: Sequence[Order]) -> list[Part]:
    lines = []
    for table, cells in comparison.groupby("table"):
        counts = cells["state"].value_counts()
        lines.append([f"Table {table}", *(str(counts.get(state, 0)) for state in _COUNTS)])
    verdicts = [*_row_verdicts(comparison), _order_verdict(ranked)]
    return [_table(["table", *_COUNTS.values()], lines), Bullets(verdicts)]


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


def _order_verdict(ranked: Sequence[Order]) -> str:
    order = next(order for order in ranked if (order.cohort, order.metric) == ("brats21", "dice"))
    if not order.verdict:
        return f"Order of the arms on BraTS21: not judged, {order.rows} of the paper's {order.printed} rows were run."
    comparison = "at least" if order.verdict == "reproduced" else "below"
    return Marked(
        f"Order of the arms on BraTS21 **{order.verdict}**: Kendall's tau of Dice is {order.tau:.2f}, {comparison}"
        f" {REPRODUCED_TAU:g}, over {order.rows} of the paper's {order.printed} rows."
    )


def _cell_sections(comparison: pd.DataFrame) -> dict[str, list[Part]]:
    """Misses, largest first; then what was not run; then what agrees."""
    outside = comparison[comparison["state"] == "outside"].sort_values("miss", ascending=False, kind="stable")
    silent = comparison[comparison["state"] == "not run"]
    within = comparison[comparison["state"] == "within"]
    groups = silent.groupby(["table", "row", "arm", "why"], sort=False)
    lines = [[f"{table}", row, arm or "–", f"{len(cells)}", why] for (table, row, arm, why), cells in groups]
    not_run = _table(["table", "row", "arm", "cells", "why"], lines, (1, 2, 4)) if lines else Text("None.")
    return {
        f"Misses: outside the band ({len(outside)})": [_cells_part(outside)],
        f"Not run ({len(silent)})": [not_run],
        f"Inside the band ({len(within)})": [_cells_part(within)],
    }


def _cells_part(cells: pd.DataFrame) -> Part:
    if cells.empty:
        return Text("None.")
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
    heads = ["table", "row", "arm", "cohort", "metric", "ours", "paper", "difference", "band"]
    partial = sorted({f"{cell.arm}: {cell.why}" for cell in cells.itertuples() if cell.why})
    return _table(heads, lines, (1, 2, 3, 4), f"† {'; '.join(partial)}." if partial else "")


def _orders_table(ranked: Sequence[Order]) -> Table:
    lines = []
    for order in ranked:
        tau = "–" if math.isnan(order.tau) else f"{order.tau:.2f}".replace("-", "−")
        where = cohort_title(order.cohort, PAPER_MODALITY[order.cohort])
        lines.append([where, METRICS[order.metric].title, tau, f"{order.rows} of {order.printed}", order.verdict])
    note = f"The order counts as reproduced when tau is at least {REPRODUCED_TAU:g} on BraTS21."
    return _table(["cohort", "metric", "Kendall's tau", "rows", "order"], lines, (0, 1, 4), note)


def _sizes_table(sizes: pd.DataFrame, about: About) -> Table:
    sheet = splits_sheet(sizes, about.run, about.protocol, about.phantom)
    lines = [[f"{cell.text} {cell.below}".strip() for cell in line] for line in sheet.lines]
    return _table(sheet.heads, lines, (0, 1), "The paper's sizes are in parentheses." if about.paper_cohorts else "")


def _left_out(tables: Mapping[int, pd.DataFrame], arms: Sequence[Mapping[str, Any]]) -> Part:
    labels = {arm["arm"]: arm["label"] for arm in arms}
    cells = pd.concat(tables.values())
    lines = []
    missing = cells[(cells["missing_folds"] != "") & (cells["status"] == "partial")]
    for (arm, folds), part in missing.groupby(["arm", "missing_folds"], sort=False):
        lines.append(f"{labels[arm]}: no scores of fold {folds.replace(';', ', ')} in {len(part)} cells.")
    undefined = cells[cells["metric"].isin(["dice", "auprc"]) & (cells["n_undefined"] > 0) & (cells["n_folds"] > 0)]
    for place, part in undefined.groupby(["cohort", "modality"], sort=False):
        scores = " and ".join(f"no {METRICS[metric].title}" for metric in sorted(part["metric"].unique(), reverse=True))
        count = part["n_undefined"].max()
        lines.append(f"{cohort_title(*place)}: {count} test volumes without a lesion voxel have {scores}.")
    return Bullets(lines) if lines else Text("None: every fold of every arm that was run, every test volume.")

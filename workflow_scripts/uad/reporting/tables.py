"""The long tables behind Tables 2 to 4 of the paper (docs/paper.md#experiments, docs/formats.md).

Every value is in the paper's units (Dice, AUPRC, SSIM in %, PSNR in dB, LPIPS and l1 in 1e-3). An arm is a
mapping with the keys arm, method, paper_model (the paper's name of the row, or ""), ssl, control, label; the
order of the list is the order of the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uad.common.tabular import read_table, write_table
from uad.reporting.cells import Cell, build_cell, cell_rows, check_t_test, readings_of, select_rows
from uad.reporting.paper_numbers import METRICS, REMOVED, band_of, half_band, paper_cell, paper_readings
from uad.reporting.significance import Comparison, Unit, compare_lines, effect_size, p_value
from uad.reporting.statistics import bootstrap_interval, holm

COLUMNS = [
    *("arm", "ens", "ssl", "removed", "cohort", "modality", "metric"),
    *("mean", "std", "ci_low", "ci_high", "n_folds", "n_volumes"),
    *("p_value", "p_holm", "effect_size", "against", "star"),
    *("paper_mean", "paper_std", "difference", "band", "delta", "paper_delta"),
    *("n_undefined", "missing_folds", "status", "lpips_backbone"),
]
_TEXT = (
    *("arm", "removed", "cohort", "modality", "metric", "against", "band", "missing_folds", "status", "lpips_backbone"),
    *("kind", "split", "excluded_subjects"),  # of Table 1
    "size",  # of Table 5
)
NO_BACKBONE = "not available"
_PAPER = ("paper_mean", "paper_std", "paper_delta", "difference", "paper")

Arm = Mapping[str, Any]
Place = tuple[str, str]  # cohort, modality


def without_paper(table: pd.DataFrame, paper_cohorts: Collection[str]) -> pd.DataFrame:
    """Tables 1 to 4 without the paper's numbers where the data are not the paper's: phantoms, own scans."""
    others = ~table["cohort"].isin(paper_cohorts)
    table = table.copy()
    table.loc[others, [name for name in _PAPER if name in table]] = float("nan")
    if "band" in table:
        table.loc[others, "band"] = ""
    return table


@dataclass(frozen=True)
class Reader:
    """How metric rows are read: expected `folds`, the noise level read as `ens` 0, how l1 ratios are
    averaged, and the permutation test (`unit` as in `uad.reporting.significance`).

    `rounds` also counts the bootstrap's resamples.
    """

    folds: Sequence[int]
    single: str = "500"
    ratio: str = "mean_of_ratios"
    rounds: int = 10_000
    seed: int = 0
    unit: Unit = "volumes"


@dataclass(frozen=True)
class Line:
    """One row of a printed table: an arm, how it is read, and in Table 4 the step that is left out."""

    arm: Arm
    ens: int
    removed: str = ""


def table2(
    metrics: pd.DataFrame,
    arms: Sequence[Arm],
    healthy: Sequence[Place],
    pathological: Sequence[Place],
    reader: Reader,
) -> pd.DataFrame:
    """Reconstruction quality on healthy test volumes and l1 ratios on pathological ones, as a long table with
    `COLUMNS`.

    `healthy` and `pathological` list (cohort, modality) in display order. The LPIPS rows name the backbone or
    say "not available".
    """
    quality = ("ssim", "psnr", "lpips", "l1", "kld", "kld_entropy")
    columns = [(place, metric) for place in healthy for metric in quality]
    columns += [(place, "l1_ratio") for place in pathological]
    return _compared_table(2, metrics, arms, columns, reader)


def table3(metrics: pd.DataFrame, arms: Sequence[Arm], pathological: Sequence[Place], reader: Reader) -> pd.DataFrame:
    """Dice and AUPRC of every arm and reading on the test split of the pathological cohorts, as a long table
    with `COLUMNS`.

    `pathological` lists (cohort, modality) in display order. Raises `InputError` for metric rows that
    contradict themselves or `reader`.
    """
    columns = [(place, metric) for place in pathological for metric in ("dice", "auprc")]
    return _compared_table(3, metrics, arms, columns, reader)


def table4(metrics: pd.DataFrame, arms: Sequence[Arm], pathological: Sequence[Place], reader: Reader) -> pd.DataFrame:
    """Dice with one step of the post-processing left out, of every arm that is no control, as a long table with
    `COLUMNS`.

    An arm is read as an ensemble where it has one. `delta` is the change against the whole post-processing, over
    the folds that have both; test and effect size compare the same two, and a positive effect says that most
    volumes are better without the step. No line gets a star.
    """
    rows = select_rows(metrics, reader.folds)
    bare = {removed: select_rows(metrics, reader.folds, variant) for removed, (variant, _) in REMOVED.items()}
    shown = [arm for arm in arms if not arm["control"]]
    lines = [Line(arm, max(_readings(4, rows, arm)), removed) for arm in shown for removed in REMOVED]
    table = []
    for place in pathological:
        pairs = [_ablated_and_full(line, bare[line.removed], rows, place, reader) for line in lines]
        p_values = [_p_or_nan(cell, full, reader) for cell, full in pairs]
        corrected = holm(p_values).tolist()
        for position, (line, (cell, full)) in enumerate(zip(lines, pairs, strict=True)):
            effect = effect_size(cell.scores, full.scores)
            test = Comparison(p_values[position], corrected[position], effect)
            row = _row(4, line, place, "dice", cell, test, reader)
            against = "" if np.isnan(test.p_value) else "full post-processing"
            table.append({"line": position, **row, "delta": _delta(cell, full), "against": against})
    return _ordered(table)


def _ablated_and_full(
    line: Line, bare: pd.DataFrame, rows: pd.DataFrame, place: Place, reader: Reader
) -> tuple[Cell, Cell]:
    parts = (cell_rows(part, line.arm["arm"], line.ens, *place, reader.single) for part in (bare, rows))
    cell, full = (build_cell(part, "dice", reader.folds) for part in parts)
    return cell, full


def _p_or_nan(cell: Cell, full: Cell, reader: Reader) -> float:
    if np.isnan(cell.mean) or np.isnan(full.mean):
        return float("nan")
    return p_value(cell, full, reader.rounds, reader.seed, reader.unit)


def _delta(cell: Cell, full: Cell) -> float:
    common = [fold for fold in cell.fold_means if fold in full.fold_means]
    return float(np.mean([cell.fold_means[fold] - full.fold_means[fold] for fold in common])) if common else np.nan


def _compared_table(
    number: int,
    metrics: pd.DataFrame,
    arms: Sequence[Arm],
    columns: Sequence[tuple[Place, str]],
    reader: Reader,
) -> pd.DataFrame:
    """A table whose lines are compared with each other."""
    rows = select_rows(metrics, reader.folds)
    check_t_test(rows, reader.single)
    lines = [Line(arm, ens) for arm in arms for ens in _readings(number, rows, arm)]
    table = []
    for place, metric in columns:
        parts = [cell_rows(rows, line.arm["arm"], line.ens, *place, reader.single) for line in lines]
        cells = [build_cell(part, metric, reader.folds, reader.ratio) for part in parts]
        better = METRICS[metric].better
        tests = compare_lines([line.arm for line in lines], cells, better, reader.rounds, reader.seed, reader.unit)
        for position, line in enumerate(lines):
            test = tests[position]
            row = _row(number, line, place, metric, cells[position], test, reader)
            row["against"] = "" if test.against is None else _name(lines[test.against])
            row["lpips_backbone"] = _backbone(parts[position]) if metric == "lpips" else ""
            table.append({"line": position, **row})
    return _ordered(table)


def _ordered(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows line by line, as printed."""
    frame = pd.DataFrame(rows, columns=["line", *COLUMNS])
    return frame.sort_values("line", kind="stable")[COLUMNS].reset_index(drop=True)


def _name(line: Line) -> str:
    return f"{line.arm['arm']} ens" if line.ens else str(line.arm["arm"])


def _readings(number: int, rows: pd.DataFrame, arm: Arm) -> list[int]:
    """Readings found, and those the paper prints for this arm: one that was not run shows as missing."""
    found = readings_of(rows, arm["arm"])
    printed = paper_readings(number, arm["paper_model"], int(arm["ssl"])) if arm["paper_model"] else set()
    return sorted(found | printed) or [0]


def _row(
    number: int, line: Line, place: Place, metric: str, cell: Cell, test: Comparison, reader: Reader
) -> dict[str, Any]:
    ssl = int(line.arm["ssl"])
    paper = paper_cell(number, line.arm["paper_model"], line.ens, ssl, *place, metric, line.removed)
    low, high = _interval(cell, metric, reader)
    difference = cell.mean - paper.mean
    return {
        **{"arm": line.arm["arm"], "ens": line.ens, "ssl": ssl, "removed": line.removed},
        **{"cohort": place[0], "modality": place[1], "metric": metric},
        **{"mean": cell.mean, "std": cell.std, "ci_low": low, "ci_high": high},
        **{"n_folds": len(cell.fold_means), "n_volumes": len(cell.scores)},
        **{"p_value": test.p_value, "p_holm": test.p_holm, "effect_size": test.effect_size, "star": int(test.star)},
        **{"paper_mean": paper.mean, "paper_std": paper.std, "paper_delta": paper.delta, "difference": difference},
        "band": band_of(difference, half_band(place[0], metric, paper.mean, paper.std)),
        "n_undefined": cell.n_undefined,
        "missing_folds": ";".join(map(str, cell.missing_folds)),
        "status": cell.status(reader.folds),
        "lpips_backbone": "",
    }


def _interval(cell: Cell, metric: str, reader: Reader) -> tuple[float, float]:
    """Bootstrap interval over volumes; a ratio of means is no mean over volumes and gets none."""
    if metric == "l1_ratio" and reader.ratio == "ratio_of_means":
        return np.nan, np.nan
    return bootstrap_interval(cell.scores.sort_index().to_numpy(), reader.seed, rounds=reader.rounds)


def _backbone(rows: pd.DataFrame) -> str:
    if "lpips_backbone" not in rows.columns:
        return NO_BACKBONE
    names = sorted({name for name in rows["lpips_backbone"].dropna() if name})
    return ";".join(names) or NO_BACKBONE


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table with six significant digits and unix newlines; the same table gives the same bytes."""
    write_table(table, path, float_format="%.6g")


def read_csv(path: str | Path) -> pd.DataFrame:
    """A long table as `write_csv` wrote it; text columns hold "" where they are empty."""
    table = read_table(path)
    numbers = [column for column in table if column not in _TEXT]
    return table.assign(**{column: pd.to_numeric(table[column].replace("", None)) for column in numbers})

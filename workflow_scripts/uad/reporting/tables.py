"""The long tables behind Tables 2 and 3 of the paper (paper_spec 13 to 16, DESIGN "Formats between stages").

Every value is in the paper's units (Dice, AUPRC, SSIM in %, PSNR in dB, LPIPS and l1 in 1e-3). An arm is a
mapping with the keys arm, method, paper_model (the paper's name of the row, or ""), ssl, control, label; the
order of the list is the order of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uad.files import atomic_path
from uad.reporting.cells import Cell, build_cell, cell_rows, check_level, readings_of, select_rows
from uad.reporting.paper_numbers import METRICS, paper_cell, paper_readings
from uad.statistics import ALPHA, permutation_test

RECIPE_VERSION = 1

COLUMNS = [
    *("arm", "ens", "ssl", "cohort", "modality", "metric", "mean", "std", "n_folds", "n_volumes", "p_value", "star"),
    *("paper_mean", "paper_std", "difference", "n_undefined", "missing_folds", "status", "lpips_backbone"),
]
NO_BACKBONE = "not available"

Arm = Mapping[str, Any]
Place = tuple[str, str]  # cohort, modality


@dataclass(frozen=True)
class Reader:
    """How metric rows are read: expected `folds`, the noise level read as `ens` 0, how l1 ratios are
    averaged, and the permutation test.
    """

    folds: Sequence[int]
    single: str = "500"
    ratio: str = "mean_of_ratios"
    rounds: int = 10_000
    seed: int = 0


def table3(metrics: pd.DataFrame, arms: Sequence[Arm], pathological: Sequence[Place], reader: Reader) -> pd.DataFrame:
    """Dice and AUPRC of every arm and reading on the test split of the pathological cohorts, as a long table
    with `COLUMNS`.

    `pathological` lists (cohort, modality) in display order. Raises `InputError` for metric rows that
    contradict themselves or `reader`.
    """
    columns = [(place, metric) for place in pathological for metric in ("dice", "auprc")]
    return _long_table(3, metrics, arms, columns, reader)


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
    return _long_table(2, metrics, arms, columns, reader)


def _long_table(
    number: int,
    metrics: pd.DataFrame,
    arms: Sequence[Arm],
    columns: Sequence[tuple[Place, str]],
    reader: Reader,
) -> pd.DataFrame:
    rows = select_rows(metrics, reader.folds)
    check_level(rows, reader.single)
    lines = [(arm, ens) for arm in arms for ens in _readings(number, rows, arm)]
    table = []
    for place, metric in columns:
        parts = [cell_rows(rows, arm["arm"], ens, *place, reader.single) for arm, ens in lines]
        cells = [build_cell(part, metric, reader.folds, reader.ratio) for part in parts]
        tests = _significance([arm for arm, _ in lines], cells, METRICS[metric].better, reader)
        for line, (part, cell, test) in enumerate(zip(parts, cells, tests, strict=True)):
            row = _row(number, lines[line], place, metric, cell, test, reader)
            row["lpips_backbone"] = _backbone(part) if metric == "lpips" else ""
            table.append({"line": line, **row})
    frame = pd.DataFrame(table, columns=["line", *COLUMNS])
    return frame.sort_values("line", kind="stable")[COLUMNS].reset_index(drop=True)


def _readings(number: int, rows: pd.DataFrame, arm: Arm) -> list[int]:
    """Readings found, and those the paper prints for this arm: one that was not run shows as missing."""
    found = readings_of(rows, arm["arm"])
    printed = paper_readings(number, arm["paper_model"], int(arm["ssl"])) if arm["paper_model"] else set()
    return sorted(found | printed) or [0]


def _row(
    number: int,
    line: tuple[Arm, int],
    place: Place,
    metric: str,
    cell: Cell,
    test: tuple[float, int],
    reader: Reader,
) -> dict[str, Any]:
    arm, ens = line
    ssl = int(arm["ssl"])
    paper_mean, paper_std = paper_cell(number, arm["paper_model"], ens, ssl, *place, metric)
    return {
        **{
            "arm": arm["arm"],
            "ens": ens,
            "ssl": ssl,
            "cohort": place[0],
            "modality": place[1],
            "metric": metric,
        },
        **{
            "mean": cell.mean,
            "std": cell.std,
            "n_folds": len(cell.fold_means),
            "n_volumes": len(cell.scores),
        },
        **{"p_value": test[0], "star": test[1], "paper_mean": paper_mean, "paper_std": paper_std},
        **{"difference": cell.mean - paper_mean, "n_undefined": cell.n_undefined},
        "missing_folds": ";".join(map(str, cell.missing_folds)),
        "status": cell.status(reader.folds),
    }


def _backbone(rows: pd.DataFrame) -> str:
    if "lpips_backbone" not in rows.columns:
        return NO_BACKBONE
    names = sorted({name for name in rows["lpips_backbone"].dropna() if name})
    return ";".join(names) or NO_BACKBONE


def _significance(arms: Sequence[Arm], cells: Sequence[Cell], better: int, reader: Reader) -> list[tuple[float, int]]:
    """p value and star of every line of one column.

    The best line that is no control is tested against every line of the other arms (another reading of the
    same arm is no rival), and its p is the largest of these; any other line's p is that against the best. The
    star asks for a mean beyond all rivals and p < 0.05 against all of them (paper_spec 14).
    """
    results = [(float("nan"), 0)] * len(cells)
    lines = [i for i, cell in enumerate(cells) if not arms[i]["control"] and not np.isnan(cell.mean)]
    if not lines or better == 0:
        return results
    best = max(lines, key=lambda i: better * cells[i].mean)
    p_values = {i: _paired_p(cells[best].scores, cells[i].scores, reader) for i in lines if i != best}
    for i, p_value in p_values.items():
        results[i] = (p_value, 0)
    rivals = [i for i in p_values if arms[i]["arm"] != arms[best]["arm"]]
    if rivals:
        largest = float(np.max([p_values[i] for i in rivals]))  # NaN as soon as one rival could not be tested
        ahead = all(better * cells[best].mean > better * cells[i].mean for i in rivals)
        results[best] = (largest, int(ahead and largest < ALPHA))
    return results


def _paired_p(a: pd.Series, b: pd.Series, reader: Reader) -> float:
    """Paired permutation test over the volumes that both have a finite fold-averaged score for; NaN with
    fewer than two.
    """
    both = pd.concat([a, b], axis=1, keys=["a", "b"], join="inner").sort_index()
    both = both[np.isfinite(both).all(axis=1)]
    if len(both) < 2:
        return float("nan")
    return permutation_test(
        both["a"].to_numpy(), both["b"].to_numpy(), rounds=reader.rounds, seed=reader.seed, paired=True
    )


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table with six significant digits and unix newlines; the same table gives the same bytes."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")

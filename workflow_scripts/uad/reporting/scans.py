"""Every score of every test scan: one table for spreadsheets, and its means as plain text for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from uad.inference.outputs import COMBINATIONS, ENSEMBLE
from uad.reporting.cells import build_cell, select_rows
from uad.reporting.paper_numbers import METRICS, cohort_title

Arm = Mapping[str, Any]
Place = tuple[str, str]  # cohort, modality

SCAN_COLUMNS = (
    *("cohort", "modality", "subject", "site", "arm", "label", "control", "t_test", "fold"),
    *("dice", "auprc", "threshold", "lesion_ml", "predicted_ml", "false_positive_ml", "false_positives"),
    *("score_top1", "score_top01"),
)
_SHOWN = {"found": ("dice", "auprc"), "healthy": ("l1", "ssim", "kld")}  # metrics of the text by kind of cohort
_LABEL_WIDTH = 50  # leaves 70 of 120 characters for the numbers


def scan_table(metrics: pd.DataFrame, arms: Sequence[Arm], folds: Sequence[int], single: str) -> pd.DataFrame:
    """One row per test scan, arm, reading and fold: `SCAN_COLUMNS`, scores as fractions from 0 to 1.

    Args:
        metrics: rows of metrics files.
        arms: in display order; an arm that learns nothing has its rows of fold 0 alone.
        folds: those of the run.
        single: the noise level that the tables print.

    Raises:
        InputError: as `select_rows`.
    """
    rows = select_rows(metrics, folds)
    rows = rows[rows["t_test"].isin(_readings(single))]
    about = {arm["arm"]: (order, arm) for order, arm in enumerate(arms)}
    rows = rows.assign(
        order=[about[name][0] for name in rows["arm"]],
        label=[about[name][1]["label"] for name in rows["arm"]],
        control=[int(about[name][1]["control"]) for name in rows["arm"]],
    )
    repeated = (rows["fold"] > 0) & ~rows["arm"].map(lambda name: about[name][1]["per_fold"])
    ordered = rows[~repeated].sort_values(["cohort", "modality", "subject", "order", "t_test", "fold"])
    return ordered[list(SCAN_COLUMNS)].reset_index(drop=True)


def scores_text(
    metrics: pd.DataFrame,
    arms: Sequence[Arm],
    healthy: Iterable[Place],
    pathological: Iterable[Place],
    folds: Sequence[int],
    single: str,
) -> str:
    """Mean scores of every arm as aligned columns, one block per cohort and modality, controls last.

    Args:
        metrics: rows of the metrics files that are there, each arm that learns nothing once.
        arms: all of the run; those without rows are named at the end.
        healthy, pathological: the run's places.
        folds: those of the run.
        single: the noise level that the tables print.

    Raises:
        InputError: as `select_rows`.
    """
    rows = select_rows(metrics, folds)
    ordered = sorted(arms, key=lambda arm: bool(arm["control"]))
    blocks = []
    for kind, places in (("found", pathological), ("healthy", healthy)):
        for place in places:
            lines = [
                line
                for arm in ordered
                for reading in _readings(single)
                if (line := _line(_rows_of(rows, arm, place, reading), arm, reading, _SHOWN[kind], folds))
            ]
            if lines:
                heads = [METRICS[metric].heading for metric in _SHOWN[kind]]
                table = _aligned([["arm", "reading", "scans", "folds", *heads], *lines], text_columns=2)
                blocks.append(f"{cohort_title(*place)}\n{table}")
    absent = [arm["arm"] for arm in arms if arm["arm"] not in set(rows["arm"])]
    if absent:
        blocks.append(f"Not scored yet: {', '.join(absent)}")
    return "\n\n".join(blocks)


def _readings(single: str) -> list[str]:
    """What is shown of an arm: its only reading or one noise level, and what combines levels."""
    return ["", single, ENSEMBLE, *COMBINATIONS]


def _rows_of(rows: pd.DataFrame, arm: Arm, place: Place, reading: str) -> pd.DataFrame:
    at_place = (rows["arm"] == arm["arm"]) & (rows["cohort"] == place[0]) & (rows["modality"] == place[1])
    return rows[at_place & (rows["t_test"] == reading)]


def _line(rows: pd.DataFrame, arm: Arm, reading: str, metrics: Sequence[str], folds: Sequence[int]) -> list[str]:
    """The cells of an arm's line; empty without rows."""
    if rows.empty:
        return []
    means = [(METRICS[metric], build_cell(rows, metric, folds).mean) for metric in metrics]
    label = arm["label"] if len(arm["label"]) <= _LABEL_WIDTH else arm["label"][: _LABEL_WIDTH - 1] + "…"
    return [
        label,
        f"t = {reading}" if reading.isdigit() else {ENSEMBLE: "ensemble"}.get(reading, reading),
        str(rows["subject"].nunique()),
        str(rows["fold"].nunique()),
        *("–" if math.isnan(mean) else f"{mean:.{metric.decimals}f}" for metric, mean in means),
    ]


def _aligned(lines: Sequence[Sequence[str]], text_columns: int) -> str:
    """Lines of equally many cells; the first `text_columns` to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )

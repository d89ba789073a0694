"""The scores of every single test scan for the page: one script per place, which the page loads when it is chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from uad.reporting.page.breakdown import Line

# column of the metrics -> its heading, the factor to the printed unit, and decimals (None: four significant digits)
COLUMNS: dict[str, tuple[str, float, int | None]] = {
    "dice": ("Dice (%)", 100.0, 1),
    "auprc": ("AUPRC (%)", 100.0, 1),
    "threshold": ("Threshold", 1.0, None),
    "lesion_ml": ("Lesion (ml)", 1.0, 2),
    "predicted_ml": ("Predicted (ml)", 1.0, 2),
    "false_positive_ml": ("False positive (ml)", 1.0, 2),
    "false_positives": ("False positives (number)", 1.0, 1),
}


def scan_rows(lines: Sequence[Line]) -> dict[str, Any]:
    """The scores of a place's test scans, each the mean over the folds that tested it.

    Returns:
        columns: heading and decimals of the columns that were scored; subjects and sites: by name of the subject;
        arms: the label of each line and its values [column][subject] in the printed unit, None where undefined.
    """
    sites = pd.concat([line.rows for line in lines]).groupby("subject")["site"].first().fillna("").sort_index()
    columns = [name for name in COLUMNS if all(name in line.rows for line in lines)]
    return {
        "columns": [{"title": COLUMNS[name][0], "decimals": COLUMNS[name][2]} for name in columns],
        "subjects": sites.index.tolist(),
        "sites": sites.tolist(),
        "arms": [{"label": line.label, "values": _values(line, columns, sites.index)} for line in lines],
    }


def _values(line: Line, columns: Sequence[str], subjects: pd.Index) -> list[list[float | None]]:
    means = line.rows.groupby("subject")[columns].mean().reindex(subjects)
    return [[_printed(value, *COLUMNS[name][1:]) for value in means[name]] for name in columns]


def _printed(value: float, factor: float, decimals: int | None) -> float | None:
    if math.isnan(value):
        return None
    return float(f"{value * factor:.4g}") if decimals is None else round(value * factor, decimals)


def write_rows(lines: Sequence[Line], name: str, folder: Path) -> None:
    """Write the place's rows to `folder`/`name`.js, a script as those of the viewer's volumes."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(scan_rows(lines), separators=(",", ":"))
    (folder / f"{name}.js").write_text(f"uadbench.put({json.dumps(f'scans/{name}')},{text});\n")

"""Tables as data: a sheet, whose cells hold the paper's value below ours.

`render.py` writes a sheet as Markdown, LaTeX and HTML; the page of the run has it from `sheets.json`, since the long
tables hold six digits and a number rounded twice may end in another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from uad.common.errors import InputError
from uad.common.files import atomic_path
from uad.reporting.check import expected_random_auprc
from uad.reporting.elements import Cell, Table
from uad.reporting.paper_numbers import METRICS, REMOVED, cohort_title
from uad.reporting.split_sizes import UNUSED
from uad.reporting.statistics import ALPHA

BAND_MARKS = {"within": "≈", "outside": "≠", "": ""}
_EMPTY = {"missing": "missing", "undefined": "–"}
_TICK = {True: "✓", False: ""}
SHIFT = (
    "Healthy and pathological scans come from other scanners and preprocessing, so these numbers contain the shift"
    " between cohorts."
)

Column = tuple[str, ...]  # cohort, modality, metric, and in Table 5 the size of the lesions
Line = tuple[str, int, int, str]  # arm, ens, ssl, removed


_SHEETS = TypeAdapter(dict[str, Table])


def write_sheets(sheets: Mapping[str, Table], path: Path) -> None:
    """Write sheets by name as JSON."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(_SHEETS.dump_json(dict(sheets)))


def read_sheets(path: Path) -> dict[str, Table]:
    """What `write_sheets` wrote.  Raises `InputError` where the file is missing or damaged."""
    try:
        return _SHEETS.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        raise InputError(f"{path}: holds no tables; delete the folder {path.parent} and run again") from None


def new_sheet(
    stub: Sequence[str],
    columns: Sequence[tuple[str, str]],
    rows: Iterable[tuple[Sequence[str], Sequence[Cell]]],
    note: str,
) -> Table:
    """A printed table.

    Args:
        stub: headings of the leading text columns.
        columns: (group, heading) of the other columns; a group spans neighbours, "" is none.
        rows: (texts of the stub, the other cells).
        note: what the numbers are, one line.
    """
    heads = [*stub, *(heading for _, heading in columns)]
    groups = [(group, len(list(same))) for group, same in groupby(columns, key=lambda column: column[0])]
    lines = [[*map(Cell, texts), *cells] for texts, cells in rows]
    return Table(heads, lines, note, list(range(len(stub))), groups=groups)


def results_sheet(table: pd.DataFrame, arms: Sequence[Mapping[str, Any]], note: str) -> Table:
    """Tables 2 to 4 wide like the paper: a row per arm and reading (and step left out), a column per cohort and
    metric. Bold is the best arm of a column that is no control; Table 4 ranks nothing.
    """

    def head(cohort: str, modality: str, metric: str) -> tuple[str, str]:
        return cohort_title(cohort, modality), METRICS[metric].heading

    return _wide(table, arms, note, ["cohort", "modality", "metric"], head)


def _wide(
    table: pd.DataFrame,
    arms: Sequence[Mapping[str, Any]],
    note: str,
    keys: Sequence[str],
    head: Callable[..., tuple[str, str]],
) -> Table:
    """As `results_sheet`, with a column per combination of `keys`, which begin with cohort, modality and metric;
    `head` gives its group and heading.
    """
    controls = {arm["arm"] for arm in arms if arm["control"]}
    entries: dict[tuple[Line, Column], Cell] = {}
    for column, cells in table.groupby(list(keys), sort=False):
        best = _best(cells, METRICS[column[2]].better, controls)
        for cell in cells.itertuples():
            line = (cell.arm, cell.ens, cell.ssl, cell.removed)
            entries[line, column] = _entry(cell, METRICS[column[2]].decimals, cell.Index in best)
    columns = list(dict.fromkeys(column for _, column in entries))
    order = {arm["arm"]: place for place, arm in enumerate(arms)}
    steps = ["", *REMOVED]
    lines = sorted(
        dict.fromkeys(line for line, _ in entries), key=lambda line: (order[line[0]], line[1], steps.index(line[3]))
    )
    labels = {arm["arm"]: arm["label"] for arm in arms}
    ablation = any(removed for *_, removed in lines)
    rows = []
    for line in lines:
        stub = [labels[line[0]], _TICK[bool(line[1])], _TICK[bool(line[2])]]
        stub += [REMOVED[line[3]][1]] if ablation else []
        rows.append((stub, [entries[line, column] for column in columns]))
    heads = [head(*column) for column in columns]
    sheet = new_sheet(["Arm", "ENS", "SSL", *(["without"] if ablation else [])], heads, rows, note)
    css = ["control" if line[0] in controls else "" for line in lines]
    marked = [[replace(cells[0], css=name), *cells[1:]] for name, cells in zip(css, sheet.lines, strict=True)]
    return replace(sheet, lines=marked)


def detection_sheet(table: pd.DataFrame, arms: Sequence[Mapping[str, Any]], note: str, overlap: float) -> Table:
    """Table 5 wide: a row per arm and reading; per cohort a group of columns for scans, one for lesions of which any
    voxel is predicted, and one for lesions with at least `overlap`, by size.
    """
    lesions = table.groupby(["cohort", "modality", "size"])["n_lesions"].max()
    blocks = {"found_any": "lesions, any overlap", "found_share": f"lesions, overlap of {_percent(overlap)} or more"}

    def head(cohort: str, modality: str, metric: str, size: str) -> tuple[str, str]:
        title = cohort_title(cohort, modality)
        if metric not in blocks:
            return f"{title}: scans", METRICS[metric].heading
        return f"{title}: {blocks[metric]}", f"{size} (n = {lesions[cohort, modality, size]})"

    blank = dict.fromkeys(("delta", "paper_mean", "paper_std", "paper_delta"), math.nan)
    cells = table.assign(**blank, removed="", band="", star=0)
    return _wide(cells, arms, note, ["cohort", "modality", "metric", "size"], head)


def detection_note(
    table: pd.DataFrame, run: str, protocol: str, phantom: bool, arms: Sequence[Mapping[str, Any]], overlap: float
) -> str:
    """One line below Table 5: run, what the scores are and what they contain, counts, marks, missing folds."""
    counts = []
    for place, cells in table.groupby(["cohort", "modality"], sort=False):
        most = cells.groupby("metric")[["n_volumes", "n_healthy", "n_lesions"]].max()
        ill, healthy = most.loc["auroc_top1", ["n_volumes", "n_healthy"]]
        chance = f" (AP of chance: {_percent(expected_random_auprc(ill, ill + healthy))})" if ill and healthy else ""
        lesions = most.loc["found_any", "n_lesions"]
        counts.append(f"{cohort_title(*place)} {ill} and {healthy}{chance}, {lesions} lesions")
    return " ".join([
        _run_text(run, protocol, phantom),
        "Test scans; mean ± standard deviation (n-1) over folds.",
        "Scans: AUROC and average precision (AP) of the mean of the highest 1 % or 0.1 % of the voxels of a scan's"
        " cleaned map in the brain, scans with a lesion against the healthy test scans of the modality.",
        SHIFT,
        f"Lesions: % of which any voxel, or at least {_percent(overlap)}, is predicted at the validation threshold.",
        "False positives: predicted components that touch neither a lesion nor an excluded voxel.",
        *([f"Scans with a lesion and healthy ones: {'; '.join(counts)}."] if counts else []),
        "Bold: the best arm (controls left out).",
        *_missing_folds(table, arms),
    ])  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _best(cells: pd.DataFrame, better: int, controls: set[str]) -> set[Any]:
    if not better or cells["removed"].any():
        return set()
    ranked = better * cells.loc[~cells["arm"].isin(controls), "mean"]
    return set(ranked.index[ranked == ranked.max()])


def _entry(cell: Any, decimals: int, bold: bool) -> Cell:
    ours = _EMPTY.get(cell.status) or number(cell.mean, cell.std, decimals, cell.delta)
    paper = ""
    if not math.isnan(cell.paper_mean):
        text = number(cell.paper_mean, cell.paper_std, decimals, cell.paper_delta)
        paper = f"({BAND_MARKS[cell.band]} {text})" if cell.band else f"({text})"
    marks = ("*" if cell.star else "") + ("†" if cell.status == "partial" else "")
    return Cell(ours, bold=bold, marks=marks, below=paper, band=cell.band)


def number(mean: float, std: float, decimals: int, delta: float = math.nan) -> str:
    """A value as printed, e.g. "39.75 ± 3.37" or, with the change of an ablation, "39.75 ± 3.37, Δ −5.62"."""
    text = f"{mean:.{decimals}f}"
    text += "" if math.isnan(std) else f" ± {std:.{decimals}f}"
    if not math.isnan(delta):
        rounded = round(delta, decimals)
        text += f", Δ {rounded:+.{decimals}f}" if rounded else f", Δ {0:.{decimals}f}"
    return text.replace("-", "−").replace("inf", "∞")


def results_note(
    table: pd.DataFrame, run: str, protocol: str, phantom: bool, unit: str, arms: Sequence[Mapping[str, Any]]
) -> str:
    """One line below Tables 2 to 4: run, protocol, kind of data, marks, missing folds, undefined volumes, LPIPS
    backbone.
    """
    paper = "; the paper's value (version 1) in parentheses" if table["paper_mean"].notna().any() else ""
    parts = [
        _run_text(run, protocol, phantom),
        f"Test volumes; mean ± standard deviation (n-1) over folds{paper}.",
    ]
    if table["removed"].any():
        parts.append("Δ: change against the whole post-processing, the threshold searched again.")
    else:
        tests = {"volumes": "paired permutation tests over volumes", "folds": "unpaired permutation tests over folds"}
        parts.append("Bold: the best arm (controls left out).")
        parts.append(f"*: better than every other arm, p < {ALPHA:g} in {tests[unit]}.")
    if table["band"].any():
        floor = " (at least 2 points on BraTS21, 1.5 elsewhere)" if "dice" in set(table["metric"]) else ""
        parts.append(f"≈ / ≠: inside / outside the paper's value ± 2 of its standard deviations{floor}.")
    parts += [*_missing_folds(table, arms), *_undefined(table)]
    backbones = sorted(set(table.loc[(table["metric"] == "lpips") & (table["status"] == "ok"), "lpips_backbone"]))
    if backbones:
        parts.append(f"LPIPS backbone: {', '.join(backbones)}.")
    return " ".join(parts)


def _missing_folds(table: pd.DataFrame, arms: Sequence[Mapping[str, Any]]) -> list[str]:
    labels = {arm["arm"]: arm["label"] for arm in arms}
    partial = table[table["status"] == "partial"]
    if partial.empty:
        return []
    folds = sorted({f"{labels[row.arm]} {row.missing_folds}" for row in partial.itertuples() if row.missing_folds})
    named = f" (missing: {', '.join(folds)})" if folds else ""
    return [f"†: fewer folds than expected{named}."]


def _run_text(run: str, protocol: str, phantom: bool) -> str:
    data = "phantom data, not comparable with the paper" if phantom else "data from archives and folders"
    return f"Run {run}, protocol {protocol}, {data}."


def _undefined(table: pd.DataFrame) -> list[str]:
    """Volumes without a lesion voxel have no Dice and no AUPRC: how many, per cohort."""
    scored = table[table["metric"].isin(["dice", "auprc"]) & (table["n_undefined"] > 0) & (table["n_folds"] > 0)]
    if scored.empty:
        return []
    worst = scored.groupby(["cohort", "modality"], sort=False)["n_undefined"].max()
    counts = [f"{cohort_title(*place)} {count}" for place, count in worst.items()]
    scores = " or ".join(METRICS[metric].title for metric in sorted(scored["metric"].unique(), reverse=True))
    return [f"Volumes without {scores}, left out (no lesion voxel): {', '.join(counts)}."]


def splits_sheet(table: pd.DataFrame, run: str, protocol: str, phantom: bool) -> Table:
    """Table 1: a row per cohort, the paper's size below ours; a range where folds differ."""
    rows = []
    for (cohort, modality), scans in table.groupby(["cohort", "modality"], sort=False):
        entries = [_size(scans[scans["split"] == split]) for split in ("train", "val", "test")]
        names = {name for text in scans["excluded_subjects"] for name in text.split(";") if name}
        entries += [Cell(str(len(names))), _size(scans[scans["split"] == UNUSED])]
        rows.append(([cohort_title(cohort, modality), scans["kind"].iloc[0]], entries))
    heads = [("Scans per fold", "train"), ("Scans per fold", "validation"), ("Scans per fold", "test")]
    heads += [("", "excluded"), ("", "unused")]
    paper = " The paper's sizes in parentheses." if table["paper"].notna().any() else ""
    note = (
        f"{_run_text(run, protocol, phantom)}{paper} Excluded: in the split table, but"
        " preprocessing failed or there is no scan of this modality. Unused: preprocessed, but in no split."
    )
    return new_sheet(["Cohort", "Kind"], heads, rows, note)


def _size(scans: pd.DataFrame) -> Cell:
    low, high, paper = scans["scans"].min(), scans["scans"].max(), scans["paper"].iloc[0]
    ours = str(low) if low == high else f"{low}–{high}"
    return Cell(ours if high else "–", below="" if math.isnan(paper) else f"({paper:.0f})")

"""A long table as Markdown, LaTeX and HTML, wide like the paper: a row per arm and reading, a column per cohort and
metric, the paper's value below.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from uad.files import atomic_path
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.reporting.tables import write_csv
from uad.statistics import ALPHA

_EMPTY = {"missing": "missing", "undefined": "–"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "$": r"\$",
    "–": "--",
    "±": r"$\pm$",
}
_CSS = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}th,td{padding:.3em .7em;text-align:right}"
    "tbody th{text-align:left}thead{border-bottom:1px solid}tbody{border-bottom:1px solid}small{color:#666}"
)
_TICK = {True: "✓", False: ""}

Column = tuple[str, str, str]  # cohort, modality, metric
Line = tuple[str, int, int]  # arm, ens, ssl


@dataclass(frozen=True)
class Entry:
    """One printed cell: our value, the paper's (or ""), and its marks."""

    ours: str
    paper: str
    bold: bool
    star: bool
    partial: bool


@dataclass(frozen=True)
class Grid:
    """The wide form: line and column keys in display order, the entries at their crossings, and each arm's
    label.
    """

    lines: list[Line]
    columns: list[Column]
    entries: dict[tuple[Line, Column], Entry]
    labels: dict[str, str]


def footnote(table: pd.DataFrame, run: str, protocol: str, phantom: bool) -> str:
    """One line that says what the numbers are: run, protocol, kind of data, marks, missing folds, undefined
    volumes, LPIPS backbone.
    """
    data = "phantom data, not comparable with the paper" if phantom else "data from archives and folders"
    parts = [
        f"Run {run}, protocol {protocol}, {data}.",
        "Test volumes; mean ± standard deviation (n-1) over folds; the paper's value in parentheses.",
        "Bold: best arm that is no control.",
        f"*: better than every other arm, p < {ALPHA:g} in paired permutation tests over volumes.",
    ]
    if (table["status"] == "partial").any():
        partial = table[table["status"] == "partial"]
        folds = sorted({f"{row.arm} {row.missing_folds}" for row in partial.itertuples() if row.missing_folds})
        named = f" (missing: {', '.join(folds)})" if folds else ""
        parts.append(f"†: fewer folds than expected{named}.")
    undefined = table[table["metric"].isin(["dice", "auprc"]) & (table["n_undefined"] > 0) & (table["n_folds"] > 0)]
    if len(undefined):
        parts.append(f"Up to {undefined['n_undefined'].max()} volumes per cell have no lesion voxel and no score.")
    backbones = sorted(set(table.loc[(table["metric"] == "lpips") & (table["status"] == "ok"), "lpips_backbone"]))
    if backbones:
        parts.append(f"LPIPS backbone: {', '.join(backbones)}.")
    return " ".join(parts)


def render_markdown(table: pd.DataFrame, arms: Sequence[Mapping[str, Any]], note: str) -> str:
    """A GitHub-flavoured Markdown table of a long table, ending with the footnote line `note`."""
    grid = _grid(table, arms)
    heads = [
        f"{cohort_title(cohort, modality)}<br>{METRICS[metric].heading}" for cohort, modality, metric in grid.columns
    ]
    rows = [["Arm", "ENS", "SSL", *heads], ["---", ":-:", ":-:", *["--:"] * len(heads)]]
    for line in grid.lines:
        entries = [_markdown_entry(grid.entries[line, column]) for column in grid.columns]
        rows.append([_escape_markdown(grid.labels[line[0]]), _TICK[bool(line[1])], _TICK[bool(line[2])], *entries])
    body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{body}\n\n{_escape_markdown(note)}\n"


def render_latex(table: pd.DataFrame, arms: Sequence[Mapping[str, Any]], note: str) -> str:
    """A LaTeX tabular (packages booktabs, graphicx) of a long table at text width, with the footnote line
    `note` below.
    """
    grid = _grid(table, arms)
    lines = ["% needs \\usepackage{booktabs,graphicx}", r"\resizebox{\textwidth}{!}{%"]
    lines += [
        r"\begin{tabular}{lcc" + "r" * len(grid.columns) + "}",
        r"\toprule",
        *_latex_heads(grid.columns),
        r"\midrule",
    ]
    for line in grid.lines:
        entries = [grid.entries[line, column] for column in grid.columns]
        ticks = [r"$\surd$" if flag else "" for flag in line[1:]]
        lines.append(_latex_row([_escape_latex(grid.labels[line[0]]), *ticks, *map(_latex_entry, entries)]))
        if any(entry.paper for entry in entries):
            paper = [rf"\scriptsize {_escape_latex(entry.paper)}" if entry.paper else "" for entry in entries]
            lines.append(_latex_row([r"\scriptsize\quad paper", "", "", *paper]))
    lines += [r"\bottomrule", r"\end{tabular}}", "", rf"{{\footnotesize {_escape_latex(note)}\par}}"]
    return "\n".join(lines) + "\n"


def render_html(table: pd.DataFrame, arms: Sequence[Mapping[str, Any]], note: str) -> str:
    """A page of one table that needs no other file, ending with the footnote line `note`."""
    grid = _grid(table, arms)
    places = list(dict.fromkeys(column[:2] for column in grid.columns))
    groups = "".join(
        f'<th colspan="{sum(column[:2] == place for column in grid.columns)}">{html.escape(cohort_title(*place))}</th>'
        for place in places
    )
    heads = "".join(f"<th>{html.escape(METRICS[metric].heading)}</th>" for *_, metric in grid.columns)
    body = "\n".join(
        f"<tr><th>{html.escape(grid.labels[line[0]])}</th><td>{_TICK[bool(line[1])]}</td>"
        f"<td>{_TICK[bool(line[2])]}</td>"
        + "".join(_html_entry(grid.entries[line, column]) for column in grid.columns)
        + "</tr>"
        for line in grid.lines
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(note[:80])}</title>\n'
        f"<style>{_CSS}</style>\n<table>\n<thead><tr><th colspan=3></th>{groups}</tr>\n"
        f"<tr><th>Arm</th><th>ENS</th><th>SSL</th>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"
        f"<p>{html.escape(note)}</p>\n</html>\n"
    )


def write_table(table: pd.DataFrame, arms: Sequence[Mapping[str, Any]], note: str, stem: str | Path) -> list[Path]:
    """Write `<stem>.csv` (long), `<stem>.md`, `<stem>.tex` and `<stem>.html` (wide) and return their paths."""
    paths = [Path(f"{stem}.{suffix}") for suffix in ("csv", "md", "tex", "html")]
    write_csv(table, paths[0])
    for path, render in zip(paths[1:], (render_markdown, render_latex, render_html), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(render(table, arms, note), encoding="utf-8", newline="\n")
    return paths


def _grid(table: pd.DataFrame, arms: Sequence[Mapping[str, Any]]) -> Grid:
    controls = {arm["arm"] for arm in arms if arm["control"]}
    entries: dict[tuple[Line, Column], Entry] = {}
    for column, cells in table.groupby(["cohort", "modality", "metric"], sort=False):
        better = METRICS[column[2]].better
        ranked = better * cells.loc[~cells["arm"].isin(controls), "mean"]
        best = set(ranked.index[ranked == ranked.max()]) if better else set()
        for cell in cells.itertuples():
            entries[(cell.arm, cell.ens, cell.ssl), column] = _entry(
                cell, METRICS[column[2]].decimals, cell.Index in best
            )
    lines = list(dict.fromkeys(line for line, _ in entries))
    columns = list(dict.fromkeys(column for _, column in entries))
    order = {arm["arm"]: place for place, arm in enumerate(arms)}
    lines.sort(key=lambda line: (order[line[0]], line[1]))
    return Grid(lines, columns, entries, {arm["arm"]: arm["label"] for arm in arms})


def _entry(cell: Any, decimals: int, bold: bool) -> Entry:
    ours = _EMPTY.get(cell.status) or _number(cell.mean, cell.std, decimals)
    paper = "" if math.isnan(cell.paper_mean) else f"({_number(cell.paper_mean, cell.paper_std, decimals)})"
    return Entry(ours, paper, bold, bool(cell.star), cell.status == "partial")


def _number(mean: float, std: float, decimals: int) -> str:
    text = f"{mean:.{decimals}f}"
    return text if math.isnan(std) else f"{text} ± {std:.{decimals}f}"


def _markdown_entry(entry: Entry) -> str:
    text = f"**{entry.ours}**" if entry.bold else entry.ours
    text += ("\\*" if entry.star else "") + ("†" if entry.partial else "")
    return f"{text}<br>{entry.paper}" if entry.paper else text


def _html_entry(entry: Entry) -> str:
    text = html.escape(entry.ours)
    text = f"<b>{text}</b>" if entry.bold else text
    text += ("*" if entry.star else "") + ("†" if entry.partial else "")
    return f"<td>{text}" + (f"<br><small>{html.escape(entry.paper)}</small>" if entry.paper else "") + "</td>"


def _latex_entry(entry: Entry) -> str:
    text = _escape_latex(entry.ours)
    text = rf"\textbf{{{text}}}" if entry.bold else text
    return text + ("*" if entry.star else "") + (r"$^\dagger$" if entry.partial else "")


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_heads(columns: Sequence[Column]) -> list[str]:
    places = list(dict.fromkeys(column[:2] for column in columns))
    groups, rules, start = [], [], 4
    for place in places:
        width = sum(column[:2] == place for column in columns)
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{_escape_latex(cohort_title(*place))}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    heads = [_escape_latex(METRICS[metric].heading) for *_, metric in columns]
    return [_latex_row(["", "", "", *groups]), "".join(rules), _latex_row(["Arm", "ENS", "SSL", *heads])]


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text).replace("†", r"$^\dagger$")


def _escape_markdown(text: str) -> str:
    for character in ("|", "*", "_"):
        text = text.replace(character, "\\" + character)
    return text

"""A sheet as Markdown, LaTeX and HTML: the paper's value stands below ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from uad.common.files import atomic_path
from uad.reporting.elements import Cell, Table
from uad.reporting.markdown import escape_markdown
from uad.reporting.page.template import render
from uad.reporting.tables import write_csv

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "∞": r"$\infty$",
    "⁻": r"$^-$",
    "³": r"$^3$",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "≠": r"$\neq$",
    "Δ": r"$\Delta$",
    "✓": r"$\surd$",
    "†": r"$^\dagger$",
}
_LATEX_COLUMNS = 10


def write_table(table: pd.DataFrame, sheet: Table, stem: str | Path) -> list[Path]:
    """Write `<stem>.csv` (the long `table`), `<stem>.md`, `<stem>.tex` and `<stem>.html` (the `sheet`) and return
    their paths.
    """
    paths = [Path(f"{stem}.{suffix}") for suffix in ("csv", "md", "tex", "html")]
    write_csv(table, paths[0])
    for path, written in zip(paths[1:], (render_markdown, render_latex, render_html), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(written(sheet), encoding="utf-8", newline="\n")
    return paths


# --- Markdown -------------------------------------------------------------------------------------


def render_markdown(sheet: Table) -> str:
    """A GitHub-flavoured Markdown table, ending with the note."""
    stub = len(sheet.words)
    groups = [group for group, width in sheet.groups for _ in range(width)]
    heads = [f"{group}<br>{head}" if group else head for group, head in zip(groups, sheet.heads[stub:], strict=True)]
    rows = [[*sheet.heads[:stub], *heads], ["---", *[":-:"] * (stub - 1), *["--:"] * len(heads)]]
    for line in sheet.lines:
        rows.append([*(escape_markdown(cell.text) for cell in line[:stub]), *map(_markdown_cell, line[stub:])])
    body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{body}\n\n{escape_markdown(sheet.note)}\n"


def _markdown_cell(cell: Cell) -> str:
    text = (f"**{cell.text}**" if cell.bold else cell.text) + escape_markdown(cell.marks)
    return f"{text}<br>{cell.below}" if cell.below else text


# --- LaTeX ----------------------------------------------------------------------------------------


def render_latex(sheet: Table) -> str:
    """LaTeX tabulars (packages booktabs, graphicx), shrunk where wider than the text, with the note below.

    Whole column groups share a tabular as long as it has at most `_LATEX_COLUMNS`, so that the letters stay readable.
    """
    parts = ["% needs \\usepackage{booktabs,graphicx}", *(_latex_tabular(part) for part in _latex_parts(sheet))]
    parts.append(rf"\noindent{{\footnotesize {_escape_latex(sheet.note)}\par}}")
    return "\n".join(parts) + "\n"


def _latex_parts(sheet: Table) -> Iterator[Table]:
    """The sheet cut between column groups into sheets that are narrow enough to print."""
    groups: list[tuple[str, int]] = []
    start = len(sheet.words)
    for group in sheet.groups:
        width = sum(width for _, width in groups)
        if groups and width + group[1] > _LATEX_COLUMNS:
            yield _columns(sheet, groups, start)
            groups, start = [], start + width
        groups.append(group)
    yield _columns(sheet, groups, start)


def _columns(sheet: Table, groups: list[tuple[str, int]], start: int) -> Table:
    """The sheet with its leading columns and these groups, whose first column is `start`."""
    kept = [*sheet.words, *range(start, start + sum(width for _, width in groups))]
    heads, *lines = [[row[column] for column in kept] for row in (sheet.heads, *sheet.lines)]
    return replace(sheet, heads=heads, lines=lines, groups=groups)


def _latex_tabular(sheet: Table) -> str:
    stub = len(sheet.words)
    lines = [
        r"\sbox0{%",
        r"\begin{tabular}{l" + "c" * (stub - 1) + "r" * (len(sheet.heads) - stub) + "}",
        r"\toprule",
        *_latex_heads(sheet),
        r"\midrule",
    ]
    for line in sheet.lines:
        lines.append(_latex_row(map(_latex_cell, line)))
        if any(cell.below for cell in line):
            paper = [rf"\scriptsize {_escape_latex(cell.below)}" if cell.below else "" for cell in line[1:]]
            lines.append(_latex_row([r"\scriptsize\quad paper", *paper]))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    shrunk = r"\ifdim\wd0>\textwidth\resizebox{\textwidth}{!}{\usebox0}\else\usebox0\fi"
    return "\n".join([*lines, rf"\par\noindent{shrunk}\par\medskip"])


def _latex_cell(cell: Cell) -> str:
    text = _escape_latex(cell.text)
    return (rf"\textbf{{{text}}}" if cell.bold else text) + _escape_latex(cell.marks)


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_heads(sheet: Table) -> list[str]:
    stub = len(sheet.words)
    groups, rules, start = [""] * stub, [], stub + 1
    for group, width in sheet.groups:
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{_escape_latex(group)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" if group else "")
        start += width
    return [_latex_row(groups), "".join(rules), _latex_row(map(_escape_latex, sheet.heads))]


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


# --- HTML -----------------------------------------------------------------------------------------


def render_html(sheet: Table) -> str:
    """A page of one table that needs no other file, ending with the note."""
    return render("sheet.html.j2", table=sheet)

"""A sheet as Markdown, LaTeX and HTML: the paper's value stands below ours."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pandas as pd

from uad.common.files import atomic_path
from uad.reporting.markdown import escape_markdown
from uad.reporting.sheets import Entry, Sheet
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
_CSS = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
    "th,td{padding:.3em .7em;text-align:right;vertical-align:top}small{white-space:nowrap}"
    "tbody th,td.stub{text-align:left}thead th{text-align:right}thead th.stub{text-align:left}"
    "thead tr:first-child th{text-align:center}"
    "thead{border-bottom:1px solid}tbody{border-bottom:1px solid}tbody tr:hover{background:#f4f4f4}small{color:#666}"
    "small.within{color:#117733}small.outside{color:#882255}p{max-width:60em}"
)
_LATEX_COLUMNS = 10
_BAND_TITLES = {"within": "inside the acceptance band", "outside": "outside the acceptance band"}


def write_table(table: pd.DataFrame, sheet: Sheet, stem: str | Path) -> list[Path]:
    """Write `<stem>.csv` (the long `table`), `<stem>.md`, `<stem>.tex` and `<stem>.html` (the `sheet`) and return
    their paths.
    """
    paths = [Path(f"{stem}.{suffix}") for suffix in ("csv", "md", "tex", "html")]
    write_csv(table, paths[0])
    for path, render in zip(paths[1:], (render_markdown, render_latex, render_html), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(render(sheet), encoding="utf-8", newline="\n")
    return paths


# --- Markdown -------------------------------------------------------------------------------------


def render_markdown(sheet: Sheet) -> str:
    """A GitHub-flavoured Markdown table, ending with the note."""
    heads = [f"{group}<br>{heading}" if group else heading for group, heading in sheet.columns]
    rows = [[*sheet.stub, *heads], ["---", *[":-:"] * (len(sheet.stub) - 1), *["--:"] * len(heads)]]
    for stub, entries in sheet.rows:
        rows.append([*map(escape_markdown, stub), *map(_markdown_entry, entries)])
    body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{body}\n\n{escape_markdown(sheet.note)}\n"


def _markdown_entry(entry: Entry) -> str:
    text = f"**{entry.ours}**" if entry.bold else entry.ours
    text += ("\\*" if entry.star else "") + ("†" if entry.partial else "")
    return f"{text}<br>{entry.paper}" if entry.paper else text


# --- LaTeX ----------------------------------------------------------------------------------------


def render_latex(sheet: Sheet) -> str:
    """LaTeX tabulars (packages booktabs, graphicx), shrunk where wider than the text, with the note below.

    Whole column groups share a tabular as long as it has at most `_LATEX_COLUMNS`, so that the letters stay readable.
    """
    parts = ["% needs \\usepackage{booktabs,graphicx}", *(_latex_tabular(part) for part in _latex_parts(sheet))]
    parts.append(rf"\noindent{{\footnotesize {_escape_latex(sheet.note)}\par}}")
    return "\n".join(parts) + "\n"


def _latex_parts(sheet: Sheet) -> Iterator[Sheet]:
    """The sheet cut between column groups into sheets that are narrow enough to print."""
    start = stop = 0
    for _, width in _groups(sheet):
        if stop > start and stop + width - start > _LATEX_COLUMNS:
            yield _columns(sheet, start, stop)
            start = stop
        stop += width
    yield _columns(sheet, start, stop)


def _columns(sheet: Sheet, start: int, stop: int) -> Sheet:
    rows = [(stub, entries[start:stop]) for stub, entries in sheet.rows]
    return replace(sheet, columns=sheet.columns[start:stop], rows=rows)


def _latex_tabular(sheet: Sheet) -> str:
    stub = len(sheet.stub)
    lines = [
        r"\sbox0{%",
        r"\begin{tabular}{l" + "c" * (stub - 1) + "r" * len(sheet.columns) + "}",
        r"\toprule",
        *_latex_heads(sheet),
        r"\midrule",
    ]
    for texts, entries in sheet.rows:
        lines.append(_latex_row([*map(_escape_latex, texts), *map(_latex_entry, entries)]))
        if any(entry.paper for entry in entries):
            paper = [rf"\scriptsize {_escape_latex(entry.paper)}" if entry.paper else "" for entry in entries]
            lines.append(_latex_row([r"\scriptsize\quad paper", *[""] * (stub - 1), *paper]))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    shrunk = r"\ifdim\wd0>\textwidth\resizebox{\textwidth}{!}{\usebox0}\else\usebox0\fi"
    return "\n".join([*lines, rf"\par\noindent{shrunk}\par\medskip"])


def _latex_entry(entry: Entry) -> str:
    text = _escape_latex(entry.ours)
    text = rf"\textbf{{{text}}}" if entry.bold else text
    return text + ("*" if entry.star else "") + (r"$^\dagger$" if entry.partial else "")


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_heads(sheet: Sheet) -> list[str]:
    groups, rules, start = [], [], len(sheet.stub) + 1
    for group, width in _groups(sheet):
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{_escape_latex(group)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" if group else "")
        start += width
    heads = [_escape_latex(heading) for _, heading in sheet.columns]
    return [_latex_row([*[""] * len(sheet.stub), *groups]), "".join(rules), _latex_row([*sheet.stub, *heads])]


def _groups(sheet: Sheet) -> list[tuple[str, int]]:
    return [(group, len(list(columns))) for group, columns in groupby(sheet.columns, key=lambda column: column[0])]


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


# --- HTML -----------------------------------------------------------------------------------------


def render_html(sheet: Sheet) -> str:
    """A page of one table that needs no other file, ending with the note."""
    groups = "".join(f'<th colspan="{width}">{html.escape(group)}</th>' for group, width in _groups(sheet))
    heads = "".join(f'<th class="stub">{html.escape(heading)}</th>' for heading in sheet.stub)
    heads += "".join(f"<th>{html.escape(heading)}</th>" for _, heading in sheet.columns)
    body = "\n".join(
        f"<tr><th>{html.escape(stub[0])}</th>"
        + "".join(f'<td class="stub">{html.escape(text)}</td>' for text in stub[1:])
        + "".join(map(_html_entry, entries))
        + "</tr>"
        for stub, entries in sheet.rows
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(sheet.note[:80])}</title>\n'
        f'<style>{_CSS}</style>\n<table>\n<thead><tr><th colspan="{len(sheet.stub)}"></th>{groups}</tr>\n'
        f"<tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"
        f"<p>{html.escape(sheet.note)}</p>\n</html>\n"
    )


def _html_entry(entry: Entry) -> str:
    text = html.escape(entry.ours)
    text = f"<b>{text}</b>" if entry.bold else text
    text += ("*" if entry.star else "") + ("†" if entry.partial else "")
    if entry.paper:
        band = f' class="{entry.band}" title="{_BAND_TITLES[entry.band]}"' if entry.band else ""
        text += f"<br><small{band}>{html.escape(entry.paper)}</small>"
    return f"<td>{text}</td>"

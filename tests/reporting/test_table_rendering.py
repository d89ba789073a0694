"""Printed tables: made-up rows and the paper's own numbers as Markdown, LaTeX and HTML."""

from __future__ import annotations

import shutil
import subprocess

import pandas as pd
import pytest
from made_up_tables import (
    BRATS,
    PAPER_ARMS,
    ablation_rows,
    arm,
    healthy,
    markdown,
    papers_own_table,
    splits_and_held,
    volumes,
)

from uad.reporting.elements import Cell
from uad.reporting.paper_numbers import paper_tables
from uad.reporting.render import render_html, render_latex, render_markdown, write_table
from uad.reporting.sheets import new_sheet, results_note, results_sheet, splits_sheet
from uad.reporting.split_sizes import table1
from uad.reporting.tables import Reader, read_csv, table2, table3, table4


def test_table4_says_which_step_and_how_much():
    arms = [arm("ddpm", "DDPM")]
    table = table4(ablation_rows(), arms, BRATS, Reader(folds=[0, 1]))
    note = results_note(table, "r", "clean", False, "volumes", arms)
    assert "the threshold searched again" in note and "Bold" not in note
    text = markdown(table, arms, note)
    assert "| Arm | ENS | SSL | without | BraTS21 (T2)<br>Dice (%) |" in text
    assert "| ddpm | ✓ |  | median filter | 37.50 ± 7.07, Δ −10.00<br>(≈ 36.56 ± 1.86, Δ −7.94) |" in text
    assert "**" not in text
    latex = render_latex(results_sheet(table, arms, note))
    assert r"37.50 $\pm$ 7.07, $\Delta$ $-$10.00" in latex


def test_table1_shows_ranges_and_names_nothing_twice(tmp_path):
    table = table1(*splits_and_held(), [("ixi", "t2")], [("wmh", "t1")], [0, 1])
    sheet = splits_sheet(table, "demo", "clean", phantom=True)
    text = render_markdown(sheet)
    assert "| Cohort | Kind | Scans per fold<br>train |" in text
    assert "| IXI (T2) | healthy | 1–2<br>(358) | 1<br>(44) | 1<br>(158) | 1 | 0–1 |" in text
    assert "| WMH (T1) | pathological | – | 2<br>(15) | 3<br>(45) | 0 | – |" in text
    assert "phantom data" in text
    heads = [line for line in render_latex(sheet).splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in heads[1:]} == {6}
    write_table(table, sheet, tmp_path / "table1")
    assert list(read_csv(tmp_path / "table1.csv")["excluded_subjects"].unique()) == ["b", ""]


def test_markdown_of_the_papers_numbers_is_its_table3():
    cells = body_of(markdown(papers_own_table(3), PAPER_ARMS))
    assert cells[0][:5] == ["Arm", "ENS", "SSL", "BraTS21 (T2)<br>Dice (%)", "BraTS21 (T2)<br>AUPRC (%)"]
    assert cells[0][-1] == "WMH (T1)<br>AUPRC (%)"
    body = cells[2:]
    assert [row[0] for row in body] == [
        *("Thresh", "AnoGAN", "VAE", "SVAE", "AE", "DAE", "DDPM", "DDPM", "pDDPM", "pDDPM"),
        *("cDDPM", "cDDPM\\_SSL", "cDDPM\\_SSL"),
    ]
    assert body[0][1:] == ["", "", "19.69", "20.27", "6.21", "4.23", "4.41", "1.71", "9.38", "4.72"]
    assert body[-1][1:] == [
        *("✓", "✓", "**53.37 ± 1.80**\\*", "**58.84 ± 1.76**\\*", "**11.51 ± 1.24**", "**11.13 ± 1.26**"),
        *("**19.99 ± 1.55**\\*", "**22.21 ± 1.47**\\*", "9.88 ± 1.22", "**9.33 ± 1.07**"),
    ]
    assert body[6][1:4] == ["", "", "44.25 ± 1.49"]
    assert body[6][9] == "**10.03 ± 1.06**"  # the best Dice on WMH is that of DDPM without ensembling
    assert sum("**" in cell for row in body for cell in row) == 8


def test_markdown_of_the_papers_numbers_is_its_table2():
    """docs/paper.md#numbers: best in bold, asterisks at DAE (SSIM, PSNR, l1) and pDDPM (LPIPS)."""
    cells = body_of(markdown(papers_own_table(2), PAPER_ARMS))
    heads = ["SSIM (%)", "PSNR (dB)", "LPIPS (10⁻³)", "l1 error (10⁻³)"]
    assert [head.split("<br>")[1] for head in cells[0][3:]] == [*heads, *["l1 ratio"] * 4]
    body = {row[0]: row[3:] for row in cells[2:]}
    assert list(body) == ["VAE", "SVAE", "AE", "DAE", "DDPM", "pDDPM", "cDDPM"]
    assert body["DAE"] == [
        *("**98.69 ± 0.15**\\*", "**36.69 ± 0.38**\\*", "0.14 ± 0.01", "**8.14 ± 0.17**\\*"),
        *("7.17 ± 0.63", "2.69 ± 0.15", "4.51 ± 0.15", "2.99 ± 0.14"),
    ]
    assert body["pDDPM"][2] == "**0.09 ± 0.04**\\*"
    assert body["DDPM"][7] == "**3.16 ± 0.15**"
    assert body["cDDPM"][4:7] == ["**7.43 ± 0.17**", "**4.49 ± 0.18**", "**5.69 ± 0.27**"]
    assert body["SVAE"] == [
        *("77.87 ± 0.15", "23.94 ± 0.06", "3.31 ± 0.24", "29.08 ± 0.16"),
        *("3.90 ± 0.05", "3.13 ± 0.05", "3.38 ± 0.11", "2.07 ± 0.01"),
    ]
    assert sum("**" in cell for row in body.values() for cell in row) == 8
    assert [row[0] for row in cells[2:] if row[1] == "✓"] == ["DDPM", "pDDPM", "cDDPM"]


def test_markdown_of_the_papers_numbers_is_its_table4():
    cells = body_of(markdown(papers_own_table(4), PAPER_ARMS))
    body = cells[2:]
    steps = ["component filter", "median filter", "brain erosion"]
    assert [(row[0], row[3]) for row in body] == [
        (model, step) for model in ("DAE", "DDPM", "pDDPM", "cDDPM\\_SSL") for step in steps
    ]
    assert body[1][4:] == [
        *("39.75 ± 3.37, Δ −5.62", "3.94 ± 0.58, Δ +0.06", "9.21 ± 0.32, Δ +0.68", "7.01 ± 0.68, Δ −0.30"),
    ]
    assert body[9][1:] == [
        *("✓", "✓", "component filter", "53.43 ± 1.49, Δ +0.06", "10.70 ± 1.50, Δ −0.81"),
        *("19.92 ± 1.45, Δ −0.07", "9.86 ± 1.18, Δ −0.02"),
    ]
    paper = paper_tables()[paper_tables()["table"] == "4"]
    shown = sorted(cell.split(" ±")[0] for row in body for cell in row[4:])
    assert shown == sorted(f"{value:.2f}" for value in paper["mean"])
    assert "**" not in str(body)


def test_latex_of_the_papers_numbers():
    text = render_latex(results_sheet(papers_own_table(3), PAPER_ARMS, "run a_b, 5 %"))
    for part in (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\multicolumn{2}{c}{MSLUB (T2)}",
        r"\cmidrule(lr){10-11}",
    ):
        assert part in text
    assert r"cDDPM\_SSL & $\surd$ & $\surd$ & \textbf{53.37 $\pm$ 1.80}* &" in text
    assert r"run a\_b, 5 \%" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in rows[1:]} == {10}  # 11 columns in heads and body


PRINTED = {
    "3": results_sheet(papers_own_table(3), PAPER_ARMS, "p < 0.05, {run} a_b^2 ~ 5 % & #1: ±, ≈, ≠, Δ, †, –, |x|, \\"),
    "2": results_sheet(papers_own_table(2), PAPER_ARMS, "note"),
    "4": results_sheet(papers_own_table(4), PAPER_ARMS, "note"),
}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("number", PRINTED)
def test_latex_compiles_within_the_text_width(number, tmp_path):
    (tmp_path / "table.tex").write_text(render_latex(PRINTED[number]), encoding="utf-8")
    preamble = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "page.tex").write_text(preamble + r"\input{table}\end{document}", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


def test_latex_of_a_wide_table_is_cut_between_column_groups():
    groups = [("a", 6), ("b", 6), ("c", 1), ("d", 3), ("e", 12)]
    columns = [(group, f"{group}{place}") for group, width in groups for place in range(width)]
    text = render_latex(new_sheet(["Arm"], columns, [(["x"], [Cell(head) for _, head in columns])], "note"))
    rows = [line for line in text.splitlines() if line.startswith("x &")]
    assert [row.count("&") for row in rows] == [6, 10, 12]
    assert " & ".join(head for _, head in columns) in " & ".join(row[4:-3] for row in rows)
    assert text.count(r"\footnotesize") == 1  # the note


def test_rendering_marks_missing_partial_and_the_papers_value():
    frames = [
        volumes("ae", 0, [0.2, 0.4]),
        volumes("oracle", 0, [1.0, 1.0]),
        volumes("oracle", 1, [1.0, 1.0]),
    ]
    arms = [arm("ae", "AE"), arm("dae", "DAE"), arm("oracle", control=True)]
    table = table3(pd.concat(frames), arms, BRATS, Reader(folds=[0, 1]))
    note = results_note(table, "demo", "clean", True, "volumes", arms)
    text = markdown(table, arms, note)
    assert "| ae |  |  | **30.00**†<br>(≈ 31.51 ± 1.94) |" in text
    assert "| dae |  |  | missing<br>(45.37 ± 4.40) |" in text
    assert "| oracle |  |  | 100.00 ± 0.00 |" in text
    assert "Run demo, protocol clean, phantom data" in note
    assert "fewer folds than expected (missing: ae 1)" in note
    assert "≈ / ≠: inside / outside" in note
    latex = render_latex(results_sheet(table, arms, note))
    assert r"\textbf{30.00}$^\dagger$" in latex
    assert r"\scriptsize\quad paper &  &  & \scriptsize ($\approx$ 31.51 $\pm$ 1.94)" in latex
    page = render_html(results_sheet(table, arms, note))
    assert '<small class="within" title="inside the acceptance band">(≈ 31.51 ± 1.94)</small>' in page
    assert "<b>30.00</b>†<br>" in page and "missing<br><small>(45.37 ± 4.40)</small>" in page


def test_note_names_backbone_and_undefined_volumes_and_the_test():
    arms = [arm("ae")]
    table = table2(healthy("ae"), arms, [("ixi", "t2")], [], Reader(folds=[0]))
    note = results_note(table, "r", "clean", False, "volumes", arms)
    assert "LPIPS backbone: not available." in note and "data from archives and folders" in note
    assert "paired permutation tests over volumes" in note
    frames = [volumes("ae", 0, [0.2, float("nan")]), volumes("ae", 0, [0.2, 0.3], cohort="mslub")]
    lesionless = table3(pd.concat(frames), arms, [*BRATS, ("mslub", "t2")], Reader(folds=[0]))
    note = results_note(lesionless, "r", "paper", False, "folds", arms)
    assert "Volumes without Dice or AUPRC, left out (no lesion voxel): BraTS21 (T2) 1." in note
    assert "unpaired permutation tests over folds" in note


def test_write_table_makes_every_form(tmp_path):
    table = papers_own_table(3)
    sheet = results_sheet(table, PAPER_ARMS, "note")
    paths = write_table(table, sheet, tmp_path / "table3")
    assert [path.name for path in paths] == ["table3.csv", "table3.md", "table3.tex", "table3.html"]
    assert paths[1].read_text(encoding="utf-8") == render_markdown(sheet)
    assert len(pd.read_csv(paths[0])) == 104


def body_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

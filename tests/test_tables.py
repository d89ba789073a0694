"""Tables: every expected number is worked out by hand here or printed in the paper."""

from __future__ import annotations

import math
from decimal import Decimal

import pandas as pd
import pytest

from uad.errors import InputError
from uad.reporting.paper_numbers import paper_cell, paper_tables
from uad.reporting.render import footnote, render_latex, render_markdown, write_table
from uad.reporting.tables import COLUMNS, Reader, table2, table3, write_csv

BRATS = [("brats21", "t2")]


def arm(name, paper_model="", ssl=False, control=False, label=None):
    return {
        "arm": name,
        "method": name,
        "paper_model": paper_model,
        "ssl": ssl,
        "control": control,
        "label": label or name,
    }


def volumes(name, fold, dice, t_test="", cohort="brats21", modality="t2", split="test", variant="full", **more):
    """Metric rows of one fold, one per value of `dice`; `more` holds columns (one value or a list)."""
    frame = pd.DataFrame({"dice": dice, "auprc": dice, **more})
    keys = {
        "arm": name,
        "modality": modality,
        "fold": fold,
        "cohort": cohort,
        "split": split,
        "t_test": t_test,
        "variant": variant,
    }
    return frame.assign(subject=[f"s{i}" for i in range(len(frame))], **keys)


def only(table, **keys):
    """The single row of a table with these keys."""
    for key, value in keys.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


def dice3(frames, arms, folds, **reader):
    return table3(pd.concat(frames), arms, BRATS, Reader(folds=folds, **reader)).query("metric == 'dice'")


def test_mean_and_std_are_over_fold_means_in_percent():
    frames = [
        volumes("ae", 0, [0.2, 0.4]),
        volumes("ae", 1, [0.5, 0.7]),
        volumes("ae", 1, [0.99, 0.99], split="val"),
        volumes("ae", 1, [0.01, 0.01], variant="no_cc"),
    ]
    row = only(dice3(frames, [arm("ae", "AE")], [0, 1]), arm="ae")
    assert row["mean"] == pytest.approx(45.0)  # fold means 30 and 60
    assert row["std"] == pytest.approx(math.sqrt(2 * 15**2))  # n-1 = 1
    assert (row["n_folds"], row["n_volumes"], row["status"], row["missing_folds"]) == (2, 2, "ok", "")
    assert (row["paper_mean"], row["paper_std"]) == (31.51, 1.94)  # paper_spec 16
    assert row["difference"] == pytest.approx(13.49)


def test_one_fold_has_no_std():
    row = only(dice3([volumes("ae", 0, [0.2, 0.4])], [arm("ae", "AE")], [0]), arm="ae")
    assert row["mean"] == pytest.approx(30.0)
    assert math.isnan(row["std"])


def test_ens_picks_the_noise_level():
    frames = [volumes("ddpm", 0, [value] * 2, t_test=t) for t, value in [("250", 0.1), ("500", 0.2), ("ens", 0.4)]]
    arms = [arm("ddpm", "DDPM")]
    table = dice3(frames, arms, [0])
    assert list(table["ens"]) == [0, 1]
    assert list(table["mean"]) == pytest.approx([20.0, 40.0])
    assert list(table["paper_mean"]) == [44.25, 44.50]
    assert only(dice3(frames, arms, [0], single="250"), ens=0)["mean"] == pytest.approx(10.0)
    with pytest.raises(InputError, match="noise level 300 was not scored; choose one of 250, 500"):
        dice3(frames, arms, [0], single="300")


def test_missing_fold_is_shown():
    frames = [volumes("ae", 0, [0.2]), volumes("ae", 3, [0.4])]
    row = only(dice3(frames, [arm("ae")], [0, 1, 2, 3]), arm="ae")
    assert (row["n_folds"], row["missing_folds"], row["status"]) == (2, "1;2", "partial")
    assert row["mean"] == pytest.approx(30.0)


def test_absent_arm_keeps_the_papers_rows():
    arms = [arm("ae", "AE"), arm("cddpm-ssl", "cDDPM", ssl=True), arm("mine")]
    table = dice3([volumes("ae", 0, [0.2])], arms, [0])
    assert list(zip(table["arm"], table["ens"], table["ssl"], strict=True)) == [
        ("ae", 0, 0),
        ("cddpm-ssl", 0, 1),
        ("cddpm-ssl", 1, 1),
        ("mine", 0, 0),
    ]
    absent = table[table["arm"] != "ae"]
    assert set(absent["status"]) == {"missing"}
    assert set(absent["n_folds"]) == set(absent["n_volumes"]) == {0}
    assert absent[["mean", "std", "p_value", "difference"]].isna().all(axis=None)
    assert list(absent["paper_mean"][:2]) == [52.35, 53.37]


def test_volumes_without_lesion_are_left_out_and_counted():
    nan = float("nan")
    frames = [volumes("ae", 0, [0.2, nan, 0.4]), volumes("ae", 1, [0.6, nan, 0.8])]
    row = only(dice3(frames, [arm("ae")], [0, 1]), arm="ae")
    assert row["mean"] == pytest.approx(50.0)  # fold means 30 and 70
    assert (row["n_volumes"], row["n_undefined"], row["n_folds"]) == (3, 1, 2)
    empty = only(dice3([volumes("ae", 0, [0.2]), volumes("ae", 1, [nan])], [arm("ae")], [0, 1]), arm="ae")
    assert (empty["n_folds"], empty["status"], empty["missing_folds"]) == (1, "partial", "")
    assert only(dice3([volumes("ae", 0, [nan])], [arm("ae")], [0]), arm="ae")["status"] == "undefined"


def ladder(offset, n):
    """n scores per volume, raised by `offset`."""
    return [0.1 + 0.05 * i + offset for i in range(n)]


@pytest.mark.parametrize(("n", "p", "star"), [(6, 2 / 2**6, 1), (5, 2 / 2**5, 0)])
def test_star_needs_p_below_five_percent(n, p, star):
    """A constant lead: of 2^n sign patterns only the observed and its mirror are as extreme."""
    frames = [volumes("a", 0, ladder(0.1, n)), volumes("b", 0, ladder(0, n)), volumes("oracle", 0, [1.0] * n)]
    table = dice3(frames, [arm("a"), arm("b"), arm("oracle", control=True)], [0])
    assert list(table["p_value"][:2]) == pytest.approx([p, p])
    assert math.isnan(only(table, arm="oracle")["p_value"])
    assert list(table["star"]) == [star, 0, 0]


def test_star_needs_all_rivals_and_takes_the_largest_p():
    lead = [0.1, 0.1, 0.1, 0.1, 0.1, -0.1]
    near = [score - gap for score, gap in zip(ladder(0.2, 6), lead, strict=True)]
    frames = [volumes("a", 0, ladder(0.2, 6)), volumes("b", 0, ladder(0, 6)), volumes("c", 0, near)]
    table = dice3(frames, [arm("a"), arm("b"), arm("c")], [0])
    # |sum of signs| is at least 4 in 2 * (1 + 6) of 64 patterns.
    assert list(table["p_value"]) == pytest.approx([14 / 64, 2 / 64, 14 / 64])
    assert list(table["star"]) == [0, 0, 0]


def test_other_reading_of_the_same_arm_is_no_rival():
    frames = [
        volumes("d", 0, ladder(0.3, 6), t_test="500"),
        volumes("d", 0, ladder(0.3, 6), t_test="ens"),
        volumes("b", 0, ladder(0, 6)),
    ]
    table = dice3(frames, [arm("d"), arm("b")], [0])
    assert only(table, arm="d", ens=0)["star"] + only(table, arm="d", ens=1)["star"] == 1
    assert only(table, arm="b")["p_value"] == pytest.approx(2 / 64)


def test_p_is_over_fold_averaged_volumes_and_undefined_for_one_volume():
    """Six volumes in two folds are six pairs, not twelve; a single volume is no test."""
    frames = [volumes(name, fold, ladder(up, 6)) for name, up in (("a", 0.1), ("b", 0)) for fold in (0, 1)]
    assert only(dice3(frames, [arm("a"), arm("b")], [0, 1]), arm="a")["p_value"] == pytest.approx(2 / 64)
    frames = [volumes("a", 0, [0.5]), volumes("b", 0, [0.1])]
    table = dice3(frames, [arm("a"), arm("b")], [0])
    assert table["p_value"].isna().all()
    assert set(table["star"]) == {0}


QUALITY = {
    "ssim": 0.9,
    "psnr": 30.0,
    "lpips": 0.002,
    "l1": 0.01,
    "kld": 0.5,
    "kld_entropy": -0.25,
    "lpips_backbone": "",
}


def healthy(name, modality="t2", n=6, **changes):
    nan = [float("nan")] * n
    return volumes(name, 0, nan, cohort="ixi", modality=modality, **{**QUALITY, **changes})


def test_table2_units_backbone_and_modalities():
    frames = [healthy("dae"), healthy("dae", "t1", lpips_backbone="resnet10")]
    table = table2(pd.concat(frames), [arm("dae", "DAE")], [("ixi", "t2"), ("ixi", "t1")], [], Reader(folds=[0]))
    t2 = table[table["modality"] == "t2"].set_index("metric")
    expected = {"ssim": 90.0, "psnr": 30.0, "lpips": 2.0, "l1": 10.0, "kld": 0.5, "kld_entropy": -0.25}
    assert t2["mean"].to_dict() == pytest.approx(expected)
    assert t2.loc["ssim", "paper_mean"] == 98.69
    assert t2.loc["lpips", "lpips_backbone"] == "not available"
    assert t2.loc["ssim", "lpips_backbone"] == ""
    t1 = table[table["modality"] == "t1"].set_index("metric")
    assert t1.loc["lpips", "lpips_backbone"] == "resnet10"
    assert t1["paper_mean"].isna().all()  # the paper prints T2 only


def test_lower_is_better_for_errors_and_entropy_difference_has_no_best():
    low = healthy("low", l1=ladder(0, 6), kld_entropy=ladder(0, 6))
    high = healthy("high", l1=ladder(0.1, 6), kld_entropy=ladder(0.1, 6))
    table = table2(pd.concat([low, high]), [arm("low"), arm("high")], [("ixi", "t2")], [], Reader(folds=[0]))
    assert only(table, arm="low", metric="l1")["star"] == 1
    assert only(table, arm="high", metric="l1")["star"] == 0
    assert table.loc[table["metric"] == "kld_entropy", "p_value"].isna().all()


@pytest.mark.parametrize(("ratio", "expected"), [("mean_of_ratios", 2.5), ("ratio_of_means", 0.4 / 0.15)])
def test_l1_ratio_readings(ratio, expected):
    rows = volumes("ae", 0, [0.1, 0.2, 0.3], l1_lesion=[0.2, 0.6, 0.5], l1_healthy=[0.1, 0.2, 0.0])
    row = only(table2(rows, [arm("ae", "AE")], [], BRATS, Reader(folds=[0], ratio=ratio)), metric="l1_ratio")
    assert row["mean"] == pytest.approx(expected)  # the third volume has no ratio
    assert (row["n_volumes"], row["n_undefined"], row["paper_mean"]) == (3, 1, 3.84)


def test_infinite_psnr_of_a_perfect_copy_survives(recwarn):
    frames = [healthy("copy", psnr=math.inf), healthy("ae")]
    table = table2(pd.concat(frames), [arm("copy", control=True), arm("ae")], [("ixi", "t2")], [], Reader(folds=[0]))
    assert only(table, arm="copy", metric="psnr")["mean"] == math.inf
    assert "**30.00**" in render_markdown(table, [arm("copy", control=True), arm("ae")], "")
    assert not recwarn.list


def test_contradicting_rows_are_refused():
    rows = volumes("ae", 0, [0.2, 0.4])
    with pytest.raises(InputError, match="fold 7 is not among the expected"):
        dice3([rows, volumes("ae", 7, [0.1])], [arm("ae")], [0])
    with pytest.raises(InputError, match=r"scored twice .*arm ae.*subject s0"):
        dice3([rows, rows], [arm("ae")], [0])
    with pytest.raises(InputError, match="columns variant are missing"):
        dice3([rows.drop(columns="variant")], [arm("ae")], [0])


def test_csv_bytes_do_not_depend_on_row_order(tmp_path):
    frames = [volumes(name, fold, ladder(up + fold / 30, 7)) for name, up in (("a", 0.1), ("b", 0)) for fold in (0, 1)]
    rows = pd.concat(frames, ignore_index=True)
    arms = [arm("b"), arm("a")]
    for name, order in (("x", rows), ("y", rows.sample(frac=1, random_state=3))):
        write_csv(table3(order, arms, BRATS, Reader(folds=[0, 1])), tmp_path / f"{name}.csv")
    content = (tmp_path / "x.csv").read_bytes()
    assert content == (tmp_path / "y.csv").read_bytes()
    lines = content.decode().split("\n")
    assert lines[0] == ",".join(COLUMNS)
    # scores 10, 15 ... 40 %: mean 25; the second fold lies 100/30 higher
    assert lines[1].startswith("b,0,0,brats21,t2,dice,26.6667,2.35702,2,7,")
    assert b"\r" not in content


def test_paper_numbers_hold_all_cells_and_the_table4_equations():
    paper = paper_tables()
    assert paper["table"].value_counts().to_dict() == {"2": 56, "3": 104, "4": 48}
    equations = 0
    for row in paper[paper["table"] == "4"].itertuples():
        full, _ = paper_cell(
            3,
            row.model,
            int(row.ens),
            int(row.ssl),
            row.cohort,
            {"atlas": "t1", "wmh": "t1"}.get(row.cohort, "t2"),
            "dice",
        )
        equations += Decimal(str(row.mean)) - Decimal(str(row.delta)) == Decimal(str(full))
    assert equations == 48  # paper_spec 16
    starred = paper[(paper["star"] == 1) & (paper["table"] == "3")]
    assert set(starred["model"]) == {"cDDPM"} and set(starred["cohort"]) == {"brats21", "atlas"}
    assert all(map(math.isnan, paper_cell(3, "AE", 0, 0, "brats21", "t1", "dice")))


PAPER_ARMS = [
    *(
        arm(name.lower(), name, label=name)
        for name in ("Thresh", "AnoGAN", "VAE", "SVAE", "AE", "DAE", "DDPM", "pDDPM")
    ),
    arm("cddpm", "cDDPM", label="cDDPM"),
    arm("cddpm-ssl", "cDDPM", ssl=True, label="cDDPM_SSL"),
]


def papers_own_table():
    """The paper's Table 3 in the form of ours."""
    names = {(entry["paper_model"], str(int(entry["ssl"]))): entry["arm"] for entry in PAPER_ARMS}
    paper = paper_tables()[paper_tables()["table"] == "3"]
    table = pd.DataFrame(index=range(len(paper)), columns=COLUMNS)
    for key in ("cohort", "metric", "mean", "std", "star"):
        table[key] = paper[key].to_numpy()
    table["arm"] = [names[row.model, row.ssl] for row in paper.itertuples()]
    table["modality"] = ["t1" if cohort in ("atlas", "wmh") else "t2" for cohort in table["cohort"]]
    table["ens"], table["ssl"] = paper["ens"].astype(int).to_numpy(), paper["ssl"].astype(int).to_numpy()
    fill = {
        "status": "ok",
        "missing_folds": "",
        "n_folds": 5,
        "n_volumes": 9,
        "n_undefined": 0,
        "lpips_backbone": "",
    }
    return table.assign(paper_mean=math.nan, paper_std=math.nan, **fill)


def test_markdown_of_the_papers_numbers_is_its_table3():
    lines = render_markdown(papers_own_table(), PAPER_ARMS, "note").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
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


def test_latex_of_the_papers_numbers():
    text = render_latex(papers_own_table(), PAPER_ARMS, "run a_b, 5 %")
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


def test_rendering_marks_missing_partial_and_the_papers_value():
    frames = [
        volumes("ae", 0, [0.2, 0.4]),
        volumes("oracle", 0, [1.0, 1.0]),
        volumes("oracle", 1, [1.0, 1.0]),
    ]
    arms = [arm("ae", "AE"), arm("dae", "DAE"), arm("oracle", control=True)]
    table = table3(pd.concat(frames), arms, BRATS, Reader(folds=[0, 1]))
    note = footnote(table, "demo", "clean", phantom=True)
    text = render_markdown(table, arms, note)
    assert "| ae |  |  | **30.00**†<br>(31.51 ± 1.94) |" in text
    assert "| dae |  |  | missing<br>(45.37 ± 4.40) |" in text
    assert "| oracle |  |  | 100.00 ± 0.00 |" in text
    assert "Run demo, protocol clean, phantom data" in note
    assert "fewer folds than expected (missing: ae 1)" in note
    latex = render_latex(table, arms, note)
    assert r"\textbf{30.00}$^\dagger$" in latex
    assert r"\scriptsize\quad paper &  &  & \scriptsize (31.51 $\pm$ 1.94)" in latex


def test_footnote_names_backbone_and_undefined_volumes():
    table = table2(healthy("ae"), [arm("ae")], [("ixi", "t2")], [], Reader(folds=[0]))
    assert "LPIPS backbone: not available." in footnote(table, "r", "clean", phantom=False)
    assert "data from archives and folders" in footnote(table, "r", "clean", phantom=False)
    lesionless = table3(volumes("ae", 0, [0.2, float("nan")]), [arm("ae")], BRATS, Reader(folds=[0]))
    assert "Up to 1 volumes per cell have no lesion voxel" in footnote(lesionless, "r", "clean", phantom=False)


def test_write_table_makes_every_form(tmp_path):
    table = papers_own_table()
    paths = write_table(table, PAPER_ARMS, "note", tmp_path / "table3")
    assert [path.name for path in paths] == ["table3.csv", "table3.md", "table3.tex", "table3.html"]
    assert paths[1].read_text(encoding="utf-8") == render_markdown(table, PAPER_ARMS, "note")
    assert len(pd.read_csv(paths[0])) == 104

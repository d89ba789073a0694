"""Tables: every expected number is worked out by hand here or printed in the paper."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from uad.errors import InputError
from uad.reporting.paper_numbers import band_of, half_band, paper_cell, paper_tables
from uad.reporting.render import render_html, render_latex, render_markdown, write_table
from uad.reporting.sheets import results_note, results_sheet, splits_sheet
from uad.reporting.split_sizes import table1
from uad.reporting.tables import COLUMNS, Reader, read_csv, table2, table3, table4, write_csv

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


def markdown(table, arms, note="note"):
    return render_markdown(results_sheet(table, arms, note))


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
    assert (row["band"], row["removed"]) == ("outside", "")


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
    assert absent[["mean", "std", "ci_low", "p_value", "p_holm", "effect_size", "difference"]].isna().all(axis=None)
    assert set(absent["band"]) == set(absent["against"]) == {""}
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
    # Holm over the two comparisons: 2 * 2/64 and 14/64; a's p goes with its closest rival.
    assert list(table["p_holm"]) == pytest.approx([14 / 64, 4 / 64, 14 / 64])
    assert list(table["against"]) == ["c", "a", "a"]
    # c: five leads of equal size against one: (5 - 1) / 6 of the ranks; b loses every pair.
    assert list(table["effect_size"]) == pytest.approx([4 / 6, -1, -4 / 6])


def test_other_reading_of_the_same_arm_is_no_rival():
    frames = [
        volumes("d", 0, ladder(0.3, 6), t_test="500"),
        volumes("d", 0, ladder(0.3, 6), t_test="ens"),
        volumes("b", 0, ladder(0, 6)),
    ]
    table = dice3(frames, [arm("d"), arm("b")], [0])
    assert only(table, arm="d", ens=0)["star"] + only(table, arm="d", ens=1)["star"] == 1
    assert only(table, arm="b")["p_value"] == pytest.approx(2 / 64)
    assert only(table, arm="b")["against"] == "d"


def test_fold_reading_compares_fold_means_without_pairs():
    """Five folds each: of C(10, 5) = 252 ways to share out ten distinct means two are as extreme (paper_spec 14)."""
    frames = [volumes("a", fold, ladder(0.3 + fold / 100, 3)) for fold in range(5)]
    frames += [volumes("b", fold, ladder(fold / 100, 3)) for fold in range(5)]
    table = dice3(frames, [arm("a"), arm("b")], range(5), unit="folds")
    assert list(table["p_value"]) == pytest.approx([2 / 252, 2 / 252])
    assert list(table["star"]) == [1, 0]
    assert list(table["effect_size"]) == [1, -1]  # the effect stays one of volumes
    one = dice3([volumes("a", 0, [0.5, 0.6]), volumes("b", 0, [0.1, 0.2])], [arm("a"), arm("b")], [0], unit="folds")
    assert one["p_value"].isna().all() and set(one["star"]) == {0}
    with pytest.raises(ValueError, match="unit is 'slices'"):
        dice3(frames, [arm("a"), arm("b")], range(5), unit="slices")


def test_interval_is_over_fold_averaged_volumes():
    """Two folds of the same volumes are not twice the volumes: the interval is that of the averaged scores."""
    scores = [0.1, 0.3, 0.35, 0.6, 0.8, 0.95]
    frames = [volumes("a", fold, [score + shift for score in scores]) for fold, shift in ((0, -0.05), (1, 0.05))]
    row = only(dice3(frames, [arm("a")], [0, 1]), arm="a")
    expected = stats.bootstrap((scores,), np.mean, n_resamples=10_000, rng=np.random.default_rng(5)).confidence_interval
    assert row["ci_low"] == pytest.approx(100 * expected.low, abs=1.5)
    assert row["ci_high"] == pytest.approx(100 * expected.high, abs=1.5)
    assert row["ci_low"] < row["mean"] < row["ci_high"]


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
    assert math.isnan(row["ci_low"]) == (ratio == "ratio_of_means")  # no mean over volumes


def test_infinite_psnr_of_a_perfect_copy_survives(recwarn):
    frames = [healthy("copy", psnr=math.inf), healthy("ae")]
    table = table2(pd.concat(frames), [arm("copy", control=True), arm("ae")], [("ixi", "t2")], [], Reader(folds=[0]))
    assert only(table, arm="copy", metric="psnr")["mean"] == math.inf
    assert math.isnan(only(table, arm="copy", metric="psnr")["ci_low"])
    assert "**30.00**" in markdown(table, [arm("copy", control=True), arm("ae")])
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
    assert lines[1].startswith("b,0,0,,brats21,t2,dice,26.6667,2.35702,")
    assert b"\r" not in content
    again = read_csv(tmp_path / "x.csv")
    assert set(again["removed"]) == set(again["band"]) == {""} and again["mean"][0] == 26.6667


def test_paper_numbers_hold_all_cells_and_the_table4_equations():
    paper = paper_tables()
    assert paper["table"].value_counts().to_dict() == {"2": 56, "3": 104, "4": 48}
    equations = 0
    for row in paper[paper["table"] == "4"].itertuples():
        full = paper_cell(
            3,
            row.model,
            int(row.ens),
            int(row.ssl),
            row.cohort,
            {"atlas": "t1", "wmh": "t1"}.get(row.cohort, "t2"),
            "dice",
        ).mean
        equations += Decimal(str(row.mean)) - Decimal(str(row.delta)) == Decimal(str(full))
    assert equations == 48  # paper_spec 16
    starred = paper[(paper["star"] == 1) & (paper["table"] == "3")]
    assert set(starred["model"]) == {"cDDPM"} and set(starred["cohort"]) == {"brats21", "atlas"}
    assert math.isnan(paper_cell(3, "AE", 0, 0, "brats21", "t1", "dice").mean)
    assert paper_cell(4, "DDPM", 1, 0, "mslub", "t2", "dice", "MF").delta == 1.59


# --- bands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cohort", "metric", "paper", "expected"),
    [
        ("brats21", "dice", (19.69, math.nan), 2.0),  # Thresh has no deviation
        ("mslub", "auprc", (4.23, math.nan), 1.5),
        ("brats21", "dice", (49.36, 0.66), 2.0),  # 2 * 0.66 is below the floor
        ("brats21", "dice", (45.37, 4.40), 8.8),
        ("atlas", "dice", (14.91, 0.33), 1.5),
        ("wmh", "auprc", (8.12, 1.17), 2.34),
        ("ixi", "ssim", (74.98, 0.54), 1.08),  # no floor outside Dice and AUPRC
        ("ixi", "kld", (math.nan, math.nan), math.nan),
    ],
)
def test_band_is_two_deviations_with_a_floor_in_points(cohort, metric, paper, expected):
    assert half_band(cohort, metric, *paper) == pytest.approx(expected, nan_ok=True)


def test_the_rim_belongs_to_the_band():
    assert [band_of(d, 2.0) for d in (-2.0, 1.99, 2.01, math.nan)] == ["within", "within", "outside", ""]
    assert band_of(0.1, math.nan) == ""
    # 51.78 and 51.79 against 49.78 +- 0.85: the floor is 2 points
    for dice, expected in ((0.5178, "within"), (0.5179, "outside")):
        frames = [volumes("pddpm", 0, [dice], t_test=t) for t in ("500", "ens")]
        table = dice3(frames, [arm("pddpm", "pDDPM")], [0])
        assert only(table, ens=1)["band"] == expected


# --- Table 4 --------------------------------------------------------------------------------------


def ablation_rows():
    """Two folds of six volumes: without the median filter every volume loses 0.1, without erosion three gain."""
    frames = []
    for fold in (0, 1):
        base = ladder(0.2 + fold / 10, 6)
        changes = {"full": [0] * 6, "no_cc": [0] * 6, "no_median": [-0.1] * 6, "no_erosion": [0.1, -0.1] * 3}
        for variant, change in changes.items():
            scores = [score + step for score, step in zip(base, change, strict=True)]
            frames.append(volumes("ddpm", fold, scores, t_test="ens", variant=variant))
        frames.append(volumes("ddpm", fold, base, t_test="500"))
        frames.append(volumes("oracle", fold, [1.0] * 6))
    return pd.concat(frames)


def test_table4_is_the_change_against_the_whole_post_processing():
    arms = [arm("ddpm", "DDPM"), arm("oracle", control=True), arm("dae", "DAE")]
    table = table4(ablation_rows(), arms, BRATS, Reader(folds=[0, 1]))
    assert set(table.columns) == set(COLUMNS)
    ddpm = table[table["arm"] == "ddpm"]
    assert list(ddpm["removed"]) == ["CC", "MF", "BE"] and set(ddpm["ens"]) == {1}
    # full: 30 to 55 % in fold 0, ten more in fold 1: mean 42.5 + 5
    assert list(ddpm["mean"]) == pytest.approx([47.5, 37.5, 47.5])
    assert list(ddpm["delta"]) == pytest.approx([0, -10, 0])
    assert list(ddpm["paper_mean"]) == [44.42, 36.56, 43.81] and list(ddpm["paper_delta"]) == [-0.08, -7.94, -0.69]
    assert list(ddpm["band"]) == ["within", "within", "within"]  # 3.08 < 2 * 2.03, 0.94 < 2 * 1.86, 3.69 < 2 * 2.12
    # no change: p 1; all six lower: 2 of 64; as many up as down: every pattern is as extreme as 0
    assert list(ddpm["p_value"]) == pytest.approx([1, 2 / 64, 1])
    assert list(ddpm["p_holm"]) == pytest.approx([1, 6 / 64, 1])  # times the three comparisons of the column
    assert list(ddpm["effect_size"]) == pytest.approx([0, -1, 0])
    assert set(ddpm["against"]) == {"full post-processing"} and not ddpm["star"].any()
    absent = table[table["arm"] == "dae"]
    assert set(absent["status"]) == {"missing"} and absent[["mean", "delta", "p_value"]].isna().all(axis=None)
    assert "oracle" not in set(table["arm"])


def test_change_is_taken_over_the_folds_that_have_both():
    rows = ablation_rows()
    rows = rows[~((rows["fold"] == 0) & (rows["variant"] == "no_median"))]
    row = only(table4(rows, [arm("ddpm")], BRATS, Reader(folds=[0, 1])), removed="MF")
    assert (row["n_folds"], row["missing_folds"], row["status"]) == (1, "0", "partial")
    assert row["mean"] == pytest.approx(42.5)  # fold 1 alone
    assert row["delta"] == pytest.approx(-10)  # not -5, which would compare with both folds of the whole


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


# --- Table 1 --------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(tmp_path):
    """IXI of two folds with one failed T2 scan and one left over, WMH of one stretch."""
    (tmp_path / "splits").mkdir()
    (tmp_path / "store").mkdir()
    ixi = [("a", "train", 0), ("b", "train", 0), ("c", "val", 0), ("d", "test", 0),
           ("a", "train", 1), ("c", "train", 1), ("b", "val", 1), ("e", "val", 1), ("d", "test", 1)]  # fmt: skip
    wmh = [(f"w{i}", "val" if i < 2 else "test", fold) for fold in (0, 1) for i in range(5)]
    for cohort, rows in (("ixi", ixi), ("wmh", wmh)):
        table = pd.DataFrame(rows, columns=["subject", "split", "fold"])
        table.to_csv(tmp_path / "splits" / f"{cohort}.tsv", sep="\t", index=False)
    for store, subjects in (("ixi_t2", "acde"), ("ixi_t1", "abcdez"), ("wmh_t1", [f"w{i}" for i in range(5)])):
        index = pd.DataFrame({"row": range(len(subjects)), "subject": list(subjects)})
        index.to_csv(tmp_path / "store" / f"{store}.tsv", sep="\t", index=False)
    return tmp_path


def test_table1_counts_what_the_stores_hold(run_folder):
    table = table1(run_folder, [("ixi", "t2"), ("ixi", "t1")], [("wmh", "t1")], [0, 1])
    counts = table.set_index(["cohort", "modality", "fold", "split"]).sort_index()
    t2 = counts.loc[("ixi", "t2")]
    assert t2.loc[0, "scans"].to_dict() == {"train": 1, "val": 1, "test": 1, "unused": 1}
    assert t2.loc[1, "scans"].to_dict() == {"train": 2, "val": 1, "test": 1, "unused": 0}
    assert t2.loc[(0, "train"), ["excluded", "excluded_subjects"]].tolist() == [1, "b"]
    assert counts.loc[("ixi", "t1", 1, "unused"), "scans"] == 1  # z is in no split
    assert t2.loc[(0, "train"), "paper"] == 358 and counts.loc[("wmh", "t1", 1, "test"), "paper"] == 45
    assert counts.loc[("wmh", "t1"), "scans"].groupby("split").max().to_dict() == {
        "train": 0, "val": 2, "test": 3, "unused": 0,
    }  # fmt: skip
    assert set(table.loc[table["cohort"] == "wmh", "kind"]) == {"pathological"}


def test_table1_shows_ranges_and_names_nothing_twice(run_folder, tmp_path):
    table = table1(run_folder, [("ixi", "t2")], [("wmh", "t1")], [0, 1])
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


# --- the paper's own numbers ----------------------------------------------------------------------


PAPER_ARMS = [
    *(
        arm(name.lower(), name, label=name)
        for name in ("Thresh", "AnoGAN", "VAE", "SVAE", "AE", "DAE", "DDPM", "pDDPM")
    ),
    arm("cddpm", "cDDPM", label="cDDPM"),
    arm("cddpm-ssl", "cDDPM", ssl=True, label="cDDPM_SSL"),
]


def papers_own_table(number):
    """One of the paper's Tables 2 to 4 in the form of ours."""
    ssl_arms = {(entry["paper_model"], str(int(entry["ssl"]))): entry["arm"] for entry in PAPER_ARMS}
    paper = paper_tables()[paper_tables()["table"] == str(number)]
    table = pd.DataFrame(index=range(len(paper)), columns=COLUMNS)
    for key in ("cohort", "metric", "mean", "std", "star", "removed", "delta"):
        table[key] = paper[key].to_numpy()
    table["arm"] = [ssl_arms[row.model, row.ssl or "0"] for row in paper.itertuples()]
    table["modality"] = ["t1" if cohort in ("atlas", "wmh") else "t2" for cohort in table["cohort"]]
    table["ens"] = paper["ens"].astype(int).to_numpy()
    table["ssl"] = [int(ssl or 0) for ssl in paper["ssl"]]
    fill = {"status": "ok", "missing_folds": "", "n_folds": 5, "n_volumes": 9, "n_undefined": 0, "lpips_backbone": "",
            "band": ""}  # fmt: skip
    return table.assign(paper_mean=math.nan, paper_std=math.nan, paper_delta=math.nan, **fill)


def body_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


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
    """paper_spec 16: best in bold, asterisks at DAE (SSIM, PSNR, l1) and pDDPM (LPIPS)."""
    cells = body_of(markdown(papers_own_table(2), PAPER_ARMS))
    heads = ["SSIM (%)", "PSNR (dB)", "LPIPS (1e-3)", "l1 error (1e-3)"]
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
    assert "Volumes without a score, left out (no lesion voxel): BraTS21 (T2) 1." in note
    assert "unpaired permutation tests over folds" in note


def test_write_table_makes_every_form(tmp_path):
    table = papers_own_table(3)
    sheet = results_sheet(table, PAPER_ARMS, "note")
    paths = write_table(table, sheet, tmp_path / "table3")
    assert [path.name for path in paths] == ["table3.csv", "table3.md", "table3.tex", "table3.html"]
    assert paths[1].read_text(encoding="utf-8") == render_markdown(sheet)
    assert len(pd.read_csv(paths[0])) == 104

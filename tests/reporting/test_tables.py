"""Tables 1 to 4: every expected number is worked out by hand here or printed in the paper."""

from __future__ import annotations

import math
from decimal import Decimal

import pandas as pd
import pytest
from made_up_tables import BRATS, ablation_rows, arm, dice3, healthy, ladder, markdown, only, splits_and_held, volumes

from uad.common.errors import InputError
from uad.reporting.paper_numbers import band_of, half_band, paper_cell, paper_tables
from uad.reporting.split_sizes import table1
from uad.reporting.tables import COLUMNS, Reader, read_csv, table2, table3, table4, write_csv


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
    assert (row["paper_mean"], row["paper_std"]) == (31.51, 1.94)  # Table 3 of the paper
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
    assert equations == 48  # docs/paper.md#numbers
    starred = paper[(paper["star"] == 1) & (paper["table"] == "3")]
    assert set(starred["model"]) == {"cDDPM"} and set(starred["cohort"]) == {"brats21", "atlas"}
    assert math.isnan(paper_cell(3, "AE", 0, 0, "brats21", "t1", "dice").mean)
    assert paper_cell(4, "DDPM", 1, 0, "mslub", "t2", "dice", "MF").delta == 1.59


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


def test_table1_counts_what_the_stores_hold():
    table = table1(*splits_and_held(), [("ixi", "t2"), ("ixi", "t1")], [("wmh", "t1")], [0, 1])
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

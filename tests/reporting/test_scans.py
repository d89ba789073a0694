"""The table of single scans and `snakemake scores`, on made-up rows whose means are known."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from made_up_tables import arm, volumes
from places import SCRIPTS

from uad.reporting.scans import SCAN_COLUMNS, scan_table, scores_text

ARMS = [
    arm("oracle", control=True) | {"per_fold": False},
    arm("ddpm", label="DDPM") | {"per_fold": True},
    arm("thresh", label="Thresh") | {"per_fold": False},
    arm("late") | {"per_fold": True},
]
PLACES = {"healthy": [("ixi", "t2")], "pathological": [("brats21", "t2")]}
FOLDS = range(2)


def rows():
    """DDPM at two levels and as ensemble on two folds, Thresh and oracle on one; a healthy cohort for DDPM."""
    more = {
        "site": "x", "threshold": 0.3, "lesion_ml": 2.0, "predicted_ml": 3.0, "false_positive_ml": 1.0,
        "false_positives": 4.0, "score_top1": 0.25, "score_top01": 0.5,
    }  # fmt: skip
    nan = [float("nan")] * 2
    frames = [
        *(
            volumes("ddpm", fold, [0.2 + fold / 10, 0.4 + fold / 10], level, **more)
            for fold in FOLDS
            for level in ("500", "750")
        ),
        *(volumes("ddpm", fold, [0.5, 0.7], "ens", **more) for fold in FOLDS),
        volumes("thresh", 0, [0.1, 0.2], **more),
        volumes("oracle", 0, [1.0, 1.0], **more),
        volumes("thresh", 0, [0.9, 0.9], split="val", **more),
        volumes("thresh", 0, [0.9, 0.9], variant="no_cc", **more),
        volumes("ddpm", 0, nan, "500", cohort="ixi", **more | {"l1": [0.01, 0.03], "ssim": 0.9, "kld": [0.25, 0.75]}),
    ]
    return pd.concat(frames, ignore_index=True)


def test_the_table_has_each_test_scan_once_per_arm_reading_and_fold():
    table = scan_table(rows(), ARMS, FOLDS, "500")
    assert tuple(table.columns) == SCAN_COLUMNS
    counts = table.groupby(["cohort", "arm", "t_test"]).size().to_dict()
    assert counts == {
        ("brats21", "ddpm", "500"): 4, ("brats21", "ddpm", "ens"): 4, ("brats21", "thresh", ""): 2,
        ("brats21", "oracle", ""): 2, ("ixi", "ddpm", "500"): 2,
    }  # fmt: skip
    first = table.iloc[0].to_dict()
    assert (first["arm"], first["label"], first["control"], first["subject"]) == ("oracle", "oracle", 1, "s0")
    found = table[(table["arm"] == "ddpm") & (table["subject"] == "s1") & (table["cohort"] == "brats21")]
    assert found["dice"].tolist() == pytest.approx([0.4, 0.5, 0.7, 0.7])  # t 500, then the ensemble, by fold
    assert found[["threshold", "lesion_ml", "predicted_ml", "false_positive_ml", "false_positives"]].drop_duplicates(
    ).to_numpy().tolist() == [[0.3, 2, 3, 1, 4]]  # fmt: skip


def test_the_table_is_the_same_whatever_the_order_of_the_rows():
    shuffled = rows().sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(scan_table(shuffled, ARMS, FOLDS, "500"), scan_table(rows(), ARMS, FOLDS, "500"))


def test_rows_of_an_arm_that_learns_nothing_are_not_repeated():
    again = rows().query("arm == 'thresh'").assign(fold=1)  # as `read_scores` gives them
    table = scan_table(pd.concat([rows(), again]), ARMS, FOLDS, "500")
    pd.testing.assert_frame_equal(table, scan_table(rows(), ARMS, FOLDS, "500"))


def text_of(metrics=None):
    return scores_text(rows() if metrics is None else metrics, ARMS, **PLACES, folds=FOLDS, single="500")


def test_the_text_has_the_means_of_each_cohort_with_controls_last():
    found, healthy, absent = text_of().split("\n\n")
    assert [line.split() for line in found.splitlines()] == [
        ["BraTS21", "(T2)"],
        ["arm", "reading", "scans", "folds", "Dice", "(%)", "AUPRC", "(%)"],
        ["DDPM", "t", "=", "500", "2", "2", "35.00", "35.00"],
        ["DDPM", "ensemble", "2", "2", "60.00", "60.00"],
        ["Thresh", "2", "1", "15.00", "15.00"],
        ["oracle", "2", "1", "100.00", "100.00"],
    ]
    assert [line.split() for line in healthy.splitlines()] == [
        ["IXI", "(T2)"],
        ["arm", "reading", "scans", "folds", "l1", "error", "(10⁻³)", "SSIM", "(%)", "KLD", "(nats)"],
        ["DDPM", "t", "=", "500", "2", "1", "20.00", "90.00", "0.500"],
    ]
    assert absent == "Not scored yet: late"


def test_readings_that_combine_levels_are_shown_too():
    """`inference.combine`: geometric mean and largest residual are scored as readings of their own."""
    metrics = pd.concat([rows(), volumes("ddpm", 0, [0.3, 0.5], "gmean"), volumes("ddpm", 0, [0.7, 0.9], "max")])
    lines = [line.split() for line in text_of(metrics).splitlines() if line.startswith("DDPM")]
    assert ["DDPM", "gmean", "2", "1", "40.00", "40.00"] in lines and [
        "DDPM",
        "max",
        "2",
        "1",
        "80.00",
        "80.00",
    ] in lines
    table = scan_table(metrics, ARMS, FOLDS, "500")
    assert set(table.loc[table["arm"] == "ddpm", "t_test"]) == {"500", "ens", "gmean", "max"}


def test_columns_are_aligned_and_fit_a_terminal():
    long = [arm("ddpm", label="D" * 90) | {"per_fold": True}, *ARMS[2:3]]
    text = scores_text(rows(), long, **PLACES, folds=FOLDS, single="500")
    assert max(map(len, text.splitlines())) <= 120
    _, head, *lines = text.split("\n\n")[0].splitlines()
    assert {len(line) for line in lines} == {len(head)} and "DDD…" in lines[0]


def test_an_arm_without_a_score_where_it_has_rows_shows_a_dash():
    nothing = rows().assign(dice=float("nan"))
    assert text_of(nothing).splitlines()[2].split()[-2:] == ["–", "35.00"]


def printed(tmp_path, *files):
    settings = {"run": "r", "arms": ARMS, "folds": 2, "single": 500, "phantom": True} | PLACES
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    return subprocess.run(
        [sys.executable, SCRIPTS / "print_scores.py", "--settings", tmp_path / "settings.json", "--scores", *files],
        capture_output=True, text=True,
    )  # fmt: skip


def test_the_program_prints_what_is_there(tmp_path):
    rows().to_parquet(tmp_path / "fold0.parquet")
    run = printed(tmp_path, tmp_path / "fold0.parquet")
    assert run.returncode == 0 and run.stdout.strip().endswith(text_of())
    assert "Phantoms" in run.stdout


def test_without_scores_the_program_says_how_to_make_some(tmp_path):
    run = printed(tmp_path)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith("error: run 'r' has no scores yet") and len(run.stderr.splitlines()) == 1

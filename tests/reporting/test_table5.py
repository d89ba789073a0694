"""Table 5 from made-up rows: every expected number is worked out by hand or by scikit-learn."""

from __future__ import annotations

import functools
import re

import numpy as np
import pandas as pd
import pytest
from made_up_tables import BRATS, arm, lesion_rows, only, scan_rows
from places import ROOT
from sklearn.metrics import average_precision_score, roc_auc_score

from uad.common.errors import InputError
from uad.config.model import TableSettings
from uad.reporting.lesion_classes import LESION_CLASSES, lesion_class
from uad.reporting.page.sections import read_spec
from uad.reporting.render import render_html, render_latex, render_markdown, write_table
from uad.reporting.scores import read_lesions
from uad.reporting.sheets import SHIFT, detection_note, detection_sheet
from uad.reporting.table5 import COLUMNS, table5
from uad.reporting.tables import Reader, read_csv
from uad.scoring.lesions import lesion_table

ARMS = [arm("ae", label="AE"), arm("oracle", control=True)]
HEALTHY = [("ixi", "t2"), ("ixi", "t1")]
ILL = {0: [0.9, 0.4, 0.8, 0.35], 1: [0.2, 0.7, 0.6, 0.3]}
WELL = {0: [0.1, 0.4, 0.5, 0.2, 0.3], 1: [0.25, 0.1, 0.65, 0.2, 0.3]}
LESIONS = [  # subject, number, ml, overlap
    ("s0", 1, 0.5, 0.05), ("s0", 2, 0.5, 0.5), ("s0", 3, 20.0, 0.1),
    ("s1", 1, 0.99, 0.0), ("s1", 2, 1.0, 1.0), ("s2", 1, 60.0, 0.02), ("s3", 1, 9.9, 0.0),
]  # fmt: skip


def rows():
    """Two folds of an arm, one of a control; scans of another modality that nothing may be compared with."""
    frames = [frame for fold in (0, 1) for frame in (
        scan_rows("ae", fold, ILL[fold], false_positives=[0, 1, 2, 5 + 4 * fold]),
        scan_rows("ae", fold, WELL[fold], cohort="ixi"),
        scan_rows("ae", fold, [9.0] * 5, cohort="ixi", modality="t1"),
        scan_rows("ae", fold, [9.0] * 3, cohort="ixi", split="val"),
        scan_rows("oracle", fold, [1.0] * 4),
        scan_rows("oracle", fold, [0.0] * 5, cohort="ixi"),
    )]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def lesions():
    """In fold 1 two lesions more are hit, and one of them by a tenth of its voxels or more."""
    changed = [(*lesion[:3], {("s1", 1): 0.05, ("s3", 1): 0.4}.get(lesion[:2], lesion[3])) for lesion in LESIONS]
    whole = [(*lesion[:3], 1.0) for lesion in LESIONS]
    frames = [lesion_rows("ae", 0, LESIONS), lesion_rows("ae", 1, changed)]
    return pd.concat([*frames, *(lesion_rows("oracle", fold, whole) for fold in (0, 1))], ignore_index=True)


def made(metrics=None, found=None, arms=ARMS, folds=(0, 1), overlap=0.1, healthy=HEALTHY, **reader):
    reader = Reader(folds=folds, **{"rounds": 500, **reader})
    metrics, found = rows() if metrics is None else metrics, lesions() if found is None else found
    return table5(metrics, found, arms, healthy, BRATS, reader, overlap)


@functools.cache
def whole(overlap=0.1):
    return made(overlap=overlap)


def cell(table, metric, size="", name="ae"):
    return only(table, arm=name, metric=metric, size=size)


# --- scans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "reference"), [("auroc", roc_auc_score), ("ap", average_precision_score)])
def test_scans_are_told_apart_as_with_scikit_learn(metric, reference):
    expected = [100 * reference([1] * 4 + [0] * 5, [*ILL[fold], *WELL[fold]]) for fold in (0, 1)]
    table = whole()
    for share in ("top1", "top01"):
        row = cell(table, f"{metric}_{share}")
        assert row["mean"] == pytest.approx(np.mean(expected))
        assert row["std"] == pytest.approx(np.std(expected, ddof=1))
        assert row["ci_low"] < row["mean"] < row["ci_high"] <= 100
        assert (row["n_folds"], row["n_volumes"], row["n_healthy"], row["n_lesions"]) == (2, 4, 5, 0)
        assert (row["status"], row["missing_folds"], row["n_undefined"]) == ("ok", "", 0)


def test_each_score_is_read_from_its_own_column():
    changed = rows()
    ill = changed["cohort"] == "brats21"
    changed["score_top01"] = np.where(ill, -1.0, 1.0)
    table = made(changed)
    assert cell(table, "auroc_top01")["mean"] == 0 < cell(table, "auroc_top1")["mean"]


def test_a_perfect_arm_has_no_spread_and_chance_one_half():
    table = whole()
    for metric in ("auroc_top1", "ap_top1"):
        row = cell(table, metric, name="oracle")
        assert (row["mean"], row["std"], row["ci_low"], row["ci_high"]) == (100, 0, 100, 100)
    rng = np.random.default_rng(4)
    chance = [scan_rows("ae", 0, rng.random(150)), scan_rows("ae", 0, rng.random(150), cohort="ixi")]
    table = made(pd.concat(chance), lesions()[:0], arms=ARMS[:1], folds=[0])
    area, precision = cell(table, "auroc_top1"), cell(table, "ap_top1")
    deviation = 100 * np.sqrt(301 / (12 * 150 * 150))  # Mann and Whitney
    assert area["mean"] == pytest.approx(50, abs=4 * deviation)
    assert area["ci_high"] - area["ci_low"] == pytest.approx(2 * 1.96 * deviation, rel=0.25)
    assert area["ci_low"] < 50 < area["ci_high"] and precision["ci_low"] < 50 < precision["ci_high"]


def test_healthy_cohorts_of_the_modality_count_together():
    """Both have subjects s0 to s4, who are other people."""
    more = [scan_rows("ae", fold, [1.0] * 5, cohort="oasis", lesion_ml=0.0) for fold in (0, 1)]
    table = made(pd.concat([rows(), *more]), arms=ARMS[:1], healthy=[*HEALTHY, ("oasis", "t2")])
    row = cell(table, "auroc_top1")
    alone = cell(whole(), "auroc_top1")["mean"]
    assert (row["n_healthy"], row["mean"]) == (10, pytest.approx(alone / 2))  # all of OASIS score higher


def test_a_scan_without_a_lesion_voxel_is_left_out_of_the_ill_ones():
    table = made(pd.concat([scan_rows("ae", 0, [0.9, 0.0], lesion_ml=[1.0, 0.0]),
                            scan_rows("ae", 0, [0.5, 0.6], cohort="ixi")]), folds=[0], arms=ARMS[:1])  # fmt: skip
    row = cell(table, "auroc_top1")
    assert (row["mean"], row["n_volumes"], row["n_undefined"]) == (100, 1, 1)
    assert np.isnan(row["ci_low"])  # one scan is no sample
    assert cell(table, "false_positives")["n_volumes"] == 2


def test_without_healthy_scans_there_is_nothing_to_tell_apart():
    for healthy in ([], [("ixi", "t1")]):
        table = made(healthy=healthy)
        row = cell(table, "auroc_top1")
        assert (row["status"], row["n_healthy"]) == ("undefined", 0) and np.isnan(row["mean"])
        assert cell(table, "found_any", "all")["status"] == "ok"


def test_false_positives_are_averaged_over_scans_then_folds():
    row = cell(whole(), "false_positives")
    assert (row["mean"], row["std"]) == pytest.approx((2.5, np.sqrt(0.5)))  # 2 and 3
    assert row["ci_low"] < 2.5 < row["ci_high"] and row["n_volumes"] == 4


# --- lesions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "overlap", "size", "found", "lesions"),
    [
        ("found_any", 0.1, "all", (5, 7), 7),
        ("found_share", 0.1, "all", (3, 4), 7),  # exactly a tenth is enough
        ("found_share", 0.5, "all", (2, 2), 7),
        ("found_any", 0.1, "below 1 ml", (2, 3), 3),
        ("found_share", 0.1, "below 1 ml", (1, 1), 3),
        ("found_any", 0.1, "1 to 10 ml", (1, 2), 2),  # 1 ml belongs to the larger class
        ("found_share", 0.1, "10 to 50 ml", (1, 1), 1),
        ("found_any", 0.1, "50 ml and more", (1, 1), 1),
        ("found_share", 0.1, "50 ml and more", (0, 0), 1),
    ],
)
def test_lesions_are_found_by_size_and_share(metric, overlap, size, found, lesions):
    row = cell(whole(overlap), metric, size)
    shares = [100 * hits / lesions for hits in found]
    assert row["mean"] == pytest.approx(np.mean(shares)) and row["std"] == pytest.approx(np.std(shares, ddof=1))
    assert row["n_lesions"] == lesions and row["n_folds"] == 2


def test_intervals_of_lesions_resample_scans():
    """Of ten scans with ten lesions each one half finds all and the other none: 100 lesions are ten observations."""
    every = [(f"s{scan}", number, 2.0, float(scan % 2)) for scan in range(10) for number in range(1, 11)]
    table = made(scan_rows("ae", 0, [1.0] * 10), lesion_rows("ae", 0, every), ARMS[:1], [0], rounds=5000)
    row = cell(table, "found_any", "all")
    assert (row["mean"], row["n_lesions"], row["n_volumes"]) == (50, 100, 10)
    # binomial with n = 10: 95 % lie between 2 and 8
    assert (row["ci_low"], row["ci_high"]) == (pytest.approx(20, abs=10.1), pytest.approx(80, abs=10.1))


def test_sizes_without_a_lesion_have_no_column_and_an_arm_without_rows_is_missing():
    small = lesion_rows("ae", 0, [("s0", 1, 0.5, 1.0)])
    table = made(scan_rows("ae", 0, [1.0]), small, [*ARMS, arm("late")], [0])
    found = table[table["metric"] == "found_any"]
    assert set(found["size"]) == {"all", "below 1 ml"}
    assert set(found.loc[found["arm"] == "late", "status"]) == {"missing"}
    assert set(table.loc[table["arm"] == "late", "status"]) == {"missing"}


def test_without_a_threshold_no_lesion_is_found_or_missed():
    unknown = [(*lesion[:3], float("nan")) for lesion in LESIONS]
    found = pd.concat([lesion_rows("ae", 0, LESIONS), lesion_rows("ae", 1, unknown)])
    row = cell(made(found=found, arms=ARMS[:1]), "found_any", "all")
    assert (row["status"], row["n_folds"], row["mean"]) == ("partial", 1, pytest.approx(500 / 7))
    row = cell(made(found=found[found["fold"] == 1], arms=ARMS[:1]), "found_any", "all")
    assert (row["status"], row["n_undefined"]) == ("undefined", 4)


def test_classes_include_their_lower_edge():
    volumes = pd.Series([1e-3, 0.999, 1.0, 9.999, 10.0, 49.9, 50.0, 900.0])
    assert lesion_class(volumes).tolist() == [name for name in LESION_CLASSES for _ in range(2)]


# --- readings and faults --------------------------------------------------------------------------


def test_a_diffusion_arm_has_a_line_per_reading():
    levels = {"500": 0.1, "750": 0.2, "ens": 1.0}
    frames = [frame.assign(t_test=t) for t, top in levels.items() for frame in (
        scan_rows("ddpm", 0, [top] * 3), scan_rows("ddpm", 0, [0.5] * 3, cohort="ixi"))]  # fmt: skip
    found = [lesion_rows("ddpm", 0, [("s0", 1, 2.0, top)], t) for t, top in levels.items()]
    table = made(pd.concat(frames), pd.concat(found), [arm("ddpm")], [0], overlap=0.15)
    by_reading = table.set_index(["ens", "metric", "size"])["mean"]
    assert by_reading[:, "auroc_top1", ""].to_dict() == {0: 0, 1: 100}
    assert by_reading[:, "found_share", "all"].to_dict() == {0: 0, 1: 100}
    with pytest.raises(InputError, match="noise level 250 was not scored; choose one of 500, 750"):
        made(pd.concat(frames), pd.concat(found), [arm("ddpm")], [0], single="250")


def test_a_missing_fold_is_named():
    metrics, found = rows(), lesions()
    table = made(metrics[metrics["fold"] == 0], found[found["fold"] == 0])
    for metric, size in (("auroc_top1", ""), ("false_positives", ""), ("found_any", "all")):
        row = cell(table, metric, size)
        assert (row["n_folds"], row["missing_folds"], row["status"]) == (1, "1", "partial")


@pytest.mark.parametrize("column", ["score_top1", "score_top01", "false_positives"])
def test_scores_of_an_older_version_are_refused(column):
    with pytest.raises(InputError, match=f"columns {column} are missing; score the arms again"):
        made(rows().drop(columns=column))


def test_an_arm_that_learns_nothing_counts_in_every_fold(tmp_path):
    for name, folds in (("ae", 2), ("oracle", 1)):
        for fold in range(folds):
            path = tmp_path / name / "t2" / f"fold{fold}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            lesion_table(lesion_rows(name, fold, LESIONS).to_dict("records")).to_parquet(path, index=False)
    arms = [arm("ae") | {"per_fold": True}, arm("oracle") | {"per_fold": False}]
    found = read_lesions(sorted(tmp_path.rglob("*.parquet")), arms, folds=2)
    assert found.groupby(["arm", "fold"]).size().to_dict() == {
        (name, fold): len(LESIONS) for name in ("ae", "oracle") for fold in (0, 1)
    }


# --- what is printed ------------------------------------------------------------------------------


def printed(table):
    note = detection_note(table, "r", "clean", False, ARMS, 0.1)
    return detection_sheet(table, ARMS, note, 0.1)


def test_the_sheet_has_a_group_per_cohort_for_scans_and_each_key():
    sheet = printed(whole())
    assert sheet.groups == [
        ("BraTS21 (T2): scans", 5),
        ("BraTS21 (T2): lesions, any overlap", 5),
        ("BraTS21 (T2): lesions, overlap of 10 % or more", 5),
    ]
    sizes = [
        "all (n = 7)", "below 1 ml (n = 3)", "1 to 10 ml (n = 2)", "10 to 50 ml (n = 1)", "50 ml and more (n = 1)",
    ]  # fmt: skip
    assert sheet.heads == [
        "Arm", "ENS", "SSL", "AUROC, top 1 % (%)", "AP, top 1 % (%)", "AUROC, top 0.1 % (%)", "AP, top 0.1 % (%)",
        "false positives per scan", *sizes, *sizes,
    ]  # fmt: skip
    ae, oracle = sheet.lines
    assert [ae[0].text, oracle[0].text, oracle[0].css] == ["AE", "oracle", "control"]
    assert ae[8].text == "85.71 ± 20.20" and ae[8].bold and not oracle[8].bold  # 5/7 and 7/7
    assert ae[7].text == "2.50 ± 0.71" and not ae[7].bold  # fewest false positives are no merit by themselves
    assert oracle[3].text == "100.00 ± 0.00"


@pytest.mark.parametrize("render", [render_markdown, render_latex, render_html])
def test_the_shift_between_cohorts_is_said_beside_the_table(render):
    assert SHIFT in render(printed(whole()))


def test_the_note_counts_scans_and_lesions():
    """Random orders of 4 and 5 scans have an AP of (h + 3 (9 - h) / 8) / 9, h = 1 + 1/2 + ... + 1/9 = 2.829."""
    note = printed(whole()).note
    assert "Scans with a lesion and healthy ones: BraTS21 (T2) 4 and 5 (AP of chance: 57.1 %), 7 lesions." in note
    metrics, found = rows(), lesions()
    note = printed(made(metrics[metrics["fold"] == 0], found[found["fold"] == 0])).note
    assert "†: fewer folds than expected (missing: AE 1, oracle 1)." in note


def test_a_run_without_lesions_has_an_empty_table():
    table = table5(rows(), lesions(), ARMS, HEALTHY, [], Reader(folds=(0, 1)), 0.1)
    assert list(table.columns) == COLUMNS and table.empty
    assert SHIFT in render_markdown(printed(table))


def test_the_file_has_the_documented_columns_and_comes_back(tmp_path):
    table = whole()
    write_table(table, printed(table), tmp_path / "table5")
    line = next(
        line for line in (ROOT / "docs/formats.md").read_text().splitlines() if line.startswith("| `tables/table5.csv`")
    )
    columns = re.sub(r" \([^)]*\)", "", line.split("|")[3]).split(";")[0].strip().split(", ")
    assert columns == COLUMNS
    again = read_csv(tmp_path / "table5.csv")
    assert list(again.columns) == COLUMNS
    pd.testing.assert_frame_equal(again, table, check_dtype=False, rtol=1e-5)
    assert set(re.search(r"metric \((.*?)\)", line)[1].split(", ")) == set(table["metric"])


def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path):
    for name, seed in (("x", 0), ("y", 1)):
        metrics, found = (frame.sample(frac=1, random_state=seed) for frame in (rows(), lesions()))
        write_table(made(metrics, found), printed(whole()), tmp_path / name)
    assert (tmp_path / "x.csv").read_bytes() == (tmp_path / "y.csv").read_bytes()


def test_the_default_counts_at_any_overlap_and_at_a_tenth():
    assert TableSettings().lesion_overlap == 0.1


def test_the_page_has_a_section_for_it_that_says_what_the_numbers_contain():
    section = next(section for section in read_spec() if section.name == "detection")
    assert list(section.captions) == ["table5"] and "shift between cohorts" in section.text

"""Splits: the drawing rule as properties, and the authors' released CSVs against docs/paper.md#splits."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import SHARED

from uad.cohorts.people import person_of
from uad.cohorts.splits import (
    authors_splits,
    check_splits,
    draw_splits,
    overlaps,
    read_splits,
)
from uad.common.errors import InputError
from uad.common.tabular import write_table

CSVS = SHARED / "data" / "splits"
real_csvs = pytest.mark.skipif(not CSVS.is_dir(), reason="the authors' split CSVs are not on this machine")


def cohort(subjects, sites=None) -> pd.DataFrame:
    subjects = list(subjects)
    return pd.DataFrame({"subject": subjects, "site": sites or [""] * len(subjects), "age": np.nan})


def members(table: pd.DataFrame, split: str, fold: int) -> set[str]:
    rows = table[(table["split"] == split) & (table["fold"] == fold)]
    assert rows["subject"].is_unique
    return set(rows["subject"])


def ixi_like(n: int = 577) -> pd.DataFrame:
    """IXI's size and site shares (docs/paper.md#ixi: T2 from Guys 319, HH 185, IOP 74)."""
    sites = ["Guys"] * (n - 259) + ["HH"] * 185 + ["IOP"] * 74
    return cohort([f"IXI{i:03d}-{site}-{i + 700:04d}" for i, site in enumerate(sites)], sites)


# --- drawing ------------------------------------------------------------------------------------------------


def test_ixi_of_the_paper():
    """docs/paper.md#splits: 358 / 44 / 158 in five folds; D5: disjoint validation sets and one test set."""
    subjects = ixi_like()
    table = draw_splits(subjects, {"train": 358, "val": 44, "test": 158}, folds=5, seed=3141)
    check_splits(table)
    counts = table.groupby(["fold", "split"]).size()
    for fold in range(5):
        assert counts[fold].to_dict() == {"train": 358, "val": 44, "test": 158}
    assert len({frozenset(members(table, "test", fold)) for fold in range(5)}) == 1
    assert len(set.union(*[members(table, "val", fold) for fold in range(5)])) == 5 * 44
    site_of = dict(zip(subjects["subject"], subjects["site"], strict=True))
    totals = Counter(site_of.values())
    for fold in range(5):
        for split in ("val", "test"):
            found = Counter(site_of[s] for s in members(table, split, fold))
            size = sum(found.values())
            for site, total in totals.items():
                share = total / len(subjects)  # a stretch deviates by at most 1/2 + 3/2 share at either end
                assert abs(found[site] - size * share) <= 1 + 3 * share


@pytest.mark.parametrize(("name", "val", "test"), [("BraTS2021", 100, 1151), ("sub", 175, 480), ("W", 15, 45)])
def test_evaluated_cohorts_have_one_cut_for_all_folds(name, val, test):
    """Sizes of docs/paper.md#splits. The rule itself, worked out here: test first, then validation, by SHA-256."""
    subjects = cohort(f"{name}_{i:05d}" for i in range(val + test))
    table = draw_splits(subjects, {"val": val, "test": test}, folds=3, seed=11)
    by_hash = sorted(subjects["subject"], key=lambda s: hashlib.sha256(f"11:{s}".encode()).hexdigest())
    for fold in range(3):
        assert members(table, "test", fold) == set(by_hash[:test])
        assert members(table, "val", fold) == set(by_hash[test:])
        assert not members(table, "train", fold)


def test_site_does_not_change_the_cut_of_an_evaluated_cohort():
    """The Kaggle copy of BraTS has no sites, the TCIA copy has: both must give the same split."""
    names = [f"BraTS2021_{i:05d}" for i in range(40)]
    sizes = {"val": 10, "test": 30}
    without = draw_splits(cohort(names), sizes, folds=1, seed=0)
    pd.testing.assert_frame_equal(without, draw_splits(cohort(names, ["a", "b"] * 20), sizes, folds=1, seed=0))


def test_sessions_of_a_person_stay_together():
    subjects = cohort(f"sub-{i:02d}_ses-{s}" for i in range(20) for s in (1, 2))
    table = draw_splits(subjects, {"train": 10, "val": 2, "test": 4}, folds=3, seed=5)
    check_splits(table)  # by person
    assert table.groupby(["fold", "split"]).size()[0].to_dict() == {"train": 20, "val": 4, "test": 8}
    assert person_of("sub-r001s001") == "sub-r001s001" and person_of("sub-01_ses-1") == "sub-01"


@pytest.mark.parametrize(
    ("people", "sizes", "expected"),
    [
        (10, {"train": 0.6, "val": 0.1, "test": 0.3}, {"train": 6, "val": 1, "test": 3}),
        (577, {"train": 0.64, "val": 0.08, "test": 0.28}, {"train": 369, "val": 46, "test": 162}),
        (7, {"val": 0.3, "test": 0.7}, {"val": 2, "test": 5}),
        (10, {"train": 6.0, "val": 1.0, "test": 2.0}, {"train": 6, "val": 1, "test": 2}),
    ],
)
def test_shares_and_whole_numbers(people, sizes, expected):
    table = draw_splits(cohort(f"s{i}" for i in range(people)), sizes, folds=1, seed=1)
    assert table["split"].value_counts().to_dict() == expected


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"train": 8, "val": 1, "test": 2},
            "train 8, val 1, test 2 .* need 11 people, but the cohort has 10",
        ),
        ({"train": 1, "val": 3, "test": 2}, "need 11 people"),  # three disjoint validation sets
        ({"train": 0.5, "val": 0.3, "test": 0.3}, "add up to more than 1"),
        ({"train": 5, "val": 0.2, "test": 0.2}, "whole numbers or shares"),
        ({"train": 0.9, "val": 0.01, "test": 0.09}, "leave val empty"),
        ({"val": -1, "test": 2}, "must be positive"),
        ({"validation": 2, "test": 2}, "named train, val, test"),
        ({}, "must be positive"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        draw_splits(cohort(f"s{i}" for i in range(10)), sizes, folds=3, seed=1)


def test_subject_listed_twice_is_refused():
    with pytest.raises(InputError, match="subject a appears twice"):
        draw_splits(cohort(["a", "b", "a"]), {"val": 1, "test": 1}, folds=1, seed=1)


names = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_.", min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_cohort_is_split_disjointly_in_the_right_sizes_whatever_the_order(data):
    ids = data.draw(st.lists(names, min_size=5, max_size=25, unique_by=person_of))
    sites = data.draw(st.lists(st.sampled_from(["", "A", "B", "C"]), min_size=len(ids), max_size=len(ids)))
    folds = data.draw(st.integers(1, 4))
    healthy = data.draw(st.booleans())
    stretches = folds if healthy else 1
    val = data.draw(st.integers(1, (len(ids) - 1) // stretches))
    test = data.draw(st.integers(0, min(len(ids) - stretches * val, len(ids) - val - 1)))
    train = data.draw(st.integers(1, len(ids) - test - val)) if healthy else 0
    sizes, seed = {"train": train, "val": val, "test": test}, data.draw(st.integers(0, 2**32 - 1))
    table = draw_splits(cohort(ids, sites), sizes, folds, seed)
    check_splits(table)
    vals = []
    for fold in range(folds):
        sets = {split: members(table, split, fold) for split in sizes}
        assert {split: len(found) for split, found in sets.items()} == sizes
        assert len(set.union(*sets.values())) == train + val + test and set.union(*sets.values()) <= set(ids)
        assert sets["test"] == members(table, "test", 0)
        vals.append(sets["val"])
    assert len(set.union(*vals)) == (folds * val if healthy else val)
    shuffled = data.draw(st.permutations(range(len(ids))))
    again = draw_splits(cohort(ids, sites).iloc[list(shuffled)], sizes, folds, seed)
    pd.testing.assert_frame_equal(table, again)


def test_another_seed_gives_another_draw():
    sizes = {"train": 358, "val": 44, "test": 158}
    first, second = (draw_splits(ixi_like(), sizes, folds=1, seed=seed) for seed in (1, 2))
    # 158 of 577 drawn twice independently share 43 on average, with a standard deviation of about 5
    assert 20 < len(members(first, "test", 0) & members(second, "test", 0)) < 70


# --- checking -----------------------------------------------------------------------------------------------


def split_table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["subject", "split", "fold"])


@pytest.mark.parametrize("pair", [("train", "val"), ("train", "test"), ("val", "test")])
def test_any_overlap_is_refused_unless_allowed(pair):
    table = split_table(("a", pair[0], 0), ("a", pair[1], 0), ("b", "test", 0))
    with pytest.raises(InputError, match=f"fold 0: {pair[0]} and {pair[1]} share 1 subjects: a"):
        check_splits(table)
    check_splits(table, allow_overlap=True)


def test_sessions_of_one_person_in_two_splits_are_an_overlap():
    with pytest.raises(InputError, match="share 1 subjects: sub-01"):
        check_splits(split_table(("sub-01_ses-1", "train", 0), ("sub-01_ses-2", "test", 0)))


def test_one_subject_may_have_other_splits_in_other_folds():
    check_splits(split_table(("a", "train", 0), ("a", "val", 1), ("b", "val", 0), ("b", "train", 1)))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (split_table(("a", "train", 0), ("a", "train", 0)), "a is listed twice"),
        (split_table(("a", "Test", 0)), "unknown split 'Test'"),
        (split_table(("a", "test", 0)).drop(columns="fold"), "columns must be subject, split, fold"),
    ],
)
def test_malformed_tables_are_refused_even_when_overlap_is_allowed(table, message):
    with pytest.raises(InputError, match=message):
        check_splits(table, allow_overlap=True)


def test_round_trip_keeps_ids_as_strings(tmp_path):
    table = split_table(("001", "train", 0), ("NA", "test", 0))
    write_table(table, tmp_path / "splits.tsv")
    pd.testing.assert_frame_equal(read_splits(tmp_path / "splits.tsv"), table, check_dtype=False)


# --- the authors' splits ------------------------------------------------------------------------------------


def csv_ids(*patterns: str) -> set[str]:
    """All subject ids in CSV files, read without the code under test."""
    ids = set()
    for pattern in patterns:
        for path in CSVS.glob(pattern):
            ids |= set(pd.read_csv(path)["img_name"].str.removesuffix("_t1.nii.gz"))
    return ids


@pytest.fixture(scope="module")
def authors_ixi():
    return authors_splits(CSVS, "ixi", csv_ids("IXI_*.csv"), folds=5)


@real_csvs
def test_authors_ixi_counts(authors_ixi):
    """docs/paper.md#splits: unique names after the T2 filter."""
    table, _ = authors_ixi
    assert [len(members(table, "train", fold)) for fold in range(5)] == [372, 372, 374, 376, 376]
    assert [len(members(table, "val", fold)) for fold in range(5)] == [44, 44, 44, 43, 43]
    assert [len(members(table, "test", fold)) for fold in range(5)] == [155] * 5
    assert table["subject"].nunique() == 562
    assert len(members(table, "test", 0) - members(table, "train", 0)) == 146
    vals = [members(table, "val", fold) for fold in range(5)]
    assert len(set.union(*vals)) < sum(map(len, vals))  # no cross-validation partition


@real_csvs
def test_authors_ixi_of_t1_alone_is_not_filtered_by_t2():
    """The CSVs' own unique names, counted without the code under test; the T2 filter takes two of the test set."""
    ids = csv_ids("IXI_*.csv")
    both, alone = (authors_splits(CSVS, "ixi", ids, 1, modalities)[0] for modalities in (("t1", "t2"), ("t1",)))
    for split, file in (("train", "IXI_train_fold0.csv"), ("val", "IXI_val_fold0.csv"), ("test", "IXI_test.csv")):
        assert members(alone, split, 0) == csv_ids(file)
        assert members(both, split, 0) <= members(alone, split, 0)
    assert members(alone, "test", 0) - members(both, "test", 0) == {"IXI116-Guys-0739", "IXI182-Guys-0792"}


@real_csvs
def test_authors_ixi_leakage(authors_ixi):
    """docs/paper.md#splits: train/test 9,9,9,7,8; train/val 2,3,3 in folds 2,3,4; val/test 2,1 in folds 3,4."""
    table, notes = authors_ixi
    counts = overlaps(table).groupby(["first", "second", "fold"]).size()
    assert counts["train", "test"].to_dict() == {0: 9, 1: 9, 2: 9, 3: 7, 4: 8}
    assert counts["train", "val"].to_dict() == {2: 2, 3: 3, 4: 3}
    assert counts["val", "test"].to_dict() == {3: 2, 4: 1}
    in_train_and_test = set(overlaps(table).query("fold == 0")["person"].str[3:6])
    assert in_train_and_test == {"219", "237", "447", "493", "499", "512", "531", "549", "552"}
    assert "LEAKAGE fold 3: train and test share 7 subjects" in "\n".join(notes)
    assert "IXI_test.csv: 158 rows for 155 subjects, each is used once" in notes
    with pytest.raises(InputError, match="train and test share 9 subjects"):
        check_splits(table)
    check_splits(table, allow_overlap=True)


@real_csvs
@pytest.mark.parametrize(
    ("name", "pattern", "val", "test"),
    [
        ("brats21", "Brats21_*.csv", 100, 1151),
        ("mslub", "MSLUB_*.csv", 10, 20),
        ("atlas", "ATLAS_v2_*.csv", 66, 589),
        ("wmh", "WMH_*.csv", 15, 45),
    ],
)
def test_authors_splits_of_the_evaluated_cohorts(name, pattern, val, test):
    table, notes = authors_splits(CSVS, name, csv_ids(pattern), folds=5)
    check_splits(table)
    assert notes == []
    for fold in range(5):
        assert len(members(table, "val", fold)) == val and len(members(table, "test", fold)) == test
        assert not members(table, "train", fold)


@real_csvs
@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("brats21", r"BraTS2021_\d{5}"),
        ("mslub", r"patient\d{2}"),
        ("atlas", r"sub-r\d{3}s\d{3}"),
        ("wmh", r"(Utrecht|Singapore|GE3T)_\d+"),
        ("ixi", r"IXI\d{3}-(Guys|HH|IOP)-\d+"),
    ],
)
def test_authors_ids_have_the_form_of_our_adapters_ids(name, pattern):
    files = {
        "brats21": "Brats21_*",
        "mslub": "MSLUB_*",
        "atlas": "ATLAS_v2_*",
        "wmh": "WMH_*",
        "ixi": "IXI_*",
    }
    table, _ = authors_splits(CSVS, name, csv_ids(files[name]), folds=1)
    assert table["subject"].str.fullmatch(pattern).all()


@real_csvs
def test_authors_splits_keep_to_the_available_subjects_and_say_so():
    ids = csv_ids("MSLUB_*.csv")
    table, notes = authors_splits(CSVS, "mslub", (ids - {"patient01"}) | {"patient99"}, folds=1)
    assert set(table["subject"]) == ids - {"patient01"}
    assert notes == [
        "1 subjects of the authors' splits are not in the cohort",
        "1 subjects of the cohort are in none of the authors' splits",
    ]


@real_csvs
def test_authors_splits_of_other_data_are_refused():
    with pytest.raises(InputError, match="none of its subjects is in the cohort"):
        authors_splits(CSVS, "wmh", ["phantom-1"], folds=1)


def test_authors_splits_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(InputError, match="the authors have none for 'folder'"):
        authors_splits(tmp_path, "folder", ["a"], folds=1)
    with pytest.raises(InputError, match="5 folds for ixi, not 6"):
        authors_splits(tmp_path, "ixi", ["a"], folds=6)
    with pytest.raises(InputError, match=r"avail_t2\.csv: cannot be read .*Conditioned-Diffusion-Models-UAD"):
        authors_splits(tmp_path, "ixi", ["a"], folds=1)

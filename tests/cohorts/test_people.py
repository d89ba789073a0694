"""Who is who: visits of one person by their ids, and scans and people that cohorts share."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pandas as pd
import pytest

from uad.cohorts.leaks import check_leaks, find_leaks, notes_on
from uad.cohorts.people import person_of, tells_who, visits
from uad.cohorts.splits import check_splits, draw_splits
from uad.common.errors import InputError
from uad.config.model import CohortSettings

SETTINGS = {"adapter": "folder", "modalities": ["t2"], "subjects": 3, "splits": {"val": 1, "test": 1}}


@pytest.mark.parametrize(
    ("subject", "person"),
    [
        ("OAS2_0001_MR1", "OAS2_0001"),  # OASIS-2
        ("OAS1_0061_MR2", "OAS1_0061"),  # OASIS-1
        ("OAS30001_MR_d0129", "OAS30001"),  # OASIS-3
        ("sub-OAS30001_ses-d0129", "sub-OAS30001"),
        ("sub-01_ses-1", "sub-01"),
        ("sub-01_ses-M006", "sub-01"),
        ("002_S_0295_m12", "002_S_0295"),
        ("pat7_V1", "pat7"),
        ("pat7-visit-02", "pat7"),
        ("pat7_visit2", "pat7"),
        ("pat7_tp1", "pat7"),
        ("pat7_timepoint3", "pat7"),
        ("pat7_BL", "pat7"),
        ("pat7_baseline", "pat7"),
        ("pat7_FU2", "pat7"),
        ("pat7_scan2_V1", "pat7"),
        # the data sets of the paper, and ids that only look alike
        ("IXI012-HH-1211", "IXI012-HH-1211"),
        ("BraTS2021_00621", "BraTS2021_00621"),
        ("sub-r001s001", "sub-r001s001"),
        ("patient01", "patient01"),
        ("GE3T_100", "GE3T_100"),
        ("Utrecht_0", "Utrecht_0"),
        ("MR1", "MR1"),
        ("1.0", "1.0"),
        ("TCGA-CS-4941", "TCGA-CS-4941"),
    ],
)
def test_endings_of_visits(subject, person):
    assert person_of(subject) == person


def test_a_rule_of_ones_own():
    rule = r"^([A-Z]+\d+)[abc]$"
    assert person_of("P12b", rule) == "P12" and person_of("P12b") == "P12b"
    assert visits(["P2a", "P1b", "P1a"], rule) == {"P1": ["P1a", "P1b"]}
    with pytest.raises(InputError, match="does not match the subject id 'x'"):
        person_of("x", rule)


@pytest.mark.parametrize(
    ("rule", "message"), [("(a)(b)", "one group .* it has 2"), ("a", "has 0"), ("(", "expression")]
)
def test_a_rule_needs_one_group(rule, message):
    with pytest.raises(ValueError, match=message):
        CohortSettings.model_validate(SETTINGS | {"person": rule})


@pytest.mark.parametrize(
    ("ids", "rule"), [("OAS2_{:04}_MR{}", None), ("s{:02}_bl.{}", None), ("{:02}x{}", r"^(\d+)x")], ids=str
)
def test_visits_stay_in_one_split(ids, rule):
    people = 12
    subjects = [ids.format(n, visit) for n in range(people) for visit in (1, 2)]
    table = draw_splits(pd.DataFrame({"subject": subjects, "site": ""}), {"val": 0.3, "test": 0.7}, 1, 7, rule)
    check_splits(table, person=rule)
    if ids.startswith("s"):
        return  # no ending of a visit: twice as many people
    assert table["split"].value_counts().to_dict() == {"val": 8, "test": 16}  # 0.3 of 12 people are 4, of 2 scans each
    side = dict(zip(table["subject"], table["split"], strict=True))
    assert all(side[ids.format(n, 1)] == side[ids.format(n, 2)] for n in range(people))


def test_too_few_people_says_how_scans_are_counted():
    subjects = pd.DataFrame({"subject": [f"study_v{n}" for n in range(9)], "site": ""})
    with pytest.raises(InputError, match=r"the cohort has 1 with 9 scans \(cohorts.<name>.person says"):
        draw_splits(subjects, {"val": 2, "test": 4}, 1, 7)


@pytest.mark.parametrize("name", ["OAS2_0001", "IXI012-HH-1211", "sub-r001s001", "sub-NDARINV1234", "TCGA-CS-4941"])
def test_ids_that_say_who_it_is(name):
    assert tells_who(name)


@pytest.mark.parametrize("name", ["sub-01", "sub-00001", "patient12", "case_0001", "HC001", "1", "000017", "Utrecht_0"])
def test_ids_that_are_too_general(name):
    assert not tells_who(name)


# --- between cohorts ----------------------------------------------------------------------------------------


class Cohorts:
    """Cohort and split tables with files of their own."""

    def __init__(self, folder: Path):
        self.folder, self.tables, self.splits, self.rules, self.planted = folder, {}, {}, {}, {}

    def add(self, name: str, *rows: tuple, modality: str = "t2", rule: str | None = None, folds: int = 1) -> None:
        """rows: subject, split, content of the scan (default: its own), level of compression (default: plain)."""
        lines, splits = [], []
        for subject, split, *more in rows:
            content, level = (*more, None, None)[:2]
            data = (content or f"{name}-{subject}").encode()
            path = self.folder / f"{name}-{subject}"
            path.write_bytes(data if level is None else gzip.compress(data, level, mtime=level))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append({"subject": subject, "t1": "", "t2": "", modality: str(path), "sha256": digest})
            splits += [(subject, split, fold) for fold in range(folds)] if isinstance(split, str) else []
            splits += [(subject, each, fold) for fold, each in split.items()] if isinstance(split, dict) else []
        self.tables[name] = pd.DataFrame(lines)
        self.splits[name] = pd.DataFrame(splits, columns=["subject", "split", "fold"])
        self.rules[name] = rule

    def found(self, said=None) -> list[tuple]:
        """(same, leak) of every pair."""
        say = (said if said is not None else []).append
        self.table = find_leaks(self.tables, self.splits, self.rules, say, self.planted)
        return list(zip(self.table["same"], self.table["leak"], strict=True))


@pytest.fixture
def cohorts(tmp_path):
    return Cohorts(tmp_path)


@pytest.mark.parametrize(
    ("here", "there", "leak"),
    [
        ("train", "test", 1), ("val", "test", 1), ("train", "val", 1), ("test", "train", 1), ("test", "val", 1),
        ("val", "train", 1), ("test", "test", 0), ("val", "val", 0), ("train", "train", 0), (None, "test", 0),
    ],
)  # fmt: skip
def test_the_same_scan_in_two_cohorts(cohorts, here, there, leak):
    cohorts.add("healthy", ("h1", here, "one"), ("h2", "train"))
    cohorts.add("mine", ("m1", there, "one"), ("m2", "test"))
    assert cohorts.found() == [("scan", leak)]
    if leak:
        with pytest.raises(InputError, match=r"h1 of healthy .* and m1 of mine .* are the same scan"):
            check_leaks(cohorts.table)
    else:
        check_leaks(cohorts.table)
        assert "healthy and mine: 1 scans are in both, in the same split: h1" in notes_on(cohorts.table)


def test_a_scan_that_was_compressed_again(cohorts):
    cohorts.add("a", ("x", "train", "one" * 99, 1))
    cohorts.add("b", ("y", "test", "one" * 99, 9))
    cohorts.add("c", ("z", "test", "one" * 99))
    assert ("scan", 1) in cohorts.found() and len(cohorts.table) >= 2
    for path in cohorts.folder.iterdir():
        path.unlink()
    said = []
    assert cohorts.found(said) == [] and "3 raw scans are no longer there" in said[0]


def test_the_same_bytes_are_recognised_without_the_files(cohorts):
    cohorts.add("a", ("x", "train", "one"))
    cohorts.add("b", ("y", "test", "one"))
    for path in cohorts.folder.iterdir():
        path.unlink()
    assert cohorts.found() == [("scan", 1)]


def test_cohorts_that_share_nobody_need_no_note():
    table = find_leaks({}, {}, {})
    assert table.empty and notes_on(table) == notes_on(table, {"planted": "healthy"}) == []


def test_cohorts_without_a_common_modality_never_meet(cohorts):
    cohorts.add("a", ("OAS2_0001", "train", "one"), modality="t1")
    cohorts.add("b", ("OAS2_0001", "test", "one"), modality="t2")
    assert cohorts.found() == []


def test_folds_are_compared_one_by_one(cohorts):
    cohorts.add("a", ("x", {0: "test", 1: "train"}, "one"))
    cohorts.add("b", ("y", {0: "test", 1: "val"}, "one"))
    assert cohorts.found() == [("scan", 1)]
    cohorts.add("b", ("y", {0: "test"}, "one"))
    assert cohorts.found() == [("scan", 0)]


@pytest.mark.parametrize(
    ("first", "second", "rules", "expected"),
    [
        ("OAS2_0001_MR1", "OAS2_0001_MR2", (None, None), [("person", 1)]),
        ("sub-OAS20001_ses-1", "OAS2_0001_MR2", (None, None), [("person", 1)]),
        ("sub-01_ses-1", "sub-01_ses-2", (None, None), [("id", 0)]),
        ("sub-01", "sub-01", (r"(sub-\d+)",) * 2, [("person", 1)]),
        ("sub-01", "sub-01", (r"(sub-\d+)", None), [("id", 0)]),
        ("OAS2_0001_MR1", "OAS2_0002_MR1", (None, None), []),
        ("1.0", "10", (None, None), []),
    ],
)
def test_the_same_person_in_two_cohorts(cohorts, first, second, rules, expected):
    cohorts.add("healthy", (first, "train"), rule=rules[0])
    cohorts.add("mine", (second, "test"), rule=rules[1])
    assert cohorts.found() == expected
    if expected == [("person", 1)]:
        with pytest.raises(
            InputError, match=rf"{first} of healthy \(train\) and {second} of mine \(test\) are the same p"
        ):
            check_leaks(cohorts.table)
    if expected == [("id", 0)]:
        assert "too general to mean one person" in notes_on(cohorts.table)[0]


@pytest.mark.parametrize(
    ("planted", "healthy", "leak"),
    [
        ("val", "test", 0),  # it sets the threshold of the planted cohort, on which nothing healthy is scored
        ("test", "test", 0), ("test", "val", 1), ("test", "train", 1), ("val", "train", 1), ("val", "val", 0),
    ],
)  # fmt: skip
def test_planted_scans_are_of_people_that_are_only_tested(cohorts, planted, healthy, leak):
    cohorts.add("healthy", ("sub-IXI012HH1211", healthy))
    cohorts.add("planted", ("sub-IXI012HH1211_ses-planted1", planted))
    cohorts.add("twice", ("sub-IXI999HH9999_ses-planted1", planted))
    cohorts.planted = {"planted": "healthy", "twice": "healthy"}
    assert cohorts.found() == [("person", leak)]
    assert notes_on(cohorts.table, cohorts.planted) == []
    cohorts.planted = {}
    assert cohorts.found() == [("person", int(planted != healthy))]

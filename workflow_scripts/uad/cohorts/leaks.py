"""Leaks between the cohorts of a run: a scan or person that is trained on in one cohort and tested on in another.

Leaks within a cohort are found by `check_splits` and ingest.  Only cohorts with a common modality are compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from uad.cohorts.duplicates import Contents
from uad.cohorts.people import name_across_cohorts, person_of, tells_who
from uad.cohorts.report import listed
from uad.cohorts.table import MODALITIES
from uad.common.errors import InputError

COLUMNS = ("same", "cohort", "subject", "splits", "other_cohort", "other_subject", "other_splits", "leak")
# train: the weights; val: the checkpoint, and the threshold of the own cohort
_LEAKS = {("train", "val"), ("train", "test"), ("val", "test")}
_MOST_NAMED = 3
NOTHING_PLANTED: Mapping[str, str] = MappingProxyType({})


def find_leaks(
    cohorts: Mapping[str, pd.DataFrame],
    splits: Mapping[str, pd.DataFrame],
    rules: Mapping[str, str | None],
    progress: Callable[[str], None] = lambda line: None,
    planted: Mapping[str, str] = NOTHING_PLANTED,
) -> pd.DataFrame:
    """Scans and people that two cohorts share.

    Two ids mean the same person if both cohorts have the same explicit rule and it gives the same id, or if the id is
    specific (`tells_who`).  Equal ids as general as `sub-01` are listed, but do not count as a leak.

    Args:
        cohorts: cohort tables by name.  A scan is compared by its bytes and, where its file is still there, by its
            uncompressed content.
        splits: split tables by name.
        rules: `cohorts.<name>.person` by name; None: the default.
        planted: planted cohort -> healthy cohort that its scans are of.  Val of the one may be in test of the other: it
            sets the threshold of the planted cohort only.

    Returns:
        One row per pair, columns `COLUMNS`: same (scan, person, or id: too general to mean one person), the subjects
        with their splits, and whether it is a leak (1 or 0): in one fold, in train of one cohort and val or test of the
        other, or in val of one and test of the other.
    """
    where = {name: _splits_of(table) for name, table in splits.items()}
    pairs = {(*ends, "scan") for ends in _same_scans(cohorts, progress)}
    known = {ends[:2] for ends in pairs}
    pairs |= {pair for pair in _same_people(cohorts, rules) if pair[:2] not in known}
    rows = []
    for first, second, same in sorted(pairs):
        here, there = where[first[0]].get(first[1], set()), where[second[0]].get(second[1], set())
        apart = any(
            fold == other_fold
            and (
                _leads((first[0], split), (second[0], other), planted)
                or _leads((second[0], other), (first[0], split), planted)
            )
            for fold, split in here
            for other_fold, other in there
        )
        names = [", ".join(sorted({split for _, split in ends})) for ends in (here, there)]
        rows.append((same, *first, names[0], *second, names[1], int(apart and same != "id")))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _leads(chosen: tuple[str, str], tested: tuple[str, str], planted: Mapping[str, str]) -> bool:
    """Whether something that is chosen on (cohort, split) would be tested on the other."""
    threshold_only = planted.get(chosen[0]) == tested[0] and chosen[1] == "val"
    return (chosen[1], tested[1]) in _LEAKS and not threshold_only


def check_leaks(table: pd.DataFrame) -> None:
    """Refuse a run with leaks.

    Raises:
        InputError: names the first.
    """
    leaks = table[table["leak"] == 1]
    if leaks.empty:
        return
    lines = [
        f"{row['subject']} of {row['cohort']} ({row['splits']}) and {row['other_subject']} of {row['other_cohort']} "
        f"({row['other_splits']}) are the same {row['same']}"
        for row in leaks.head(_MOST_NAMED).to_dict("records")
    ]
    more = f"; and {len(leaks) - _MOST_NAMED} more" if len(leaks) > _MOST_NAMED else ""
    raise InputError(
        f"{'; '.join(lines)}{more}: one cohort would be tested on data that another trains on; take them out "
        "of one of the two raw folders, or say with cohorts.<name>.person who is who (docs/own-data.md)"
    )


def notes_on(table: pd.DataFrame, planted: Mapping[str, str] = NOTHING_PLANTED) -> list[str]:
    """Notes on pairs that are not a leak; that planted scans are of a healthy cohort is none."""
    pairs = {frozenset(pair) for pair in planted.items()}
    wanted = [frozenset(pair) in pairs for pair in zip(table["cohort"], table["other_cohort"], strict=True)]
    table = table[~np.array(wanted, bool)]
    words = {
        "scan": "scans are in both, in the same split",
        "person": "people are in both, in the same split",
        "id": "ids are in both, too general to mean one person; if they do, give both the same cohorts.<name>.person",
    }
    return [
        f"{cohort} and {other}: {len(rows)} {words[same]}: {listed(rows['subject'], _MOST_NAMED)}"
        for (cohort, other, same), rows in table[table["leak"] == 0].groupby(["cohort", "other_cohort", "same"])
    ]


def _splits_of(table: pd.DataFrame) -> dict[str, set[tuple[int, str]]]:
    """(fold, split) by subject."""
    found: dict[str, set[tuple[int, str]]] = {}
    for subject, split, fold in table[["subject", "split", "fold"]].itertuples(index=False):
        found.setdefault(subject, set()).add((fold, split))
    return found


def _same_scans(cohorts: Mapping[str, pd.DataFrame], progress: Callable[[str], None]) -> set[tuple]:
    """Pairs of (cohort, subject) of different cohorts whose scans of one modality are the same."""
    pairs, gone = set(), 0
    for modality in MODALITIES:
        by_bytes: dict[str, list[tuple[str, str]]] = {}
        contents = Contents()
        for cohort, table in cohorts.items():
            for row in table[table[modality] != ""].to_dict("records"):
                end = (cohort, row["subject"])
                digest = row["sha256"].split(";")[sum(row[m] != "" for m in MODALITIES[: MODALITIES.index(modality)])]
                twins = by_bytes.setdefault(digest, [])
                if Path(row[modality]).is_file():
                    twin = contents.owner(row[modality])
                    contents.add(row[modality], end)
                else:
                    gone, twin = gone + 1, None
                pairs |= {(other, end) for other in (*twins, *([twin] if twin else []))}
                twins.append(end)
    if gone:
        progress(f"{gone} raw scans are no longer there: copies of them that were compressed again are not recognised")
    return {tuple(sorted(pair)) for pair in pairs if pair[0][0] != pair[1][0]}


def _same_people(cohorts: Mapping[str, pd.DataFrame], rules: Mapping[str, str | None]) -> set[tuple]:
    """Pairs as above, with `person` or `id`."""
    people: dict[str, list[tuple[str, str, str]]] = {}
    has = {name: {m for m in MODALITIES if (table[m] != "").any()} for name, table in cohorts.items()}
    for cohort, table in cohorts.items():
        for subject in table["subject"]:
            person = person_of(subject, rules.get(cohort))
            people.setdefault(name_across_cohorts(person), []).append((cohort, subject, person))
    pairs = set()
    for scans in people.values():
        for (first, subject, person), (second, other, person_there) in itertools.combinations(sorted(scans), 2):
            if first == second or not has[first] & has[second]:
                continue
            stated = rules.get(first) is not None and rules.get(first) == rules.get(second)
            if person == person_there or (tells_who(person) and not stated):
                same = "person" if stated or tells_who(person) else "id"
                pairs.add(((first, subject), (second, other), same))
    return pairs

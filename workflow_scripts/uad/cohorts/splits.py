"""Train, validation and test splits: drawn by a rule from the ids (`clean`), or read from the authors' CSVs.

The rule (D4, D5, D20). A split divides *people*: the visits of one person (`sub-01_ses-1`,
`OAS2_0001_MR2`; uad/cohorts/people.py) stay together, and all sizes count people.

1. People are ordered by the SHA-256 of `<seed>:<person>`.
2. For a cohort that is trained on, the order is stratified by site: person i of a site's n (i from 0) gets
   the place (i + 1/2) / n, and people are re-ordered by place, then hash. Any stretch of that order then has
   every site's share. Other cohorts are not stratified: their site can depend on which archive the user has.
3. The first people are the test set, the same in all folds.
4. A training cohort's validation sets are the next stretches, one per fold and disjoint; the training set of
   a fold is the first people of the rest. Another cohort has one validation stretch, repeated for all folds.
5. People beyond the sizes asked for stay unused.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import pandas as pd

from uad.cohorts.people import person_of
from uad.cohorts.table import listed
from uad.common.errors import InputError
from uad.common.tabular import read_table

SPLITS = ("train", "val", "test")
COLUMNS = ("subject", "split", "fold")

_AUTHORS_NAMES = {"ixi": "IXI", "brats21": "Brats21", "mslub": "MSLUB", "atlas": "ATLAS_v2", "wmh": "WMH"}
_AUTHORS_FOLDS = 5


def draw_splits(
    subjects: pd.DataFrame, sizes: Mapping[str, float], folds: int, seed: int, person: str | None = None
) -> pd.DataFrame:
    """Draw splits by the rule above; the result does not depend on the order of rows.

    Args:
        subjects: columns `subject` and `site`, one row per subject.
        sizes: people per split under `train`, `val`, `test` (`train` missing or 0: only evaluated on).
            Whole numbers, or shares of the cohort when all are below 1.
        folds: number of folds.
        seed: another seed gives another draw.
        person: rule that tells the person from the id (`person_of`).

    Returns:
        `subject`, `split`, `fold`, sorted by fold, split (train, val, test) and subject.

    Raises:
        InputError: the cohort is too small for the sizes, or the sizes make no sense.
    """
    if subjects["subject"].duplicated().any():
        raise InputError(
            f"splits: subject {subjects['subject'][subjects['subject'].duplicated()].iloc[0]} appears twice"
        )
    sites: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    for subject, site in sorted(zip(subjects["subject"], subjects["site"], strict=True)):
        sites.setdefault(person_of(subject, person), site)
        members.setdefault(person_of(subject, person), []).append(subject)
    train, val, test = _counts(sizes, len(members))
    order = _ordered(sites, seed, stratify=train > 0)
    stretches = folds if train else 1
    needed = test + max(stretches * val, val + train)
    if needed > len(order):
        scans = ""
        if len(order) < len(subjects):
            scans = f" with {len(subjects)} scans (cohorts.<name>.person says which are of one person)"
        raise InputError(
            f"splits: sizes train {train}, val {val}, test {test} with {stretches} disjoint validation "
            f"set(s) need {needed} people, but the cohort has {len(order)}{scans}; give smaller sizes, or shares "
            "such as 0.2"
        )
    rows = []
    for fold in range(folds):
        start = test + (fold % stretches) * val
        rest = order[test:start] + order[start + val :]
        chosen = {"train": rest[:train], "val": order[start : start + val], "test": order[:test]}
        rows += [
            (subject, split, fold)
            for split, people in chosen.items()
            for person in people
            for subject in members[person]
        ]
    return _sorted(pd.DataFrame(rows, columns=list(COLUMNS)))


def _counts(sizes: Mapping[str, float], people: int) -> tuple[int, int, int]:
    """Numbers of people (train, val, test). Shares are cut at rounded cumulative sums of test, val, train."""
    unknown = set(sizes) - set(SPLITS)
    values = {split: float(sizes.get(split) or 0) for split in SPLITS}
    text = ", ".join(f"{split} {value:g}" for split, value in values.items())
    if unknown or min(values.values()) < 0 or not any(values.values()):
        raise InputError(f"splits: sizes must be positive and named train, val, test (got {dict(sizes)})")
    if max(values.values()) >= 1:
        if any(value != int(value) for value in values.values()):
            raise InputError(f"splits: sizes are either whole numbers or shares all below 1 (got {text})")
        train, val, test = (int(values[split]) for split in SPLITS)
        return train, val, test
    if sum(values.values()) > 1 + 1e-9:
        raise InputError(f"splits: shares add up to more than 1 ({text})")
    sums = itertools.accumulate(values[split] for split in ("test", "val", "train"))
    cuts = [0, *(int(people * min(share, 1) + 0.5) for share in sums)]
    test, val, train = (cuts[i + 1] - cuts[i] for i in range(3))
    counts = {"train": train, "val": val, "test": test}
    empty = [split for split in SPLITS if values[split] > 0 and counts[split] == 0]
    if empty:
        raise InputError(f"splits: shares {text} of {people} people leave {empty[0]} empty; give a larger share")
    return train, val, test


def _ordered(sites: Mapping[str, str], seed: int, stratify: bool) -> list[str]:
    """People in the order that the sets are cut from (points 1 and 2 of the rule)."""
    digest = {person: hashlib.sha256(f"{seed}:{person}".encode()).hexdigest() for person in sites}
    order = sorted(sites, key=digest.__getitem__)
    if not stratify:
        return order
    place: dict[str, float] = {}
    for site in set(sites.values()):
        people = [person for person in order if sites[person] == site]
        place.update({person: (i + 0.5) / len(people) for i, person in enumerate(people)})
    return sorted(order, key=lambda person: (place[person], digest[person]))


def authors_splits(
    csv_folder: str | Path, cohort: str, available: Iterable[str], folds: int, modalities: Collection[str] = ("t2",)
) -> tuple[pd.DataFrame, list[str]]:
    """The splits of the authors' released CSV files (docs/paper.md#splits), overlaps included, double rows left out.

    IXI names are first filtered by `avail_t2.csv` where T2 is used, as the authors do; then all names by `available`.

    Args:
        csv_folder: folder with `IXI_train_fold0.csv`, ..., `WMH_test.csv` under the authors' file names.
        cohort: adapter name: ixi, brats21, mslub, atlas or wmh.
        available: subject ids of the cohort table.
        folds: number of folds, at most 5 for IXI.
        modalities: of the run; both share one split, so T1 too is filtered unless it is used alone.

    Returns:
        `subject`, `split`, `fold`, and notes on leakage, double rows and unmatched subjects. The table may
        have a subject in several splits of a fold: check it with `check_splits(table, allow_overlap=True)`.

    Raises:
        InputError: a file is missing, there are no such splits, or no name matches the cohort.
    """
    if cohort not in _AUTHORS_NAMES:
        raise InputError(
            f"splits: the authors have none for '{cohort}', only for {', '.join(_AUTHORS_NAMES)}; use clean"
        )
    if cohort == "ixi" and folds > _AUTHORS_FOLDS:
        raise InputError(f"splits: the authors have {_AUTHORS_FOLDS} folds for ixi, not {folds}; lower `folds`")
    folder, stem, available = Path(csv_folder), _AUTHORS_NAMES[cohort], set(available)
    with_t2 = set(_names(folder / "avail_t2.csv", "0")) if cohort == "ixi" and "t2" in modalities else None
    rows, notes, known = [], [], set()
    for fold in range(folds):
        for split in SPLITS if cohort == "ixi" else SPLITS[1:]:
            per_fold = f"_fold{fold}" if cohort == "ixi" and split != "test" else ""
            path = folder / f"{stem}_{split}{per_fold}.csv"
            names = [name for name in _names(path, "img_name") if with_t2 is None or name in with_t2]
            known.update(names)
            if len(set(names)) < len(names):
                notes.append(f"{path.name}: {len(names)} rows for {len(set(names))} subjects, each is used once")
            rows += [(name, split, fold) for name in sorted(set(names) & available)]
            if available.isdisjoint(names):
                raise InputError(f"{path}: none of its subjects is in the cohort; use the clean splits")
    if known - available:
        notes.append(f"{len(known - available)} subjects of the authors' splits are not in the cohort")
    if available - known:
        notes.append(f"{len(available - known)} subjects of the cohort are in none of the authors' splits")
    table = _sorted(pd.DataFrame(rows, columns=list(COLUMNS)))
    return table, list(dict.fromkeys(notes)) + _leak_notes(overlaps(table))


def _names(path: Path, column: str) -> list[str]:
    """Subject ids of a CSV in file order: its names without `_t1.nii.gz` or `_t2.nii.gz`."""
    try:
        names = read_table(path)[column]
    except (InputError, KeyError) as error:
        raise InputError(
            f"{path}: cannot be read as one of the authors' split files (column {column}); get it from their "
            "repositories FinnBehrendt/Conditioned-Diffusion-Models-UAD (IXI, BraTS21, MSLUB) and "
            "FinnBehrendt/Ensembled-SSIM-for-Unsupervised-Anomaly-Detection (ATLAS, WMH), folder Data/splits"
        ) from error
    return names.str.replace(r"_t[12]\.nii\.gz$", "", regex=True).tolist()


def overlaps(table: pd.DataFrame, person: str | None = None) -> pd.DataFrame:
    """People in two splits of one fold: `fold`, `first`, `second` (splits), `person`, one row per pair."""
    people = table.assign(person=[person_of(subject, person) for subject in table["subject"]])
    rows = []
    for fold, part in people.groupby("fold"):
        sets = {split: set(part["person"][part["split"] == split]) for split in SPLITS}
        for first, second in itertools.combinations(SPLITS, 2):
            rows += [(fold, first, second, person) for person in sorted(sets[first] & sets[second])]
    return pd.DataFrame(rows, columns=["fold", "first", "second", "person"])


def _leak_notes(shared: pd.DataFrame) -> list[str]:
    groups = shared.groupby(["fold", "first", "second"], sort=False)["person"]
    return [
        f"LEAKAGE fold {fold}: {first} and {second} share {len(people)} subjects: {', '.join(people)}"
        for (fold, first, second), people in groups
    ]


def check_splits(table: pd.DataFrame, allow_overlap: bool = False, person: str | None = None) -> None:
    """Refuse a split table with wrong columns, unknown splits, double rows or, unless allowed, overlap.

    Overlap is a person in two splits of one fold; only protocol `authors` allows it.

    Raises:
        InputError: naming the first offence.
    """
    if tuple(table.columns) != COLUMNS:
        raise InputError(f"splits: columns must be {', '.join(COLUMNS)}, not {', '.join(map(str, table.columns))}")
    unknown = set(table["split"]) - set(SPLITS)
    if unknown:
        raise InputError(f"splits: unknown split '{min(unknown)}'; known are {', '.join(SPLITS)}")
    double = table["subject"][table.duplicated()]
    if len(double):
        raise InputError(f"splits: {double.iloc[0]} is listed twice in one split of a fold")
    leaks = _leak_notes(overlaps(table, person))
    if leaks and not allow_overlap:
        raise InputError(f"splits: {leaks[0]}")


def read_splits(path: str | Path) -> pd.DataFrame:
    """A split table: `subject` and `split` strings, `fold` integer."""
    return read_table(path, integers=("fold",))


def subjects_in(
    path: str | Path, fold: int, splits: Collection[str], held: Collection[str], progress: Callable[[str], None]
) -> list[str]:
    """Sorted subjects of some splits of a fold, as far as a store holds them.

    A scan that failed in preprocessing (`preprocess.max_failures`) is in the split table but in no store; it is
    left out, and `progress` gets one line that names it.

    Args:
        path: split table; held: subjects of the cohort's store.
    """
    table = read_splits(path)
    wanted = sorted(table["subject"][(table["fold"] == fold) & table["split"].isin(splits)])
    lacking = [subject for subject in wanted if subject not in set(held)]
    if lacking:
        progress(f"skipped, not in the store because preprocessing failed: {listed(lacking)}")
    return [subject for subject in wanted if subject not in lacking]


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    rank = table["split"].map(SPLITS.index)
    return table.assign(rank=rank).sort_values(["fold", "rank", "subject"])[list(COLUMNS)].reset_index(drop=True)

"""Table 1: how many scans of each cohort train, validate and test; from split tables, stores.  docs/paper.md#splits"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from uad.cohorts.splits import SPLITS
from uad.reporting.paper_numbers import PAPER_MODALITIES, PAPER_SPLITS

UNUSED = "unused"
COLUMNS = ["cohort", "modality", "kind", "fold", "split", "scans", "excluded", "excluded_subjects", "paper"]

Place = tuple[str, str]  # cohort, modality


def table1(
    splits: Mapping[str, pd.DataFrame],
    held: Mapping[str, set[str]],
    healthy: Sequence[Place],
    pathological: Sequence[Place],
    folds: Sequence[int],
) -> pd.DataFrame:
    """Scans per cohort, modality, fold and split, as a long table with `COLUMNS`.

    `scans` counts what the store holds, `excluded` what the split table names but the store does not hold (its
    preprocessing failed, or it has no scan of this modality). The split `unused` counts the store's scans that are
    in no split of the fold. `paper` is the paper's size, NaN where it has none.

    Args:
        splits: split table by cohort.
        held: subjects of each store, by `<cohort>_<modality>`.
        healthy, pathological: (cohort, modality) in display order.
        folds: folds of the run.
    """
    rows = []
    for kind, places in (("healthy", healthy), ("pathological", pathological)):
        for cohort, modality in places:
            table, subjects = splits[cohort], held[f"{cohort}_{modality}"]
            printed = PAPER_SPLITS[cohort] if modality in PAPER_MODALITIES.get(cohort, ()) else {}
            for fold in folds:
                for split, row in _fold_rows(table[table["fold"] == fold], subjects).items():
                    keys = {"cohort": cohort, "modality": modality, "kind": kind, "fold": fold, "split": split}
                    rows.append({**keys, **row, "paper": printed.get(split, float("nan"))})
    return pd.DataFrame(rows, columns=COLUMNS)


def _fold_rows(splits: pd.DataFrame, held: set[str]) -> dict[str, dict[str, object]]:
    rows = {}
    for split in SPLITS:
        listed = set(splits["subject"][splits["split"] == split])
        lacking = sorted(listed - held)
        names = ";".join(lacking)
        rows[split] = {"scans": len(listed & held), "excluded": len(lacking), "excluded_subjects": names}
    unused = held - set(splits["subject"])
    return rows | {UNUSED: {"scans": len(unused), "excluded": 0, "excluded_subjects": ""}}

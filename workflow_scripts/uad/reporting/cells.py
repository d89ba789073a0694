"""From metric rows to one value per arm, reading, cohort, metric and fold: what every table and figure is
made of.

A *reading* is one noise level or the ensemble: `ens` 1 takes the rows of t_test "ens", `ens` 0 the rows of
one noise level, or the rows of an arm that has none (t_test ""). Scores are means over the test volumes of a
fold, then over folds (docs/paper.md#metrics).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from uad.common.errors import InputError
from uad.reporting.paper_numbers import METRICS

RATIOS = ("mean_of_ratios", "ratio_of_means")
_KEY = ["arm", "modality", "fold", "cohort", "subject", "t_test"]
_NEEDED = [*_KEY, "split", "variant"]


@dataclass(frozen=True)
class Cell:
    """One arm, reading, cohort and metric, in the printed unit.

    `fold_means` fold -> mean over its test volumes (only folds that gave a value); `scores` subject -> mean
    over folds (NaN where never defined); `missing_folds` expected folds with no row at all; `n_undefined`
    subjects that lack a value in at least one fold.
    """

    fold_means: dict[int, float] = field(default_factory=dict)
    scores: pd.Series = field(default_factory=lambda: pd.Series(dtype=float))
    missing_folds: tuple[int, ...] = ()
    n_undefined: int = 0
    rows: int = 0

    @property
    def mean(self) -> float:
        """Mean over folds; NaN without any."""
        return float(np.mean(list(self.fold_means.values()))) if self.fold_means else float("nan")

    @property
    def std(self) -> float:
        """Standard deviation over folds, n-1 (the paper does not say); NaN with fewer than two folds."""
        values = np.array(list(self.fold_means.values()))
        if len(values) < 2 or not np.isfinite(values).all():
            return float("nan")
        return float(values.std(ddof=1))

    def status(self, folds: Sequence[int]) -> str:
        """ok; partial (fewer folds than expected); undefined (rows but no value, e.g. no reconstruction);
        missing (no rows).
        """
        if not self.rows:
            return "missing"
        if not self.fold_means:
            return "undefined"
        return "ok" if len(self.fold_means) == len(folds) else "partial"


def select_rows(metrics: pd.DataFrame, folds: Sequence[int], variant: str = "full") -> pd.DataFrame:
    """Rows of the test split and one post-processing variant, checked, with the column `l1_ratio` added where
    it can be.

    Raises `InputError` for missing columns, folds outside `folds` and volumes scored twice.
    """
    absent = [column for column in _NEEDED if column not in metrics.columns]
    if absent:
        raise InputError(f"metrics: columns {', '.join(absent)} are missing; score the arms again")
    chosen = metrics[(metrics["split"] == "test") & (metrics["variant"] == variant)].copy()
    chosen["t_test"] = chosen["t_test"].fillna("").astype(str)
    foreign = sorted(set(chosen["fold"]) - set(folds))
    if foreign:
        names = ", ".join(map(str, foreign))
        raise InputError(
            f"metrics: fold {names} is not among the expected {list(folds)}; remove its file or add the fold"
        )
    double = chosen[chosen.duplicated(_KEY)]
    if len(double):
        row = double.iloc[0]
        where = ", ".join(f"{key} {row[key]}" for key in _KEY)
        raise InputError(f"metrics: {len(double)} volume(s) are scored twice ({where}); remove the older metrics file")
    if {"l1_lesion", "l1_healthy"} <= set(chosen.columns):
        chosen["l1_ratio"] = chosen["l1_lesion"] / chosen["l1_healthy"].where(chosen["l1_healthy"] > 0)
    return chosen


def check_t_test(rows: pd.DataFrame, single: str) -> None:
    """Raise `InputError` where noise levels were scored, but not the one the tables read as `ens` 0."""
    t_tests = sorted({t_test for t_test in rows["t_test"] if t_test.isdigit()}, key=int)
    if t_tests and single not in t_tests:
        raise InputError(f"metrics: noise level {single} was not scored; choose one of {', '.join(t_tests)}")


def readings_of(rows: pd.DataFrame, arm: str) -> set[int]:
    """The readings (`ens` 0, 1) an arm's rows allow; empty for an arm without rows."""
    return {int(t_test == "ens") for t_test in rows.loc[rows["arm"] == arm, "t_test"].unique()}


def cell_rows(rows: pd.DataFrame, arm: str, ens: int, cohort: str, modality: str, single: str) -> pd.DataFrame:
    """The rows of one arm and reading on one cohort and modality."""
    t_tests = ["ens"] if ens else ["", single]
    at_place = (rows["arm"] == arm) & (rows["cohort"] == cohort) & (rows["modality"] == modality)
    return rows[at_place & rows["t_test"].isin(t_tests)]


def _fold_mean(rows: pd.DataFrame, metric: str, ratio: str) -> float:
    if metric == "l1_ratio" and ratio == "ratio_of_means":
        whole = rows[rows["l1_ratio"].notna()]
        return float(whole["l1_lesion"].mean() / whole["l1_healthy"].mean()) if len(whole) else float("nan")
    return float(rows[metric].mean()) * METRICS[metric].scale


def build_cell(rows: pd.DataFrame, metric: str, folds: Sequence[int], ratio: str = "mean_of_ratios") -> Cell:
    """Collect the rows of one arm, reading, cohort and modality into a `Cell` of one metric.

    `ratio` says how `l1_ratio` is averaged within a fold, which the paper leaves open (docs/paper.md#metrics): the
    mean over volumes of lesion / healthy, or the mean lesion error over the mean healthy error.
    """
    if ratio not in RATIOS:
        raise ValueError(f"ratio is {ratio!r}; it must be one of {RATIOS}")
    missing = tuple(fold for fold in folds if fold not in set(rows["fold"]))
    if metric not in rows.columns:
        rows = rows.assign(**{metric: np.nan})
    means = {int(fold): _fold_mean(part, metric, ratio) for fold, part in rows.groupby("fold")}
    undefined = rows.loc[rows[metric].isna(), "subject"].nunique()
    return Cell(
        fold_means={fold: value for fold, value in means.items() if not np.isnan(value)},
        scores=rows.groupby("subject")[metric].mean() * METRICS[metric].scale,
        missing_folds=missing,
        n_undefined=int(undefined),
        rows=len(rows),
    )


def find_missing(
    rows: pd.DataFrame,
    arms: Sequence[Mapping[str, Any]],
    places: Sequence[tuple[str, str]],
    folds: Sequence[int],
) -> dict[str, list[str]]:
    """Arm label -> where it has no row at all, e.g. {"cDDPM": ["wmh t1 fold 3"], "AE": ["all folds"]}.

    Complete arms are left out; a gap that is the same in every (cohort, modality) of `places` is named once.
    """
    found = set(rows[["arm", "cohort", "modality", "fold"]].itertuples(index=False, name=None))
    gaps: dict[str, list[str]] = {}
    for arm in arms:
        texts = {}
        for place in places:
            gone = [fold for fold in folds if (arm["arm"], *place, fold) not in found]
            if gone:
                texts[place] = "all folds" if len(gone) == len(folds) else "fold " + ", ".join(map(str, gone))
        if len(texts) == len(places) and len(set(texts.values())) == 1:
            gaps[arm["label"]] = [next(iter(texts.values()))]
        elif texts:
            gaps[arm["label"]] = [f"{' '.join(place)} {text}" for place, text in texts.items()]
    return gaps

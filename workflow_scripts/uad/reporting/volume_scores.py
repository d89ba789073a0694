"""Scores of single test volumes, averaged over folds: what the figures of volumes are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from uad.common.errors import InputError
from uad.reporting.cells import check_t_test, find_missing, readings_of, select_rows
from uad.reporting.paper_numbers import METRICS

Arm = Mapping[str, Any]
Place = tuple[str, str]  # cohort, modality
Line = tuple[Arm, int]  # arm, ens

DETECTION = ("dice", "auprc")
VOLUMES_ML = ("lesion_ml", "predicted_ml")
_LINE = ["cohort", "modality", "arm", "ens"]


class VolumeScores:
    """Detection scores of every test volume in the readings that the tables print.

    Attributes:
        arms: all arms of the run; with `looks` of them colours agree between figures.
        lines: (arm, ens) of every arm that is no control, in display order; ens 1 is the ensemble over noise levels.
        main: the same with one reading per arm: the ensemble where there is one.
        thresholds: (arm, cohort, modality, fold) -> the threshold of the main reading; NaN: none could be chosen.
    """

    def __init__(self, metrics: pd.DataFrame, arms: Sequence[Arm], folds: Sequence[int], single: str) -> None:
        """`metrics`, `folds` and `single` as in `uad.reporting.tables`.

        Raises:
            InputError: metric rows that contradict themselves or lack a column.
        """
        absent = [column for column in (*DETECTION, *VOLUMES_ML, "threshold") if column not in metrics]
        if absent:
            raise InputError(f"metrics: columns {', '.join(absent)} are missing; score the arms again")
        self.arms, self._folds = arms, folds
        rows = select_rows(metrics, folds)
        check_t_test(rows, single)
        self._scored = rows[["arm", "cohort", "modality", "fold"]].drop_duplicates()
        printed = rows[rows["t_test"].isin(["", "ens", single])]
        printed = printed.assign(ens=(printed["t_test"] == "ens").astype(int))
        means = printed.groupby([*_LINE, "subject"])[[*DETECTION, *VOLUMES_ML]].mean()
        for metric in DETECTION:
            means[metric] *= METRICS[metric].scale
        self._volumes = {key: part.droplevel(_LINE) for key, part in means.groupby(level=_LINE)}
        methods = [arm for arm in arms if not arm["control"]]
        readings = {arm["arm"]: sorted(readings_of(printed, arm["arm"])) or [0] for arm in methods}
        self.lines: list[Line] = [(arm, ens) for arm in methods for ens in readings[arm["arm"]]]
        self.main: list[Line] = [(arm, readings[arm["arm"]][-1]) for arm in methods]
        main = printed[printed["t_test"] != single]
        self.thresholds = main.groupby(["arm", "cohort", "modality", "fold"])["threshold"].first()

    def of(self, place: Place, line: Line) -> pd.DataFrame:
        """subject -> dice, auprc (%), lesion_ml, predicted_ml, sorted by subject; no row where nothing was scored."""
        arm, ens = line
        nothing = pd.DataFrame(columns=[*DETECTION, *VOLUMES_ML], dtype=float)
        return self._volumes.get((*place, arm["arm"], ens), nothing)

    def ceiling(self, place: Place) -> pd.DataFrame:
        """As `of`: what post-processing leaves of a perfect map; no row in a run without that control."""
        arm = ceiling_arm(self.arms)
        return self.of(place, (arm or {"arm": ""}, 0))

    def missing(self, places: Sequence[Place]) -> dict[str, list[str]]:
        """Label of an arm that is no control -> where it has no row (`cells.find_missing`)."""
        return find_missing(self._scored, [arm for arm, _ in self.main], places, self._folds)


def ceiling_arm(arms: Sequence[Arm]) -> Arm | None:
    """The control that is the truth after post-processing (docs/methods/oracle.md), if the run has it."""
    return next((arm for arm in arms if arm["method"] == "oracle" and arm["postprocess"]), None)


def label_of(line: Line) -> str:
    """Name of an arm and reading in figures."""
    arm, ens = line
    return arm["label"] + (" (ENS)" if ens else "")

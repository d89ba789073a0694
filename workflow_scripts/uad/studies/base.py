"""What a study is: a question, and a small class that answers it from what scoring left.

A study names its arms in the configuration and gets their scores and lesions; `snakemake --configfile
studies/<name>.yaml` makes these and no others.  One that looks at voxels `measure`s each arm in a job of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from uad.reporting.elements import Table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from uad.methods import Method
    from uad.scoring.cohort import ScoredCohort
    from uad.scoring.protocol import ScoreSettings

Place = tuple[str, str]  # cohort, modality


def at(rows: pd.DataFrame, place: Place) -> pd.DataFrame:
    """The rows of one cohort and modality."""
    return rows[(rows["cohort"] == place[0]) & (rows["modality"] == place[1])]


class NoParams(pydantic.BaseModel):
    """A study without keys of its own."""

    model_config = pydantic.ConfigDict(extra="forbid")


@dataclass(frozen=True)
class ScoredArm:
    """One arm, modality and fold, as a study measures it.

    Attributes:
        arm: its name.
        cohorts: every cohort of the modality, with the arm's outputs.
        train_cohort: the healthy one that was trained on.
        readings: of the arm; the main one is the last.
        settings: how it was scored.
        scores: its rows of the metrics format, thresholds included.
        untouched: planted cohort -> subject -> the subject of `untouched_cohort` that its scan was before planting; of
            a study that is `of_planted`.
        method: with its parameters, but without a trained network.
        seconds: of its reconstruct job, for a study that is `timed`; else NaN.
    """

    arm: str
    cohorts: Mapping[str, ScoredCohort]
    train_cohort: str
    readings: Sequence[str]
    settings: ScoreSettings
    scores: pd.DataFrame
    untouched: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    untouched_cohort: str = ""
    method: Method | None = None
    seconds: float = float("nan")


@dataclass(frozen=True)
class Evidence:
    """What an answer is made of.

    Attributes:
        arms: of the study: arm, label, method and more (`RunPlan.study_settings`).
        scores: rows of the metrics format of these arms, validation and test.
        lesions: rows of the lesions format, with arm, modality and fold.
        measured: what `measure` gave, with arm, modality and fold; empty for a study that measures nothing.
        scans: every packed scan: cohort, modality, subject, person, site, age, lesion_ml.
        healthy, pathological: places in display order.
        folds: of the run.
        single: the noise level that the tables print.
        rounds, seed: of bootstrap and permutation tests.
        experiments: modality -> arrays of the contrast experiments (`uad.reporting.experiments`), for a study that
            `reads_experiments` of a run that has their arms.
    """

    arms: Sequence[Mapping[str, Any]]
    scores: pd.DataFrame
    lesions: pd.DataFrame
    measured: pd.DataFrame
    scans: pd.DataFrame
    healthy: Sequence[Place]
    pathological: Sequence[Place]
    folds: Sequence[int]
    single: str
    rounds: int
    seed: int
    experiments: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def per_person(self, values: pd.Series, place: Place) -> pd.Series:
        """Values by subject as means by person: what is drawn for an interval, since scans of one person are alike."""
        return values.groupby(values.index.map(at(self.scans, place).set_index("subject")["person"])).mean()

    def label(self, arm: str) -> str:
        """An arm's name for readers."""
        return next(str(row["label"]) for row in self.arms if row["arm"] == arm)


@dataclass(frozen=True)
class Answer:
    """What a study found.

    Attributes:
        found: sentences, each with the number of subjects and an interval.
        limits: sentences: what these data cannot tell.
        rows: one table of numbers per name in `Study.tables`, written as CSV.
        tables: what is shown of them.
        figures: one per name in `Study.figures`, with its caption.
    """

    found: Sequence[str]
    limits: Sequence[str]
    rows: Mapping[str, pd.DataFrame]
    tables: Sequence[Table] = ()
    figures: Mapping[str, tuple[Figure, str]] = field(default_factory=dict)


class Study:
    """Base class of all studies."""

    Params: ClassVar[type[pydantic.BaseModel]] = NoParams
    question: ClassVar[str]
    varied: ClassVar[str]  # what was varied, and what was held
    tables: ClassVar[tuple[str, ...]] = ()  # names of its CSV files
    figures: ClassVar[tuple[str, ...]] = ()
    measures: ClassVar[bool] = False  # looks at voxels: a job per arm, modality and fold before the answer
    reads_experiments: ClassVar[bool] = False  # sets the contrast experiments beside the scores
    of_planted: ClassVar[bool] = False  # compares planted scans with the untouched ones: needs `source: planted`
    timed: ClassVar[bool] = False  # `measure` wants to know how long the arm's reconstruct job took
    RECIPE_VERSION: ClassVar[int] = 1  # raise when the numbers, words or pictures change
    params: Any  # an instance of `Params`

    def __init__(self, params: pydantic.BaseModel) -> None:
        self.params = params

    def measure(self, arm: ScoredArm) -> pd.DataFrame:
        """Rows of one arm, modality and fold; the columns are the study's own.

        Raises:
            InputError: the arm is not of the kind that the study looks at.
        """
        raise TypeError(f"{type(self).__name__} measures nothing")

    def answer(self, evidence: Evidence) -> Answer:
        """What the evidence says.

        Raises:
            InputError: the study's arms are not those that it needs.
        """
        raise NotImplementedError

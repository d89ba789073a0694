"""What a run claims about its methods, held against its results: the statements of `check.statements`.

A statement compares means as the tables print them; it carries its numbers, so that a reader sees by how much
it holds.  docs/paper.md#experiments has the mechanism that the last two are about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from uad.common.errors import InputError
from uad.reporting.cells import build_cell, cell_rows, select_rows
from uad.reporting.experiments import divergences
from uad.reporting.paper_numbers import COHORT_TITLES, METRICS, cohort_title

_TOLERANCE = 2.0  # points of AUPRC that the condition may cost
_CONTRASTS = (0.5, 2.0)
_ROLES = ("unconditioned", "conditioned")

Place = tuple[str, str]  # cohort, modality


@dataclass(frozen=True)
class Claim:
    """One comparison of a statement."""

    text: str
    holds: bool


@dataclass(frozen=True)
class Evidence:
    """What statements are held against.

    Attributes:
        rows: test rows of the metrics files (`cells.select_rows`).
        arms: the run's arms with `arm`, `method`, `label`, `reads_noise_levels`.
        healthy, pathological: (cohort, modality) in display order.
        folds: of the run.
        single: the noise level that stands for an arm with several.
        experiments: arrays of the contrast experiments, one per fold (`experiments.load_experiments`).
        experiment_cohorts: cohorts of these experiments.
    """

    rows: pd.DataFrame
    arms: Sequence[Mapping[str, Any]]
    healthy: Sequence[Place]
    pathological: Sequence[Place]
    folds: Sequence[int]
    single: str
    experiments: Sequence[Mapping[str, np.ndarray]]
    experiment_cohorts: Sequence[str]

    def first(self, method: str) -> Mapping[str, Any]:
        """The run's first arm of a method.

        Raises:
            InputError: there is none.
        """
        for arm in self.arms:
            if arm["method"] == method:
                return arm
        raise InputError(f"config: check.statements: no arm has the method {method}; add one or leave statements out")

    def mean(self, arm: Mapping[str, Any], place: Place, metric: str) -> float:
        """As Tables 2 and 3 print it: mean over folds of the means over test volumes."""
        return build_cell(cell_rows(self.rows, arm["arm"], 0, *place, self.single), metric, self.folds).mean


def _number(value: float, metric: str) -> str:
    return f"{value:.{METRICS[metric].decimals}f}"


def _below(evidence: Evidence, metric: str, low: Mapping[str, Any], high: Mapping[str, Any], place: Place) -> Claim:
    less, more = evidence.mean(low, place, metric), evidence.mean(high, place, metric)
    where = f"{METRICS[metric].title} on {cohort_title(*place)}"
    text = f"{where}: {low['label']} {_number(less, metric)} below {high['label']} {_number(more, metric)}"
    return Claim(text, less < more)


def diffusion_above_thresh(evidence: Evidence) -> Iterator[Claim]:
    """Every diffusion arm finds more of the first pathological cohort than a threshold on intensity."""
    thresh, place = evidence.first("thresh"), evidence.pathological[0]
    for arm in evidence.arms:
        if arm["reads_noise_levels"]:
            yield from (_below(evidence, metric, thresh, arm, place) for metric in ("dice", "auprc"))


def condition_recovers_intensity(evidence: Evidence) -> Iterator[Claim]:
    """Healthy tissue is reconstructed better with the condition than without: l1 and KLD."""
    with_it, without = evidence.first("cddpm"), evidence.first("ddpm")
    for place in evidence.healthy:
        yield from (_below(evidence, metric, with_it, without, place) for metric in ("l1", "kld"))


def condition_carries_contrast(evidence: Evidence) -> Iterator[Claim]:
    """At changed contrast the histogram of the reconstruction stays nearer to the input's with the condition."""
    folds = evidence.experiments
    if not folds:
        raise InputError("config: check.statements: there are no contrast experiments; they need arms cddpm and ddpm")
    for cohort in evidence.experiment_cohorts:
        for contrast in _CONTRASTS:
            index = list(folds[0][f"histograms/{cohort}/contrasts"]).index(contrast)
            without, with_it = (np.mean(divergences(folds, cohort, role, index)) for role in _ROLES)
            ratio = without / with_it
            where = f"KLD on {COHORT_TITLES.get(cohort, cohort)} at contrast {contrast:g}"
            yield Claim(f"{where}: without the condition {ratio:.2f} times that with it, above 1", bool(ratio > 1))


def condition_hides_no_lesion(evidence: Evidence) -> Iterator[Claim]:
    """The condition does not copy the lesion: AUPRC stays, within two points."""
    with_it, without = evidence.first("cddpm"), evidence.first("ddpm")
    for place in evidence.pathological:
        found, before = evidence.mean(with_it, place, "auprc"), evidence.mean(without, place, "auprc")
        text = (
            f"AUPRC on {cohort_title(*place)}: {with_it['label']} {_number(found, 'auprc')} not below "
            f"{without['label']} {_number(before, 'auprc')} minus {_TOLERANCE:g}"
        )
        yield Claim(text, found >= before - _TOLERANCE)


STATEMENTS: dict[str, Callable[[Evidence], Iterator[Claim]]] = {
    function.__name__: function
    for function in (
        diffusion_above_thresh,
        condition_recovers_intensity,
        condition_carries_contrast,
        condition_hides_no_lesion,
    )
}


def claims_of(
    settings: Mapping[str, Any], scores: pd.DataFrame, experiments: Sequence[Mapping[str, np.ndarray]]
) -> list[Claim]:
    """The claims of the statements that a check job's settings name.

    Raises:
        InputError: a statement is about an arm that the run has not.
    """
    if not settings["statements"]:
        return []
    folds = range(settings["folds"])
    evidence = Evidence(
        select_rows(scores, folds),
        settings["arms"],
        [tuple(place) for place in settings["healthy"]],
        [tuple(place) for place in settings["pathological"]],
        folds,
        str(settings["single"]),
        experiments,
        settings["experiment_cohorts"],
    )
    return [claim for name in settings["statements"] for claim in STATEMENTS[name](evidence)]

"""Which post-processing for which pathology?  The paper's third open question.  docs/studies.md#post-processing"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from uad.common.errors import InputError
from uad.reporting.elements import Cell, Table
from uad.reporting.paper_numbers import cohort_title
from uad.studies.base import Answer, Evidence, Place, ScoredArm, Study, at

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from uad.scoring.postprocessing import PostProcessing

PUBLISHED = "published"  # the pipeline of the configuration
_ORDERS = (("erode", "median"), ("median", "erode"))
_SHARES = ("pipeline", "arm", "subject")


class PostProcessingParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    median: list[int] = pydantic.Field([0, 3, 5, 7], description="Edges of the median window in voxels; 0: none.")
    erosion: list[int | None] = pydantic.Field([0, None], description="Iterations; null: slice width // 25, 0: none.")
    components: list[int] = pydantic.Field([0, 3, 7, 15, 30], description="Components of at most so many voxels go.")

    @pydantic.model_validator(mode="after")
    def _windows_are_odd(self) -> PostProcessingParams:
        if even := [size for size in self.median if size and size % 2 == 0]:
            raise ValueError(f"`median` has even windows {even}; they are odd, or 0 for none")
        return self


class PostProcessingStudy(Study):
    Params = PostProcessingParams
    params: PostProcessingParams
    question = "Which post-processing for which pathology?"
    varied = (
        "Size of the median filter, erosion of the brain mask, limit of small components, and the order of filter and "
        "erosion, on the reconstructions that are there. For each pipeline the threshold is searched again on the "
        "validation scans. A pipeline is chosen per arm, cohort and fold by its mean Dice on the validation scans and "
        "judged on the test scans, beside the published one and the oracle, which is chosen on the test scans."
    )
    tables = ("pipelines", "choices", "shares")
    figures = ("gains",)
    measures = True

    def measure(self, arm: ScoredArm) -> pd.DataFrame:
        """One row per scan and pipeline: cohort, subject, split, variant (its name), dice, threshold."""
        import pandas as pd

        from uad.scoring.protocol import RowKeys, score_cohort

        full = arm.settings.variants["full"]
        if not full.order:
            raise InputError(f"study.arms: {arm.arm} has no post-processing; leave it out of the study")
        asked = replace(arm.settings, variants={}, ablations={PUBLISHED: full} | self.pipelines(full))
        rows: list[dict[str, object]] = []
        for name, cohort in arm.cohorts.items():
            if name == arm.train_cohort or not any(cohort.lesions > 0):
                continue
            keys = RowKeys(arm.arm, "", "", 0, name, arm.readings[-1])
            rows += score_cohort(partial(cohort.volumes, arm.readings[-1]), keys, asked).rows
        kept = ["cohort", "subject", "split", "variant", "dice", "threshold"]
        return pd.DataFrame(rows, columns=kept)

    def pipelines(self, full: PostProcessing) -> dict[str, PostProcessing]:
        """Every pipeline of the grid by name; where one of the two steps is missing, their order is none."""
        found = {}
        for median, erosion, components in product(self.params.median, self.params.erosion, self.params.components):
            steps = {"median": median > 0, "erode": erosion != 0}
            for order in _ORDERS[: 1 + all(steps.values())]:
                done = tuple(step for step in order if steps[step])
                words = {"median": f"median {median}", "erode": "erosion" if erosion is None else f"erosion {erosion}"}
                name = ", ".join([*(words[step] for step in done), f"components {components}"])
                found[name] = replace(
                    full, order=done, median_size=median or 1, erosion=erosion, component_max_size=components
                )
        return found

    def answer(self, evidence: Evidence) -> Answer:
        import pandas as pd

        measured = evidence.measured
        chosen = [
            choice
            for place in evidence.pathological
            for arm in evidence.arms
            if (choice := _choice(measured, arm["arm"], place, evidence)) is not None
        ]
        if not chosen:
            raise InputError("study: no arm has a Dice on a validation and a test scan; look at the splits")
        choices = pd.DataFrame(chosen)
        shares = pd.DataFrame([_shares(measured, place) for place in evidence.pathological])
        orders = {place: order_agreement(_means(measured, place)) for place in evidence.pathological}
        shares["tau"] = [orders[place] for place in evidence.pathological]
        return Answer(
            found=[_sentence(row, evidence) for row in chosen if row["gain_low"] > 0 or row["gain_high"] < 0],
            limits=[
                "A gain is over the published pipeline with its own threshold; what was not tried may do more.",
                "The oracle has seen the test scans: what it gains is a bound, no result.",
                "Few validation scans choose badly: the number of them stands beside each choice.",
            ],
            rows={"pipelines": _all_means(measured, evidence.pathological), "choices": choices, "shares": shares},
            tables=[_choice_table(choices, evidence), _share_table(shares)],
            figures={"gains": (_figure(choices, evidence), _CAPTION)},
        )


_CAPTION = (
    "Test Dice of the pipeline chosen on validation scans minus that of the published one, mean over test people with "
    "95 % bootstrap interval; the open marker is the oracle, which is chosen on the test scans."
)


def _choice(measured: pd.DataFrame, arm: str, place: Place, evidence: Evidence) -> dict[str, Any] | None:
    """What validation chose for an arm and cohort, and what it gains on the test scans; None without a Dice."""
    from uad.reporting.statistics import bootstrap_interval

    rows = at(measured, place)
    rows = rows[(rows["arm"] == arm) & rows["dice"].notna()]
    scores = {split: rows[rows["split"] == split] for split in ("val", "test")}
    if scores["val"].empty or scores["test"].empty:
        return None
    means = {split: part.groupby(["fold", "variant"])["dice"].mean() for split, part in scores.items()}
    picks = {
        split: {fold: _best(mean.loc[fold]) for fold in mean.index.unique("fold")} for split, mean in means.items()
    }
    test = scores["test"].set_index(["fold", "variant", "subject"])["dice"].sort_index()
    published = _per_subject(test, dict.fromkeys(picks["test"], PUBLISHED))
    gain, bound = (
        evidence.per_person(_per_subject(test, picks[split]) - published, place) for split in ("val", "test")
    )
    low, high = bootstrap_interval(gain, evidence.seed, rounds=evidence.rounds)
    return {
        "arm": arm, "cohort": place[0], "modality": place[1],
        "chosen": "; ".join(dict.fromkeys(picks["val"].values())),
        "oracle": "; ".join(dict.fromkeys(picks["test"].values())),
        "published_dice": published.mean(), "gain": gain.mean(), "gain_low": low, "gain_high": high,
        "oracle_gain": bound.mean(), "n_test": len(gain), "n_val": scores["val"]["subject"].nunique(),
        "n_folds": len(picks["test"]),
    }  # fmt: skip


def _best(means: pd.Series) -> str:
    """The pipeline of the highest mean; the published one where it is among them, else the first."""
    best = means[means == means.max()]
    return PUBLISHED if PUBLISHED in best.index else str(best.index[0])


def _per_subject(test: pd.Series, picks: Mapping[int, str]) -> pd.Series:
    """Dice of each subject with the pipeline of its fold, mean over folds."""
    parts = [test.loc[fold, variant] for fold, variant in picks.items()]
    return sum(parts[1:], parts[0]) / len(parts)


def _means(measured: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Mean test Dice [pipelines, arms] of a place."""
    rows = at(measured, place)
    return rows[rows["split"] == "test"].pivot_table(index="variant", columns="arm", values="dice", sort=False)


def _all_means(measured: pd.DataFrame, places: Sequence[Place]) -> pd.DataFrame:
    """Mean Dice per pipeline, arm, place and split, with the number of scans."""
    keys = ["cohort", "modality", "arm", "variant", "split"]
    wanted = measured[[place in places for place in zip(measured["cohort"], measured["modality"], strict=True)]]
    means = wanted.groupby(keys, sort=False)["dice"].agg(["mean", "count"]).reset_index()
    return means.rename(columns={"variant": "pipeline", "mean": "dice", "count": "n"})


def order_agreement(means: pd.DataFrame) -> float:
    """Mean Kendall tau-b of the orders of the arms (columns) under every two pipelines (rows): 1 means that the order
    never changes; NaN with fewer than two arms or pipelines."""
    from scipy import stats

    rows = means.dropna(axis=1).to_numpy()
    if min(rows.shape) < 2:
        return float("nan")
    taus = [stats.kendalltau(a, b).statistic for a, b in combinations(rows, 2)]
    return float(np.nanmean(taus)) if not np.isnan(taus).all() else float("nan")


def variance_shares(dice: np.ndarray) -> dict[str, float]:
    """Share of the total sum of squares that each main effect explains.

    Args:
        dice: [pipelines, arms, subjects], every cell filled.

    Returns:
        pipeline, arm and subject, each from 0 to 1; what is missing to 1 are interactions.  NaN where all are equal.
    """
    centred = dice - dice.mean()
    total = (centred**2).sum()
    effects = [centred.mean(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    sums = [dice.size / len(effect) * (effect**2).sum() for effect in effects]
    return {name: float(part / total) if total else float("nan") for name, part in zip(_SHARES, sums, strict=True)}


def _shares(measured: pd.DataFrame, place: Place) -> dict[str, Any]:
    rows = at(measured, place)
    cube = rows[rows["split"] == "test"].pivot_table(index=["variant", "arm"], columns="subject", values="dice")
    cube = cube.dropna(axis=1)  # scans that every pipeline of every arm has a Dice of
    variants, arms = (cube.index.unique(level) for level in ("variant", "arm"))
    about = {"cohort": place[0], "modality": place[1], "n_arms": len(arms), "n_test": cube.shape[1]}
    if cube.empty or len(cube) < len(variants) * len(arms):
        return about | dict.fromkeys(_SHARES, float("nan"))
    return about | variance_shares(cube.to_numpy().reshape(len(variants), len(arms), -1))


def _sentence(row: Mapping[str, Any], evidence: Evidence) -> str:
    place = cohort_title(row["cohort"], row["modality"])
    return (
        f"{evidence.label(row['arm'])} on {place}: choosing the pipeline on validation scans changes Dice by "
        f"{100 * row['gain']:+.1f} points [{100 * row['gain_low']:.1f}, {100 * row['gain_high']:.1f}] "
        f"({row['n_test']} test people, {row['n_val']} validation scans, {_folds(row['n_folds'])}); "
        f"chosen: {row['chosen']}."
    )


def _folds(count: int) -> str:
    return f"{count} fold{'s' if count > 1 else ''}"


def _choice_table(choices: pd.DataFrame, evidence: Evidence) -> Table:
    heads = ["Arm", "Cohort", "Published", "Gain of the chosen [95 %]", "Gain of the oracle", "Test", "Val", "Chosen"]
    lines = [
        [
            Cell(evidence.label(row.arm)), Cell(cohort_title(row.cohort, row.modality)),
            _points(row.published_dice),
            Cell(f"{100 * row.gain:+.1f} [{100 * row.gain_low:.1f}, {100 * row.gain_high:.1f}]", sort=row.gain),
            Cell(f"{100 * row.oracle_gain:+.1f}", sort=row.oracle_gain),
            Cell(str(row.n_test), sort=row.n_test), Cell(str(row.n_val), sort=row.n_val), Cell(row.chosen),
        ]
        for row in choices.itertuples()
    ]  # fmt: skip
    caption = "Test Dice (%) of the published pipeline, and what choosing another one on validation scans gains"
    return Table(heads, lines, caption=caption, words=(0, 1, 7))


def _points(share: float) -> Cell:
    return Cell("–" if np.isnan(share) else f"{100 * share:.1f}", sort=share)


def _share_table(shares: pd.DataFrame) -> Table:
    heads = ["Cohort", "Pipeline", "Arm", "Subject", "Kendall's tau", "Arms", "Test scans"]
    lines = [
        [
            Cell(cohort_title(row.cohort, row.modality)), *(_points(getattr(row, name)) for name in _SHARES),
            Cell("–" if np.isnan(row.tau) else f"{row.tau:.2f}", sort=row.tau),
            Cell(str(row.n_arms), sort=row.n_arms), Cell(str(row.n_test), sort=row.n_test),
        ]
        for row in shares.itertuples()
    ]  # fmt: skip
    caption = (
        "Share of the variance of test Dice (%) that pipeline, arm and subject explain by themselves, and how far the "
        "order of the arms is the same under every two pipelines (1: always)"
    )
    return Table(heads, lines, caption=caption)


def _figure(choices: pd.DataFrame, evidence: Evidence) -> Figure:
    from uad.reporting import style

    looks = style.looks(evidence.arms)
    places = [place for place in evidence.pathological if len(at(choices, place))]
    figure = style.new_figure(style.DOUBLE_CM, 2.5 + 0.45 * len(evidence.arms))
    for panel, place in zip(style.panels(figure, len(places), len(places)), places, strict=True):
        rows = at(choices, place).reset_index(drop=True)
        for line, row in rows.iterrows():
            look = looks[row["arm"]]
            dot: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markersize": 4}
            panel.plot([100 * row["gain_low"], 100 * row["gain_high"]], [line, line], color=look.colour)
            panel.plot(100 * row["gain"], line, **dot)
            panel.plot(100 * row["oracle_gain"], line, fillstyle="none", **dot)
        panel.axvline(0, color=style.WORD_GREY, linewidth=0.6)
        panel.set(title=cohort_title(*place), xlabel="Dice, points over the published")
        style.name_lines(panel, [evidence.label(name) for name in rows["arm"]])
    return figure


STUDY = PostProcessingStudy

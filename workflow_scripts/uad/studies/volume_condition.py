"""Does a 3-D input to the encoder help?  The paper's second open question.  docs/studies.md#volume-condition"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from uad.common.errors import InputError
from uad.reporting.elements import NOTHING, Cell, Table
from uad.reporting.paper_numbers import METRICS, Metric, cohort_title
from uad.studies.base import Answer, Evidence, Place, ScoredArm, Study, at

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_ENSEMBLE = "ens"
_AGREEMENT = "agreement"
_HEALTHY, _PATHOLOGICAL = ("l1", "ssim", "kld"), ("dice", "auprc")
_METRICS = {name: METRICS[name] for name in (*_HEALTHY, *_PATHOLOGICAL)}
# no order: both a smoother and a rougher volume than the scan are wrong
_METRICS[_AGREEMENT] = Metric("step between slices", "of the scan's", 1.0, 0, decimals=3)


class VolumeConditionParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    published: str = pydantic.Field("cddpm", description="The arm whose encoder sees single slices.")


class VolumeConditionStudy(Study):
    Params = VolumeConditionParams
    params: VolumeConditionParams
    question = "Does a 3-D input to the encoder help?"
    varied = (
        "What the encoder of the conditioned diffusion model sees: the slice, as published, the slice with neighbours "
        "as channels, or the whole volume together with the place of the slice. The U-Net works on slices in all of "
        "them; data, training steps, batch size and noise levels are the same."
    )
    tables = ("comparisons", "costs")
    figures = ("differences",)
    measures = True
    timed = True

    def measure(self, arm: ScoredArm) -> pd.DataFrame:
        """One row per healthy test scan: cohort, subject, agreement (`step_between_slices`), and of the arm:
        parameters, gflop (per volume and noise level), seconds (of its reconstruct job, per volume).
        """
        import pandas as pd

        from uad.inference.cost import flop_per_slice, parameters

        assert arm.method is not None

        shape = next(iter(arm.cohorts.values())).store.images.shape
        volumes = sum(len(subjects) for cohort in arm.cohorts.values() for subjects in cohort.subjects.values())
        costs = {
            "parameters": parameters(arm.method, shape[2:]),
            "gflop": flop_per_slice(arm.method, shape[2:], shape[1]) * shape[1] / 1e9,
            "seconds": arm.seconds / volumes,
        }
        rows = []
        for name, cohort in arm.cohorts.items():
            if any(cohort.lesions > 0):
                continue
            for volume in cohort.volumes(arm.readings[-1], "test"):
                if volume.output.kind != "reconstruction":
                    raise InputError(f"study.arms: {arm.arm} gives no reconstruction; leave it out of the study")
                step = step_between_slices(volume.output.values, volume.image, volume.mask)
                rows.append({"cohort": name, "subject": volume.subject, _AGREEMENT: step, **costs})
        return pd.DataFrame(rows)

    def answer(self, evidence: Evidence) -> Answer:
        import pandas as pd

        names = [arm["arm"] for arm in evidence.arms]
        published = self.params.published
        if published not in names or len(names) < 2:
            raise InputError(
                f"study.arms: {published} (study.params.published) and an arm to compare it with are needed, there are "
                f"{', '.join(names)}"
            )
        scores = _scores(evidence)
        compared = [
            row
            for place, metrics in _columns(evidence)
            for metric in metrics
            for arm in names
            if arm != published and (row := _compared(scores, arm, published, place, metric, evidence)) is not None
        ]
        if not compared:
            raise InputError("study: no person has scores of two arms; look at the splits")
        comparisons = pd.DataFrame(compared)
        comparisons["p_holm"] = _holm(comparisons["p_value"])
        costs = evidence.measured.groupby("arm", sort=False)[["parameters", "gflop", "seconds"]].mean().reset_index()
        costs = costs.set_index("arm").loc[names].reset_index()
        rows = comparisons.to_dict("records")
        return Answer(
            found=[_sentence(row, published, evidence) for row in rows if _is_found(row)],
            limits=[
                "One width and depth of each encoder was tried, with the training of the published one; that a wider "
                "input does not help here does not say that it cannot.",
                "The encoders differ in depth and number of weights as well as in what they see.",
                "The U-Net sees single slices, which may have noise of their own (D17): neighbours may differ for "
                "another reason than the condition.",
                "The encoder of the volume pools over all of it and is told the place of the slice; one that keeps "
                "maps was not tried.",
                "Seconds are those of the whole reconstruct job, its start and reading included, on the machine that "
                "ran it.",
            ],
            rows={"comparisons": comparisons, "costs": costs},
            tables=[_comparison_table(comparisons, published, evidence), _cost_table(costs, evidence)],
            figures={"differences": (_figure(comparisons, evidence), _caption(published, evidence))},
        )


def step_between_slices(reconstruction: np.ndarray, image: np.ndarray, mask: np.ndarray) -> float:
    """Mean |r(z + 1) - r(z)| over mean |x(z + 1) - x(z)|, over the brain that two slices have in common.

    Args:
        reconstruction, image, mask: [Z, Y, X].

    Returns:
        1 where the reconstruction goes from slice to slice as the scan does, less where it is smoother; NaN where the
        scan does not change.
    """
    both = mask[1:].astype(bool) & mask[:-1].astype(bool)
    steps = [np.abs(np.diff(volume.astype(np.float64), axis=0))[both].sum() for volume in (reconstruction, image)]
    return float(steps[0] / steps[1]) if steps[1] else float("nan")


def _columns(evidence: Evidence) -> list[tuple[Place, tuple[str, ...]]]:
    """What is compared where: quality and agreement in healthy cohorts, segmentation in the others."""
    healthy = [(place, (*_HEALTHY, _AGREEMENT)) for place in evidence.healthy]
    return [*healthy, *((place, _PATHOLOGICAL) for place in evidence.pathological)]


def _scores(evidence: Evidence) -> pd.DataFrame:
    """Test scores of the ensemble with the measured agreement: one row per arm, fold, place and subject."""
    import pandas as pd

    from uad.reporting.cells import select_rows

    rows = select_rows(evidence.scores, evidence.folds)
    return pd.concat([rows[rows["t_test"] == _ENSEMBLE], evidence.measured], ignore_index=True)


def _compared(
    scores: pd.DataFrame, arm: str, published: str, place: Place, metric: str, evidence: Evidence
) -> dict[str, Any] | None:
    """An arm against the published one over people, in the printed unit; None where no person has both."""
    from uad.reporting.statistics import bootstrap_interval, permutation_test

    here = at(scores, place)
    values = {}
    for name in (arm, published):
        rows = here[(here["arm"] == name) & np.isfinite(here[metric])]
        by_scan = rows.groupby("subject")[metric].mean() * _METRICS[metric].scale
        values[name] = evidence.per_person(by_scan, place)
    people = values[arm].index.intersection(values[published].index)
    if people.empty:
        return None
    one, other = values[arm][people], values[published][people]
    low, high = bootstrap_interval(one - other, evidence.seed, rounds=evidence.rounds)
    tested = len(people) > 1
    p = permutation_test(one, other, rounds=evidence.rounds, seed=evidence.seed) if tested else float("nan")
    return {
        "arm": arm, "cohort": place[0], "modality": place[1], "metric": metric, "value": one.mean(),
        "published": other.mean(), "difference": (one - other).mean(), "low": low, "high": high, "p_value": p,
        "n_people": len(people), "n_folds": len(evidence.folds),
    }  # fmt: skip


def _holm(p_values: pd.Series) -> np.ndarray:
    from uad.reporting.statistics import holm

    return holm(p_values.to_numpy())


def _is_found(row: Mapping[str, Any]) -> bool:
    from uad.reporting.statistics import ALPHA

    return bool((row["low"] > 0 or row["high"] < 0) and row["p_holm"] < ALPHA)


def _sentence(row: Mapping[str, Any], published: str, evidence: Evidence) -> str:
    metric, folds = _METRICS[row["metric"]], row["n_folds"]
    numbers = (row[key] for key in ("value", "published", "difference", "low", "high"))
    value, other, difference, low, high = (f"{number:.{metric.decimals}f}" for number in numbers)
    sign = "+" if row["difference"] > 0 else ""
    verdict = {1: "better", 0: "", -1: "worse"}[metric.better * (1 if row["difference"] > 0 else -1)]
    return (
        f"{evidence.label(row['arm'])} on {cohort_title(row['cohort'], row['modality'])}: {metric.heading} {value} "
        f"against {other} of {evidence.label(published)}, {sign}{difference} [{low}, {high}]"
        f"{', ' + verdict if verdict else ''} ({row['n_people']} people, {folds} fold{'s' * (folds > 1)}, "
        f"p {_p(row['p_holm'])} after Holm)."
    )


def _p(value: float) -> str:
    if np.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _comparison_table(comparisons: pd.DataFrame, published: str, evidence: Evidence) -> Table:
    heads = ["Arm", "Cohort", "Metric", "Value", "Published", "Difference [95 %]", "p", "p (Holm)", "People"]
    lines = []
    for row in comparisons.to_dict("records"):
        metric = _METRICS[row["metric"]]
        value, other, difference, low, high = (
            f"{row[key]:.{metric.decimals}f}" for key in ("value", "published", "difference", "low", "high")
        )
        interval = NOTHING if np.isnan(row["low"]) else f"{low}, {high}"
        lines.append([
            Cell(evidence.label(row["arm"])), Cell(cohort_title(row["cohort"], row["modality"])), Cell(metric.heading),
            Cell(value, sort=row["value"]), Cell(other, sort=row["published"]),
            Cell(f"{difference} [{interval}]", sort=row["difference"]), Cell(_p(row["p_value"]), sort=row["p_value"]),
            Cell(_p(row["p_holm"]), sort=row["p_holm"]), Cell(str(row["n_people"]), sort=row["n_people"]),
        ])  # fmt: skip
    caption = f"Arms against {evidence.label(published)}: paired over test people, Holm over all lines"
    return Table(heads, lines, caption=caption, words=(0, 1, 2))


def _cost_table(costs: pd.DataFrame, evidence: Evidence) -> Table:
    heads = ["Arm", "Parameters (millions)", "GFLOP per volume and noise level", "Seconds per volume"]
    lines = [
        [
            Cell(evidence.label(row.arm)), Cell(f"{row.parameters / 1e6:.2f}", sort=row.parameters),
            Cell(f"{row.gflop:.1f}", sort=row.gflop),
            Cell(NOTHING if np.isnan(row.seconds) else f"{row.seconds:.2f}", sort=row.seconds),
        ]
        for row in costs.itertuples()
    ]  # fmt: skip
    return Table(heads, lines, caption="What the arms cost; a multiply-add counts as two operations")


def _caption(published: str, evidence: Evidence) -> str:
    return (
        f"Difference to {evidence.label(published)} over test people with 95 % bootstrap interval; ensemble reading. "
        "Left of the line is less, right of it more; high is good for SSIM, Dice and AUPRC, low for l1 error and KLD; "
        "the step between slices has no order, since 1 is that of the scan."
    )


def _figure(comparisons: pd.DataFrame, evidence: Evidence) -> Figure:
    from uad.reporting import style

    looks = style.looks(evidence.arms)
    shown: Sequence[str] = [name for name in _METRICS if (comparisons["metric"] == name).any()]
    longest = max(int((comparisons["metric"] == name).sum()) for name in shown)
    columns = min(len(shown), 2)
    height = -(-len(shown) // columns) * (1.8 + 0.45 * longest)
    figure = style.new_figure(style.width_cm(columns), height)
    for panel, name in zip(style.panels(figure, len(shown), columns), shown, strict=True):
        rows = comparisons[comparisons["metric"] == name].to_dict("records")
        for line, row in enumerate(rows):
            look = looks[row["arm"]]
            panel.plot([row["low"], row["high"]], [line, line], color=look.colour)
            panel.plot(row["difference"], line, color=look.colour, marker=look.marker, markersize=4)
        panel.axvline(0, color=style.WORD_GREY, linewidth=0.6)
        panel.set(title=_METRICS[name].heading, xlabel="difference")
        names = [f"{evidence.label(row['arm'])}, {cohort_title(row['cohort'], row['modality'])}" for row in rows]
        style.name_lines(panel, names)
    return figure


STUDY = VolumeConditionStudy

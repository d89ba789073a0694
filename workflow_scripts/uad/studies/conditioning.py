"""What does the conditioning itself contribute?  docs/studies.md#conditioning"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from uad.common.errors import InputError
from uad.reporting.elements import Cell, Table
from uad.reporting.paper_numbers import METRICS, Metric, cohort_title
from uad.studies.base import Answer, Evidence, Place, ScoredArm, Study, at
from uad.studies.comparing import (
    Values,
    carried,
    difference_figure,
    difference_rows,
    difference_sentences,
    mean_rows,
    mean_table,
    need_arms,
    score_values,
)

if TYPE_CHECKING:
    import pandas as pd

    from uad.scoring.postprocessing import PostProcessing
    from uad.scoring.protocol import VolumeToScore

MEASURED = {
    "false_positive_ml": Metric("false positives", "ml per scan", 1.0, -1),
    "false_positives": Metric("false positives", "per scan", 1.0, -1),
}
OF_LESIONS = {"dice": METRICS["dice"], "auprc": METRICS["auprc"], **MEASURED}
OF_HEALTHY = {"l1": METRICS["l1"], "kld": METRICS["kld"]}
ALL = OF_LESIONS | OF_HEALTHY
SAID = ("dice", "false_positive_ml", "l1")  # metrics that get sentences and panels; the others stand in the tables


class ConditioningParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    sensitivity: float = pydantic.Field(0.5, gt=0, le=1, description="Share of validation lesions that are found.")
    overlap: float = pydantic.Field(
        0.1, ge=0, le=1, description="Share of a lesion that is predicted where it counts as found; 0: any voxel."
    )
    plain: str = pydantic.Field("ddpm", description="Arm without a condition.")
    conditioned: str = pydantic.Field("cddpm", description="Arm with the published condition.")


class ConditioningStudy(Study):
    Params = ConditioningParams
    params: ConditioningParams
    question = "What does the conditioning itself contribute?"
    varied = (
        "What the trained cDDPM is told, on the same noise: the encoding of the scan, of another person's scan, the "
        "mean of the training scans', that of the noised input, or zeros. Beside it the control: DDPM, whose "
        "reconstructions are matched to the scan's intensities afterwards, by a smooth gain or by the histogram. False "
        "positives are counted at one threshold per arm, cohort and fold, at which a fixed share of the validation "
        "lesions is found. Beside them stand arms that were trained with another way for the condition to enter."
    )
    tables = ("arms", "differences", "shares", "thresholds")
    figures = ("differences",)
    measures = True

    def measure(self, arm: ScoredArm) -> pd.DataFrame:
        """One row per scan of a cohort with lesions: cohort, subject, split, threshold (NaN: no threshold finds the
        share), false_positive_ml, false_positives, lesions, found (how many of them)."""
        import pandas as pd

        full, rows = arm.settings.variants["full"], []
        for name, cohort in arm.cohorts.items():
            if not any(cohort.lesions > 0):
                continue
            volumes = partial(cohort.volumes, arm.readings[-1])
            threshold = self._threshold(volumes("val"), full)
            rows += [
                {"cohort": name, "subject": volume.subject, "split": split, "threshold": threshold,
                 **self._counts(volume, threshold, arm)}
                for split in ("val", "test")
                for volume in volumes(split)
            ]  # fmt: skip
        counts = ["false_positive_ml", "false_positives", "lesions", "found"]
        return pd.DataFrame(rows, columns=["cohort", "subject", "split", "threshold", *counts])

    def _threshold(self, volumes: Iterable[VolumeToScore], full: PostProcessing) -> float:
        from uad.scoring.predict import predict
        from uad.scoring.protocol import LESION

        scans = [(_cleaned(volume, full), volume.label == LESION) for volume in volumes]
        scans = [(cleaned, lesion) for cleaned, lesion in scans if lesion.any()]

        def share(threshold: float) -> float:
            found = [self._found(lesion, predict(cleaned, threshold, full)) for cleaned, lesion in scans]
            return float(np.concatenate(found).mean())

        if not scans or share(0.0) < self.params.sensitivity:
            return float("nan")
        return highest_threshold(
            lambda threshold: share(threshold) >= self.params.sensitivity,
            max(float(cleaned.max()) for cleaned, _ in scans),
        )

    def _found(self, lesion: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Which lesions are found: bool, one per component."""
        from uad.scoring.lesions import lesions_of

        overlaps = np.array([row["overlap"] for row in lesions_of(lesion, prediction, 1.0)])
        return (overlaps > 0) & (overlaps >= self.params.overlap)

    def _counts(self, volume: VolumeToScore, threshold: float, arm: ScoredArm) -> dict[str, float]:
        from uad.scoring.lesions import lesions_of
        from uad.scoring.predict import predict
        from uad.scoring.protocol import LESION, prediction_scores

        full, lesion = arm.settings.variants["full"], volume.label == LESION
        prediction = None if np.isnan(threshold) else predict(_cleaned(volume, full), threshold, full)
        scores = prediction_scores(prediction, volume, arm.settings)
        return {
            **{name: scores[name] for name in MEASURED},
            "lesions": float(len(lesions_of(lesion, None, 1.0))),
            "found": float("nan") if prediction is None else float(self._found(lesion, prediction).sum()),
        }

    def answer(self, evidence: Evidence) -> Answer:
        plain, conditioned = self.params.plain, self.params.conditioned
        need_arms(evidence, {"plain": plain, "conditioned": conditioned})
        values = score_values(evidence, ["dice", "auprc"], evidence.pathological)
        values |= score_values(evidence, list(OF_HEALTHY), evidence.healthy) | _measured_values(evidence)
        means = mean_rows(evidence, values)
        differences = difference_rows(evidence, values, [plain, conditioned])
        if differences.empty:
            raise InputError("study: no two arms have test scores of the same scans; look at the splits")
        shares = share_rows(evidence, values, plain, conditioned)
        to_plain, to_conditioned = (differences[differences["against"] == name] for name in (plain, conditioned))
        with_condition = [arm["arm"] for arm in evidence.arms if arm["method"] in ("cddpm", "recondition")]
        panels: list[tuple[Place, str]] = [(place, "l1") for place in evidence.healthy]
        panels += [(place, metric) for place in evidence.pathological for metric in ("dice", "false_positive_ml")]
        return Answer(
            found=[
                *self._share_sentences(evidence, shares),
                *difference_sentences(evidence, to_conditioned[to_conditioned["arm"].isin(with_condition)], ALL, SAID),
            ],
            limits=[
                "A network that was trained with a condition has never seen another one: what it loses with zeros, a "
                "mean or another person's scan may be more than what the condition contributes.",
                "The share of a gain is a quotient; it is given only where the gain's own interval is above 0.",
                f"Thresholds find {self.params.sensitivity:.0%} of the validation lesions; what they find on the test "
                "scans stands in thresholds.csv.",
                "One width of the gain's Gaussian was tried. Matching sees the lesion too, as the encoder does.",
                f"{len(differences)} differences are looked at, each with an interval of its own: of twenty without "
                "any effect, one leaves 0 out by chance.",
            ],
            rows={"arms": means, "differences": differences, "shares": shares, "thresholds": threshold_rows(evidence)},
            tables=[
                mean_table(evidence, means, evidence.pathological, OF_LESIONS, _LESIONS),
                mean_table(evidence, means, evidence.healthy, OF_HEALTHY, "Healthy test scans, mean [95 %]"),
                self._share_table(evidence, shares),
            ],
            figures={"differences": (difference_figure(evidence, to_plain, panels, ALL), self._caption(evidence))},
        )

    def _share_sentences(self, evidence: Evidence, shares: pd.DataFrame) -> list[str]:
        conditioned, plain = evidence.label(self.params.conditioned), evidence.label(self.params.plain)
        return [
            f"{evidence.label(row['arm'])} has {row['share']:.0%} [{row['share_low']:.0%}, {row['share_high']:.0%}] of "
            f"what {conditioned} gains over {plain} in {ALL[row['metric']].heading} on "
            f"{cohort_title(row['cohort'], row['modality'])} ({row['n_people']} people)."
            for row in shares.to_dict("records")
            if row["metric"] in SAID and (carried(row["share_low"], row["share_high"]) or row["share_high"] < 1)
        ]

    def _share_table(self, evidence: Evidence, shares: pd.DataFrame) -> Table:
        lines = [
            [
                Cell(evidence.label(row.arm)), Cell(cohort_title(row.cohort, row.modality)),
                Cell(ALL[row.metric].heading),
                Cell(f"{row.gain:.2f} [{row.gain_low:.2f}, {row.gain_high:.2f}]", sort=row.gain),
                Cell("–" if np.isnan(row.share) else f"{row.share:.0%} [{row.share_low:.0%}, {row.share_high:.0%}]",
                     sort=row.share),
                Cell(str(row.n_people), sort=row.n_people),
            ]
            for row in shares.itertuples()
        ]  # fmt: skip
        names = evidence.label(self.params.conditioned), evidence.label(self.params.plain)
        heads = ["Arm", "Cohort", "Metric", f"Gain of {names[0]} [95 %]", "Share of it [95 %]", "People"]
        caption = f"What each arm has of the gain of {names[0]} over {names[1]}; a gain is positive where it is better"
        return Table(heads, lines, caption=caption, words=(0, 1, 2))

    def _caption(self, evidence: Evidence) -> str:
        plain = evidence.label(self.params.plain)
        return f"Test scores minus those of {plain}, paired, with 95 % bootstrap intervals over people."


_LESIONS = "Test scans with lesions, mean [95 %]; false positives at the fixed sensitivity"


def highest_threshold(holds: Callable[[float], bool], largest: float) -> float:
    """The highest float32 from 0 to `largest` at which a condition holds that holds at 0 and, once it fails, fails for
    good.  Floats of at least 0 have the order of their bits, so that 31 halvings find it to the bit."""
    low, high = 0, int(np.float32(largest).view(np.int32)) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(_float_of(middle)) else (low, middle)
    return _float_of(low)


def _float_of(bits: int) -> float:
    return float(np.int32(bits).view(np.float32))


def _cleaned(volume: VolumeToScore, full: PostProcessing) -> np.ndarray:
    from uad.scoring.postprocessing import clean_map
    from uad.scoring.predict import anomaly_map

    return clean_map(anomaly_map(volume.output, volume.image), volume.mask, full)


def _measured_values(evidence: Evidence) -> dict[Any, pd.Series]:
    """False positives of the test scans, by arm, metric and place: mean over folds, then by person."""
    found = {}
    for place in evidence.pathological:
        rows = at(evidence.measured, place)
        rows = rows[rows["split"] == "test"]
        for arm in (row["arm"] for row in evidence.arms):
            of_arm = rows[rows["arm"] == arm].groupby("subject")
            for metric in MEASURED:
                found[arm, metric, place] = evidence.per_person(of_arm[metric].mean(), place).dropna()
    return found


def share_rows(evidence: Evidence, values: Values, plain: str, conditioned: str) -> pd.DataFrame:
    """What each other arm has of the gain of `conditioned` over `plain`: (arm - plain) / (conditioned - plain).

    Means over the people that all three have; people are drawn anew for the interval of the quotient.

    Returns:
        arm, cohort, modality, metric, gain (positive: better), gain_low, gain_high, share (NaN unless gain_low > 0),
        share_low, share_high, n_people.
    """
    import pandas as pd

    from uad.reporting.statistics import bootstrap_interval, group_interval

    rows = []
    for (arm, metric, place), series in values.items():
        if arm in (plain, conditioned):
            continue
        joined = pd.DataFrame(
            {"arm": series, "plain": values[plain, metric, place], "conditioned": values[conditioned, metric, place]}
        ).dropna()
        if joined.empty:
            continue
        own, gain = (
            ALL[metric].better * (joined[name] - joined["plain"]).to_numpy() + 0.0 for name in ("arm", "conditioned")
        )
        gain_low, gain_high = bootstrap_interval(gain, evidence.seed, rounds=evidence.rounds)
        share = share_low = share_high = float("nan")
        if gain_low > 0:
            share = float(own.mean() / gain.mean())
            share_low, share_high = group_interval(
                partial(_quotient, own, gain), [len(gain)], evidence.seed, rounds=evidence.rounds
            )
        rows.append({"arm": arm, "cohort": place[0], "modality": place[1], "metric": metric,
                     "gain": float(gain.mean()), "gain_low": gain_low, "gain_high": gain_high,
                     "share": share, "share_low": share_low, "share_high": share_high,
                     "n_people": len(joined)})  # fmt: skip
    columns = ["arm", "cohort", "modality", "metric", "gain", "gain_low", "gain_high", "share", "share_low"]
    return pd.DataFrame(rows, columns=[*columns, "share_high", "n_people"])


def _quotient(own: np.ndarray, gain: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return (drawn @ own) / (drawn @ gain)


def threshold_rows(evidence: Evidence) -> pd.DataFrame:
    """arm, cohort, modality, fold, threshold, and per split lesions and the share of them that is found."""
    import pandas as pd

    rows = []
    for keys, part in evidence.measured.groupby(["arm", "cohort", "modality", "fold"], sort=False):
        row: dict[str, Any] = dict(zip(("arm", "cohort", "modality", "fold"), keys, strict=True))
        row["threshold"] = part["threshold"].iloc[0]
        for split in ("val", "test"):
            sums = part[part["split"] == split][["lesions", "found"]].sum(min_count=1)
            row |= {f"{split}_lesions": sums["lesions"], f"{split}_found": sums["found"] / sums["lesions"]}
        rows.append(row)
    columns = ["arm", "cohort", "modality", "fold", "threshold", "val_lesions", "val_found", "test_lesions"]
    return pd.DataFrame(rows, columns=[*columns, "test_found"])


STUDY = ConditioningStudy

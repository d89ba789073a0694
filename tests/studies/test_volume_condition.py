"""The study of the encoder's input on made-up volumes and rows with answers by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up_evidence import evidence_of
from places import ROOT

from uad.common.errors import InputError
from uad.config import arm_settings, load
from uad.inference.outputs import Output
from uad.methods import load_method
from uad.reporting import style
from uad.studies import ScoredArm, load_study
from uad.studies.volume_condition import step_between_slices
from uad.workflow.run_plan import RunPlan

STUDY = load_study("volume-condition")
ARMS = ["cddpm", "five"]


def test_the_step_between_slices_is_that_of_the_common_brain():
    image, mask = np.zeros((3, 2, 2)), np.ones((3, 2, 2), bool)
    image[1], image[2] = 0.2, 0.6  # steps of 0.2 and 0.4
    assert step_between_slices(image, image, mask) == 1
    assert step_between_slices(image / 2 + 0.3, image, mask) == pytest.approx(0.5)
    rough = image.copy()
    rough[1] += 0.3  # steps of 0.5 and 0.1
    assert step_between_slices(rough, image, mask) == pytest.approx(1)
    mask[2] = False  # only the first step is left
    assert step_between_slices(rough, image, mask) == pytest.approx(2.5)
    rough[0, 0, 0], mask[0, 0, 0] = 9, False  # brain of one slice alone
    assert step_between_slices(rough, image, mask) == pytest.approx(2.5)
    assert np.isnan(step_between_slices(image, np.ones_like(image), mask))


class MadeUpCohort:
    """Scans that rise from slice to slice; what the arm makes of scan k rises by k + 1 times that."""

    def __init__(self, scans, lesion_ml=0.0, kind="reconstruction"):
        self.store = SimpleNamespace(images=np.zeros((scans, 4, 24, 20)))
        self.subjects = {"val": ["v"], "test": [f"s{k}" for k in range(scans)]}
        self.lesions, self.kind = pd.Series([lesion_ml] * scans), kind

    def volumes(self, reading, split):
        assert (reading, split) == ("ens", "test")
        image = np.broadcast_to(0.1 * np.arange(4)[:, None, None], (4, 24, 20))
        for k, subject in enumerate(self.subjects[split]):
            output = Output(self.kind, image * (k + 1))
            yield SimpleNamespace(subject=subject, image=image, mask=image >= 0, output=output)


def arm_of(**cohorts):
    kind = load_method("cddpm")
    unet = {"base": 8, "multipliers": [1], "blocks": 1, "attention_heads": 1, "head_channels": 8}
    method = kind(kind.Params(unet=unet, encoder={"depth": 10, "width": 8}, condition={"dim": 8}))
    return ScoredArm("cddpm", cohorts, "ixi", ["500", "ens"], None, pd.DataFrame(), method=method, seconds=60.0)


def test_healthy_test_scans_are_measured_and_the_arm_is_counted():
    study = STUDY(STUDY.Params())
    rows = study.measure(arm_of(ixi=MadeUpCohort(2), wmh=MadeUpCohort(1, lesion_ml=3.0)))
    assert rows["cohort"].tolist() == ["ixi", "ixi"] and rows["subject"].tolist() == ["s0", "s1"]
    assert rows["agreement"].tolist() == pytest.approx([1, 2])
    assert rows["seconds"].tolist() == [60 / 5] * 2  # three test scans and two of validation were reconstructed
    method = arm_of().method
    weights = sum(weight.numel() for weight in method.network((24, 20)).parameters())
    assert set(rows["parameters"]) == {weights} and rows["gflop"].min() > 0
    with pytest.raises(InputError, match="cddpm gives no reconstruction"):
        study.measure(arm_of(ixi=MadeUpCohort(1, kind="map")))


def rows_of(place, by_arm, **columns):
    """Rows of one metric by arm: a list of one value per subject."""
    cohort, metric = place
    return pd.DataFrame(
        {"arm": arm, "modality": "t2", "fold": 0, "cohort": cohort, "subject": f"{cohort}{k}", metric: value, **columns}
        for arm, values in by_arm.items()
        for k, value in enumerate(values)
    )  # fmt: skip


COUNT = 12
BASE = 0.010 + 0.001 * np.arange(COUNT)
GAINS = np.where(np.arange(COUNT) % 2, 0.003, 0.001)  # 0.002 on average


def evidence(person=(), arms=ARMS):
    scored = {"split": "test", "variant": "full", "t_test": "ens"}
    healthy = rows_of(("ixi", "l1"), {"cddpm": BASE, "five": BASE - GAINS}, **scored)
    same = {"cddpm": [0.5] * COUNT, "five": [0.5] * COUNT}
    scores = pd.concat([
        healthy.assign(ssim=0.9, kld=0.1), rows_of(("wmh", "dice"), same, **scored).assign(auprc=np.nan),
        # other readings, splits and variants are not looked at
        *(healthy.assign(l1=9.0, **other) for other in ({"t_test": "500"}, {"variant": "no_cc"}, {"split": "val"})),
    ])  # fmt: skip
    step = rows_of(("ixi", "agreement"), {"cddpm": [1.5] * COUNT, "five": 1.2 + GAINS})
    measured = step.assign(parameters=step["arm"].map({"cddpm": 100, "five": 120}), gflop=2.0, seconds=np.nan)
    return evidence_of(arms, scores=scores, measured=measured, person=person)


def answered(evidence):
    with style.context():
        return STUDY(STUDY.Params()).answer(evidence)


def test_arms_are_compared_with_the_published_one_over_people():
    answer = answered(evidence())
    rows = {row["metric"]: row for row in answer.rows["comparisons"].to_dict("records")}
    assert list(rows) == ["l1", "ssim", "kld", "agreement", "dice"]  # AUPRC has no value
    l1 = rows["l1"]
    assert (l1["arm"], l1["cohort"], l1["n_people"]) == ("five", "ixi", COUNT)
    assert l1["published"] == pytest.approx(1000 * BASE.mean()) and l1["difference"] == pytest.approx(-2)
    assert -3 <= l1["low"] < -2 < l1["high"] <= -1
    # all twelve differences have one sign: the smallest p of 2^12 patterns where they are not all counted
    assert l1["p_value"] <= 2 / 200 and l1["p_holm"] == pytest.approx(5 * l1["p_value"])
    assert rows["dice"]["difference"] == 0 and rows["dice"]["p_value"] == 1
    assert rows["agreement"]["difference"] == pytest.approx(1.2 + GAINS.mean() - 1.5)
    costs = answer.rows["costs"].set_index("arm")
    assert costs["parameters"].to_dict() == {"cddpm": 100, "five": 120} and list(costs.index) == ARMS


def test_only_what_interval_and_holm_carry_is_said():
    sentences = answered(evidence()).found
    assert len(sentences) == 2
    assert sentences[0].startswith("five on IXI (T2): l1 error (10⁻³) 13.50 against 15.50 of cDDPM, -2.00 [")
    assert f", better ({COUNT} people, 1 fold" in sentences[0]
    assert "step between slices" in sentences[1] and "better" not in sentences[1]


def test_scans_of_one_person_count_once():
    pairs = {f"ixi{k}": f"p{k // 2}" for k in range(COUNT)}
    rows = answered(evidence(person=pairs)).rows["comparisons"].set_index("metric")
    assert rows.loc["l1", "n_people"] == COUNT // 2
    # each person has one scan of either gain: all differences are 2, and so is the interval
    assert rows.loc["l1", ["low", "high"]].tolist() == pytest.approx([-2, -2])
    assert rows.loc["l1", "p_value"] == pytest.approx(2 / 2**6)  # all patterns of six signs are counted


def test_an_arm_to_compare_with_is_needed():
    for arms in (["five"], ["cddpm"]):
        with pytest.raises(InputError, match=r"study\.arms: cddpm"):
            answered(evidence(arms=arms))


def test_the_reconstruct_jobs_benchmark_is_an_input_of_this_study_alone():
    for question, expected in (("volume-condition", ["results/paper/benchmarks/reconstruct/cddpm-t2-fold1.tsv"]),
                               ("post-processing", [])):  # fmt: skip
        plan = RunPlan(load(ROOT / "config.yaml", ROOT / "studies" / f"{question}.yaml"))
        assert plan.study_benchmark("cddpm", "t2", "1") == expected


def test_the_overlay_trains_the_published_arm_otherwise_alike():
    config = load(ROOT / "config.yaml", ROOT / "studies" / "volume-condition.yaml")
    published, five, volume = (arm_settings(config, arm) for arm in config.study.arms)
    assert five["train"] == volume["train"] == published["train"]
    assert five["params"]["condition"].pop("slices") == 5 and volume["params"]["condition"].pop("slices") == "volume"
    assert volume["params"].pop("encoder") == {**published["params"]["encoder"], "depth": 10}
    assert five["params"] == published["params"] == {**volume["params"], "encoder": published["params"]["encoder"]}

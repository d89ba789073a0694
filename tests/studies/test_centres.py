"""The study of centres on made-up rows with answers by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up_evidence import evidence_of
from places import ROOT
from scipy import stats

from uad.common.errors import InputError
from uad.config import load
from uad.inference.outputs import Output
from uad.reporting import style
from uad.scoring.postprocessing import UNTOUCHED
from uad.scoring.protocol import ScoreSettings, VolumeToScore
from uad.studies import ScoredArm, load_study
from uad.studies.centres import site_spread, values_by_person
from uad.studies.page import write_answer

STUDY = load_study("centres")
EMPTY = dict.fromkeys(["l1_healthy", "kld", "dice", "false_positives", "false_positive_ml"], np.nan)
SITES = {"a1": "A", "a2": "A", "b1": "B", "b2": "B"}


def score(arm, subject, cohort="ixi", fold=0, t_test="ens", **values):
    keys = {"arm": arm, "cohort": cohort, "modality": "t2", "fold": fold, "subject": subject, "t_test": t_test}
    return keys | {"split": "test", "variant": "full"} | EMPTY | values


def of_arms(values, metric="kld", **keys):
    """Scores of one metric by arm: a list of one value for each of a1, a2, b1, b2."""
    rows = [score(arm, subject, **keys, **{metric: value}) for arm, found in values.items()
            for subject, value in zip(SITES, found, strict=True)]  # fmt: skip
    return pd.DataFrame(rows)


def answer_of(evidence, **params):
    with style.context():
        return STUDY(STUDY.Params(**params)).answer(evidence)


def only(table, **wanted):
    """The one row with these values."""
    rows = table[(table[list(wanted)] == list(wanted.values())).all(axis=1)]
    assert len(rows) == 1
    return rows.iloc[0]


# --- by site --------------------------------------------------------------------------------------


def test_the_share_of_sites_is_that_of_an_analysis_of_variance():
    values, sites = np.array([0.0, 2, 4, 6, 8, 10]), np.array(list("AABBCC"))
    found = site_spread(values, sites, rounds=4000, seed=0)
    # site means 1, 5, 9 around 5: 2 * 16 + 0 + 2 * 16 of 70 in all; 2 within each site
    assert found["share"] == pytest.approx(64 / 70) and found["chance"] == 2 / 5
    f = stats.f_oneway(values[:2], values[2:4], values[4:]).statistic
    assert (found["share"] / 2) / ((1 - found["share"]) / 3) == pytest.approx(f)
    # mean squares 32 and 2; two people per site
    assert found["between_sd"] == pytest.approx(np.sqrt((32 - 2) / 2)) and found["within_sd"] == pytest.approx(2**0.5)
    # of 6! / (2! 2! 2!) = 90 ways to give the sites out, the 6 that keep these pairs together are as extreme
    assert found["p_value"] == pytest.approx(6 / 90, abs=0.015)


def test_sites_that_say_nothing_have_no_spread_between_them():
    found = site_spread(np.array([0.0, 4, 0, 4]), np.array(list("AABB")), rounds=50, seed=0)
    assert found["share"] == found["between_sd"] == 0 and found["p_value"] == 1
    # one mean square of 8 within each site
    assert found["within_sd"] == pytest.approx(8**0.5)
    equal = site_spread(np.full(4, 0.1), np.array(list("AABB")), rounds=50, seed=0)
    assert np.isnan(equal["share"]) and equal["p_value"] == 1


def test_sites_have_the_means_of_their_people():
    scores = of_arms({"ddpm": [1, 3, 5, 9]})
    levels = of_arms({"ddpm": [9, 9, 9, 9]}, t_test="500")  # the ensemble is read where there is one
    again = of_arms({"ddpm": [3, 5, 7, 11]}, fold=1)  # folds are averaged first
    evidence = evidence_of(["ddpm"], pd.concat([scores, levels, again]), site=SITES, folds=2)
    answer = answer_of(evidence, min_people=2)
    a, b = answer.rows["sites"].to_dict("records")
    assert (a["site"], a["mean"], a["n_people"]) == ("A", 3, 2) and (b["site"], b["mean"], b["n_people"]) == ("B", 8, 2)
    assert a["ci_low"] <= 3 <= a["ci_high"]
    (spread,) = answer.rows["spread"].to_dict("records")
    # people 2, 4, 6, 10 around 5.5: 4 * 2.5^2 between sites of 35 in all
    assert spread["share"] == pytest.approx(25 / 35) and spread["n_people"] == 4 and spread["p_holm"] >= 0.05
    assert not answer.found
    assert answer_of(evidence, min_people=3).rows["spread"].empty


def test_scans_of_one_person_count_once_and_sites_without_a_name_are_in_no_test():
    people = evidence_of(["ddpm"], of_arms({"ddpm": [1, 3, 5, 9]}), person={"a1": "a", "a2": "a"}, site=SITES)
    assert values_by_person(people).set_index("person")["value"].to_dict() == {"a": 2, "b1": 5, "b2": 9}
    unnamed = answer_of(evidence_of(["ddpm"], of_arms({"ddpm": [1, 3, 5, 9]})), min_people=2)
    assert unnamed.rows["sites"]["site"].tolist() == ["unnamed"] and unnamed.rows["spread"].empty


def test_a_difference_between_sites_is_said_with_its_ends():
    names = [f"{site}{number}" for site in "AB" for number in range(8)]
    rows = pd.DataFrame([score("ae", name, kld=(name[0] == "B") + int(name[1]) / 100) for name in names])
    answer = answer_of(evidence_of(["ae"], rows, site={name: name[0] for name in names}))
    (sentence,) = answer.found
    assert sentence.startswith("AE on IXI (T2): KLD (nats) differs between 2 sites")
    assert "over 16 people" in sentence and "from A (0.035 [" in sentence and "to B (1.035 [" in sentence


def test_dice_and_false_positives_are_those_of_cohorts_with_lesions():
    rows = of_arms({"ddpm": [2, 2, 3, 3]}, "false_positives", cohort="wmh")
    values = values_by_person(evidence_of(["ddpm"], rows, site=SITES))
    assert set(values["metric"]) == {"false_positives"} and set(values["threshold_of"]) == {"wmh"}


def test_false_positives_of_healthy_scans_are_counted_at_every_threshold():
    calls = np.zeros((3, 6, 6), np.float32)
    calls[1, 1, 1] = calls[1, 4, 4] = 0.5  # two places
    calls[1, 1, 2] = 0.2  # beside the first
    arrays = [np.ones_like(calls), np.ones_like(calls), np.zeros(calls.shape, np.uint8)]
    volume = VolumeToScore("a1", "test", "A", *arrays, Output("map", calls))
    healthy = SimpleNamespace(lesions=pd.Series([0.0]), volumes=lambda reading, split: [volume])
    ill = SimpleNamespace(lesions=pd.Series([0.0, 3.0]))
    scores = pd.DataFrame(
        {"cohort": cohort, "variant": "full", "t_test": t_test, "threshold": threshold}
        for cohort, t_test, threshold in
        [("wmh", "", 0.1), ("atlas", "", 0.3), ("ixi", "", np.nan), ("wmh", "500", 0.7)]
    )  # fmt: skip
    settings = ScoreSettings(voxel_ml=0.5, variants={"full": UNTOUCHED})
    arm = ScoredArm("ae", {"ixi": healthy, "wmh": ill}, "ixi", [""], settings, scores)
    rows = STUDY(STUDY.Params()).measure(arm).set_index("threshold_of")
    assert rows["false_positives"].to_dict() == {"atlas": 2, "wmh": 2}
    assert rows["false_positive_ml"].to_dict() == {"atlas": 1.0, "wmh": 1.5}
    assert set(rows["cohort"]) == {"ixi"}
    measured = rows.reset_index().assign(arm="ae", modality="t2", fold=0)
    values = values_by_person(evidence_of(["ae"], pd.DataFrame([score("ae", "a1", kld=1)]), measured=measured))
    assert only(values, metric="false_positive_ml", threshold_of="wmh")["value"] == 1.5


# --- without a site -------------------------------------------------------------------------------

KLD = {
    "ddpm": [1.0, 1.0, 1.0, 1.0], "ddpm-no-a": [1.4, 1.6, 1.1, 1.1], "ddpm-no-b": [1.2, 1.2, 1.3, 1.5],
    "cddpm": [0.5, 0.5, 0.5, 0.5], "cddpm-no-a": [0.6, 0.8, 0.5, 0.5], "cddpm-no-b": [0.5, 0.5, 0.6, 0.6],
}  # fmt: skip


def trained_without(kld, **changes):
    evidence = evidence_of(list(kld), of_arms(kld), site=SITES)
    rows = [
        row | {"method": row["arm"].split("-")[0], "without_sites": [row["arm"][-1].upper()] * ("-no-" in row["arm"])}
        for row in evidence.arms
    ]
    return replace(evidence, arms=rows, **changes)


def test_an_unseen_site_costs_its_people_what_training_without_it_changes():
    answer = answer_of(trained_without(KLD))
    unseen = answer.rows["unseen"]
    a = only(unseen, arm="ddpm", site="A")
    assert (a["without"], a["n_people"]) == ("ddpm-no-a", 2) and a["trained_on_all"] == 1
    # 0.4 and 0.6 for the people of A; the arm without B changes 0.2 for them
    assert a["change"] == pytest.approx(0.5) and a["change_seen"] == pytest.approx(0.2)
    assert a["excess"] == pytest.approx(0.3) and a["excess_low"] <= 0.3 <= a["excess_high"]
    both = only(unseen, arm="ddpm", site="all")
    assert both["change"] == pytest.approx((0.4 + 0.6 + 0.3 + 0.5) / 4) and both["n_people"] == 4
    assert both["change_seen"] == pytest.approx((0.2 + 0.2 + 0.1 + 0.1) / 4)
    difference = only(answer.rows["unseen_difference"], site="all")
    assert (difference["arm"], difference["minus"]) == ("cddpm", "ddpm")
    assert difference["difference"] == pytest.approx((0.1 + 0.3 + 0.1 + 0.1) / 4 - 0.45)
    assert only(answer.rows["unseen_difference"], site="A")["difference"] == pytest.approx(0.2 - 0.5)
    first = answer.found[0]
    assert first.startswith(
        "DDPM on the people of each site of IXI (T2), trained without that site: a change of KLD by +0.4"
    )
    assert "4 people; arms that lack another site: +0.150" in first
    assert "(cDDPM minus DDPM, 4 people)" in answer.found[-1]
    # arms without a site are in no test of the spread between sites
    assert not any("no" in arm for arm in answer_of(trained_without(KLD), min_people=2).rows["spread"]["arm"])


def test_one_site_left_out_has_nothing_to_be_compared_with():
    answer = answer_of(trained_without({name: KLD[name] for name in ("ddpm", "ddpm-no-a")}))
    (row,) = answer.rows["unseen"].to_dict("records")
    assert row["site"] == "A" and np.isnan(row["change_seen"]) and np.isnan(row["excess"])
    assert answer.rows["unseen_difference"].empty and "another site" not in answer.found[0]


def test_an_arm_without_a_site_needs_its_like():
    with pytest.raises(InputError, match=r"ddpm-no-a was trained without A, and the study has no arm of the same"):
        answer_of(trained_without({name: KLD[name] for name in ("ddpm-no-a", "cddpm")}))


# --- other cohorts --------------------------------------------------------------------------------


def shifted(**changes):
    home = of_arms({"ddpm": [0.9, 1.1, 1.0, 1.0], "cddpm": [0.5, 0.5, 0.4, 0.6]})
    away = of_arms({"ddpm": [3.0, 3.2, 2.8, 3.0], "cddpm": [1.0, 1.0, 0.9, 1.1]}, cohort="oasis")
    places = [("oasis", "t2"), ("ixi", "t2")]
    return replace(evidence_of(["ddpm", "cddpm"], pd.concat([home, away]), healthy=places), **changes)


def test_the_shift_is_from_the_training_cohort_and_cddpms_is_set_against_ddpms():
    answer = answer_of(shifted())
    ddpm = only(answer.rows["shift"], arm="ddpm", metric="kld")
    assert (ddpm["cohort"], ddpm["at_home"], ddpm["mean"]) == ("oasis", pytest.approx(1), pytest.approx(3))
    assert ddpm["shift"] == pytest.approx(2) and ddpm["ci_low"] < 2 < ddpm["ci_high"]
    assert only(answer.rows["shift"], arm="cddpm")["shift"] == pytest.approx(0.5)
    difference = only(answer.rows["shift_difference"], metric="kld")
    assert difference["difference"] == pytest.approx(-1.5)
    assert (difference["n_home"], difference["n_people"]) == (4, 4)
    (sentence,) = answer.found
    assert sentence.startswith("From IXI (T2) to oasis (T2), KLD changes by +2.000 [") and "-1.500 [" in sentence
    assert sentence.endswith("nats (4 and 4 people).")


def test_simulated_contrast_stands_beside_the_measured_shift():
    exact, half = [0.5, 0.5], [0.25, 0.75]
    arrays = {"contrasts": np.array([0.5, 1.0]), "input": np.array([exact, exact]),
              "conditioned": np.array([exact, exact]), "unconditioned": np.array([half, exact])}  # fmt: skip
    experiments = {"t2": {f"histograms/ixi/{name}": array for name, array in arrays.items()}}
    rows = answer_of(shifted(experiments=experiments)).rows["contrast"]
    # KL([1/2, 1/2] || [1/4, 3/4])
    expected = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert only(rows, arm="ddpm", contrast=0.5)["change"] == pytest.approx(expected, rel=1e-4)
    assert only(rows, arm="cddpm", contrast=0.5)["change"] == pytest.approx(0, abs=1e-9)
    assert only(rows, arm="ddpm", kind="measured")["change"] == pytest.approx(2)
    assert answer_of(shifted()).rows["contrast"].empty


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", [trained_without(KLD), shifted()], ids=["without a site", "other cohorts"])
def test_every_answer_can_be_written(evidence, tmp_path):
    study = STUDY(STUDY.Params())
    about = {"run": "made-up", "protocol": "clean", "phantom": True, "folds": 1}
    with style.context():
        write_answer(study, study.answer(evidence), tmp_path, about)
    assert {path.stem for path in tmp_path.glob("*.csv")} == set(STUDY.tables)
    assert (tmp_path / "without_site.svg").exists() and "across real scanners" in (tmp_path / "index.html").read_text()


def test_the_overlay_trains_both_arms_without_each_site_of_ixi():
    for overlays in ([], ["demo/config.yaml"]):
        config = load(*(ROOT / name for name in ["config.yaml", *overlays, "studies/centres-trained.yaml"]))
        arms = [config.arms[name] for name in config.study.arms]
        asked = {(arm.method, *arm.train.get("without_sites", [])) for arm in arms}
        assert {("ddpm",), ("cddpm",)} < asked
        assert {(method, site) for method in ("ddpm", "cddpm") for site in ("Guys", "HH", "IOP")} < asked
    real = load(*(ROOT / name for name in ["config.yaml", "real/config.yaml", "studies/centres.yaml"]))
    assert not any(arm.train.get("without_sites") for arm in real.arms.values())

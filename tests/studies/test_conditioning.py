"""The study of conditioning on made-up rows and volumes with answers by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up_evidence import evidence_of

from uad.common.errors import InputError
from uad.inference.outputs import Output
from uad.scoring.postprocessing import UNTOUCHED, PostProcessing
from uad.scoring.protocol import ScoreSettings, VolumeToScore
from uad.studies import load_study
from uad.studies.base import ScoredArm
from uad.studies.conditioning import highest_threshold

STUDY = load_study("conditioning")


@pytest.mark.parametrize("edge", [0.3, 1e-30, 1.0])
def test_the_highest_threshold_is_found_to_the_bit(edge):
    edge = np.float32(edge)
    below = float(np.nextafter(edge, np.float32(0)))
    assert highest_threshold(lambda t: t < edge, 1.0) == below
    assert highest_threshold(lambda t: t <= edge, 1.0) == edge
    assert highest_threshold(lambda t: t == 0, 1.0) == 0


# --- measured on volumes ------------------------------------------------------------------------------------


def volume(subject, split, lesions, others=()):
    """A map of one row: lesions (one list of values each) and healthy runs, apart from each other."""
    runs = [(values, 1) for values in lesions] + [(values, 0) for values in others]
    values, label = np.zeros((1, 1, 40), np.float32), np.zeros((1, 1, 40), np.uint8)
    start = 1
    for run, kind in runs:
        stop = start + len(run)
        values[0, 0, start:stop], label[0, 0, start:stop] = run, kind
        start = stop + 1
    mask = np.ones_like(label, bool)
    return VolumeToScore(subject, split, "", np.zeros_like(values), mask, label, Output("map", values))


def measured(volumes, full=UNTOUCHED, **params):
    """Rows by subject."""
    test = [v.subject for v in volumes if v.split == "test"]
    ill = SimpleNamespace(
        lesions=pd.Series([float((v.label == 1).any()) for v in volumes if v.split == "test"], index=test),
        volumes=lambda reading, split: (v for v in volumes if v.split == split),
    )
    healthy = SimpleNamespace(lesions=pd.Series([0.0]), volumes=None)  # is not asked for volumes
    arm = ScoredArm("ddpm", {"ixi": healthy, "wmh": ill}, "ixi", ["500", "ens"], ScoreSettings(0.5, {"full": full}),
                    pd.DataFrame())  # fmt: skip
    return STUDY(STUDY.Params(**params)).measure(arm).set_index("subject")


SINGLE = [
    volume("v1", "val", [[0.2], [0.8]], [[0.9]]),
    volume("v2", "val", [[0.4], [0.6]]),
    volume("v3", "val", []),  # without a lesion: no say
    volume("a", "test", [[0.7], [0.3]], [[0.65, 0.61], [0.9], [0.5]]),
    volume("b", "test", [[0.59]], [[0.1]]),
]


def test_the_threshold_finds_the_share_of_validation_lesions_and_no_more_than_it_must():
    rows = measured(SINGLE, sensitivity=0.5)
    assert set(rows["threshold"]) == {float(np.nextafter(np.float32(0.6), np.float32(0)))}  # 0.8 and 0.6 are found
    assert rows["found"].to_dict() == {"v1": 1, "v2": 1, "v3": 0, "a": 1, "b": 0}
    assert rows["lesions"].to_dict() == {"v1": 2, "v2": 2, "v3": 0, "a": 2, "b": 1}
    assert rows["false_positives"].to_dict() == {"v1": 1, "v2": 0, "v3": 0, "a": 2, "b": 0}
    assert rows.loc["a", "false_positive_ml"] == pytest.approx(3 * 0.5)  # three voxels of 0.5 ml
    assert set(measured(SINGLE, sensitivity=0.51)["threshold"]) == {float(np.nextafter(np.float32(0.4), np.float32(0)))}


def test_a_lesion_counts_from_its_share_on():
    long = [volume("v", "val", [[0.9, 0.5, 0.3, 0.1]]), volume("a", "test", [[0.4, 0.4, 0.1, 0.1]])]
    for overlap, edge in ((0, 0.9), (0.25, 0.9), (0.26, 0.5), (0.5, 0.5), (1, 0.1)):
        rows = measured(long, sensitivity=1, overlap=overlap)
        assert rows.loc["v", "threshold"] == float(np.nextafter(np.float32(edge), np.float32(0))), overlap


def test_small_components_find_nothing():
    # components of one voxel go: the first lesion is found only with its neighbour of 0.3
    full = PostProcessing(order=(), component_max_size=1)
    rows = measured([volume("v", "val", [[0.9, 0.3]]), volume("a", "test", [[0.5]], [[0.5], [0.4, 0.4]])], full)
    assert rows.loc["v", "threshold"] == float(np.nextafter(np.float32(0.3), np.float32(0)))
    assert rows.loc["a", ["found", "false_positives"]].tolist() == [0, 1]


def test_where_no_threshold_finds_the_share_there_is_none():
    rows = measured([volume("v", "val", [[0.0], [0.9]]), volume("a", "test", [[0.5]])], sensitivity=0.6)
    assert rows["threshold"].isna().all() and rows[["found", "false_positives", "false_positive_ml"]].isna().all(None)
    assert measured([volume("a", "test", [[0.5]])])["threshold"].isna().all()  # no validation scan


# --- answered from rows -------------------------------------------------------------------------------------


def scores_of(values, cohort, metrics):
    """Rows of test scores; metrics -> arm -> one value per scan, in the unit of the metrics format."""
    rows = []
    for arm, of_arm in values.items():
        reading = "" if arm == "matched" else "ens"
        count = len(next(iter(of_arm.values())))
        for number in range(count):
            rows.append({"arm": arm, "modality": "t2", "fold": 0, "cohort": cohort, "subject": f"{cohort}{number}",
                         "split": "test", "variant": "full", "t_test": reading,
                         **{metric: of_arm[metric][number] for metric in metrics}})  # fmt: skip
            if reading == "ens":  # another reading, which is not the main one
                rows.append(rows[-1] | {"t_test": "500"} | dict.fromkeys(metrics, 0.9))
    return pd.DataFrame(rows)


LESION = {
    "ddpm": {"dice": [0.1, 0.2, 0.3], "auprc": [0.1, 0.1, 0.1]},
    "cddpm": {"dice": [0.3, 0.4, 0.5], "auprc": [0.0, 0.1, 0.2]},
    "matched": {"dice": [0.15, 0.25, 0.35], "auprc": [0.1, 0.1, 0.1]},
    "recondition": {"dice": [0.2, 0.3, 0.4], "auprc": [0.1, 0.1, 0.1]},
}
HEALTHY = {
    "ddpm": {"l1": [0.020, 0.022], "kld": [0.5, 0.6]},
    "cddpm": {"l1": [0.010, 0.012], "kld": [0.2, 0.3]},
    "matched": {"l1": [0.012, 0.014], "kld": [0.2, 0.3]},
    "recondition": {"l1": [0.015, 0.017], "kld": [0.5, 0.6]},
}
FALSE_ML = {"ddpm": [8.0, 9.0, 10.0], "cddpm": [4.0, 5.0, 6.0], "matched": [5.0, 6.0, 7.0], "recondition": [9, 10, 11]}


def evidence(**more):
    scores = pd.concat([scores_of(LESION, "wmh", ["dice", "auprc"]), scores_of(HEALTHY, "ixi", ["l1", "kld"])])
    rows = pd.DataFrame(
        {"arm": arm, "modality": "t2", "fold": 0, "cohort": "wmh", "subject": f"wmh{number}", "split": split,
         "threshold": 0.1, "false_positive_ml": ml + (100 if split == "val" else 0), "false_positives": 1.0,
         "lesions": 2.0, "found": 2.0 if split == "val" else number / 1.0}
        for arm, values in FALSE_ML.items()
        for number, ml in enumerate(values)
        for split in ("val", "test")
    )  # fmt: skip
    return evidence_of(list(LESION), scores=scores, measured=rows, **more)


@pytest.fixture(scope="module")
def answer():
    return STUDY(STUDY.Params()).answer(evidence())


def line(rows, **keys):
    for key, value in keys.items():
        rows = rows[rows[key] == value]
    (row,) = rows.to_dict("records")
    return row


@pytest.mark.parametrize(
    ("arm", "metric", "gain", "share"),
    [
        ("matched", "dice", 20, 0.25),  # 5 of 20 points
        ("matched", "l1", 10, 0.8),  # 8 of 10 thousandths, where less is better
        ("matched", "kld", 0.3, 1.0),
        ("matched", "false_positive_ml", 4, 0.75),
        ("recondition", "dice", 20, 0.5),
        ("recondition", "false_positive_ml", 4, -0.25),  # worse than without a condition
        ("recondition", "kld", 0.3, 0.0),
    ],
)
def test_a_share_is_that_of_the_conditioned_arm_s_gain(answer, arm, metric, gain, share):
    row = line(answer.rows["shares"], arm=arm, metric=metric)
    assert row["gain"] == pytest.approx(gain) and row["gain_low"] == pytest.approx(gain)
    assert [row["share"], row["share_low"], row["share_high"]] == pytest.approx([share] * 3, abs=1e-9)


def test_without_a_sure_gain_there_is_no_share_of_it(answer):
    # AUPRC of cDDPM: lower, equal, higher
    row = line(answer.rows["shares"], arm="matched", metric="auprc")
    assert row["gain"] == pytest.approx(0) and np.isnan(row["share"]) and np.isnan(row["share_low"])


def test_differences_are_paired_and_in_printed_units(answer):
    rows = answer.rows["differences"]
    assert line(rows, arm="recondition", against="cddpm", metric="dice")["difference"] == pytest.approx(-10)
    assert line(rows, arm="cddpm", against="ddpm", metric="l1")["difference"] == pytest.approx(-10)
    assert line(rows, arm="ddpm", against="cddpm", metric="false_positive_ml")["difference"] == pytest.approx(4)
    means = answer.rows["arms"]
    row = line(means, arm="cddpm", metric="false_positive_ml")
    assert row["mean"] == pytest.approx(5) and row["n_people"] == 3  # of test scans alone


def test_sentences_have_people_and_interval(answer):
    assert (
        "matched has 25% [25%, 25%] of what cDDPM gains over DDPM in Dice (%) on WMH (T2) (3 people)." in answer.found
    )
    assert (
        "recondition against cDDPM on WMH (T2): Dice (%) differs by -10.00 [-10.00, -10.00] (3 people)." in answer.found
    )
    # told nothing else, an arm is compared with DDPM alone
    assert not any(sentence.startswith(("matched against", "DDPM against")) for sentence in answer.found)
    assert not any("AUPRC" in sentence for sentence in answer.found)


def test_thresholds_say_what_they_find(answer):
    row = line(answer.rows["thresholds"], arm="ddpm")
    # of 3 scans with 2 lesions each: all on validation, 0 + 1 + 2 on test
    assert (row["val_lesions"], row["val_found"], row["test_lesions"], row["test_found"]) == (6, 1, 6, 0.5)


def test_scans_of_one_person_count_once():
    (row,) = (
        row
        for row in STUDY(STUDY.Params())
        .answer(evidence(person={"wmh0": "p", "wmh1": "p"}))
        .rows["arms"]
        .to_dict("records")
        if (row["arm"], row["metric"]) == ("ddpm", "dice")
    )
    assert row["n_people"] == 2 and row["mean"] == pytest.approx((15 + 30) / 2)


def test_an_arm_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"study.params.conditioned: cddpm-x is not among study.arms \(ddpm, cddpm"):
        STUDY(STUDY.Params(conditioned="cddpm-x")).answer(evidence())


def test_the_answer_becomes_a_page(answer, tmp_path):
    from uad.reporting import style
    from uad.studies.page import write_answer

    with style.context():
        write_answer(STUDY(STUDY.Params()), answer, tmp_path,
                     {"run": "demo", "protocol": "clean", "phantom": True, "folds": 1})  # fmt: skip
    assert {"index.html", "findings.md", "shares.csv", "thresholds.csv", "differences.png"} <= {
        path.name for path in tmp_path.iterdir()
    }

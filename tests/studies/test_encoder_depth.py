"""The study of the encoder's depth on made-up rows with answers by hand."""

import pandas as pd
import pytest
from made_up_evidence import evidence_of

from uad.common.errors import InputError
from uad.studies import load_study

STUDY = load_study("encoder-depth")

# healthy l1; l1 on the lesion, on healthy tissue beside it; Dice: one value per scan
ARMS = {
    "ten": ([0.020, 0.022, 0.024], [0.060, 0.080, 0.100], [0.020, 0.020, 0.020], [0.5, 0.4, 0.3]),
    "fifty": ([0.010, 0.012, 0.014], [0.030, 0.040, 0.050], [0.010, 0.010, 0.010], [0.4, 0.4, 0.3]),
    "hundred": ([0.012, 0.014, 0.016], [0.015, 0.020, 0.025], [0.010, 0.010, 0.010], [0.2, 0.2, 0.1]),
}


def scores():
    rows = []
    for arm, (healthy, lesion, beside, dice) in ARMS.items():
        keys = {"arm": arm, "modality": "t2", "fold": 0, "split": "test", "variant": "full", "t_test": "ens"}
        for number in range(3):
            rows.append(keys | {"cohort": "ixi", "subject": f"h{number}", "l1": healthy[number]})
            rows.append(keys | {"cohort": "wmh", "subject": f"l{number}", "l1": 0.5, "l1_lesion": lesion[number],
                                "l1_healthy": beside[number], "dice": dice[number], "auprc": 0.1})  # fmt: skip
    return pd.DataFrame(rows)


def answered(person=(), **params):
    study = STUDY(STUDY.Params(**({"reference": "fifty"} | params)))
    return study.answer(evidence_of(list(ARMS), scores=scores(), person=person))


@pytest.fixture(scope="module")
def answer():
    return answered()


def line(rows, **keys):
    for key, value in keys.items():
        rows = rows[rows[key] == value]
    (row,) = rows.to_dict("records")
    return row


def test_healthy_error_and_copied_lesion_stand_beside_each_other(answer):
    rows = answer.rows["frontier"].set_index("arm")
    # thousandths; ratios 3, 4, 5 twice, and 1.5, 2, 2.5
    assert rows["l1"].to_dict() == pytest.approx({"ten": 22, "fifty": 12, "hundred": 14})
    assert rows["l1_ratio"].to_dict() == pytest.approx({"ten": 4, "fifty": 4, "hundred": 2})
    assert set(rows["healthy"]) == {"ixi"} and set(rows["cohort"]) == {"wmh"}
    # `hundred` is worse than `fifty` in both; `ten` has an equal ratio, so that none is better in both
    assert rows["on_front"].to_dict() == {"ten": 1, "fifty": 1, "hundred": 0}


def test_differences_are_paired_with_the_reference(answer):
    rows = answer.rows["differences"]
    assert set(rows["against"]) == {"fifty"} and "fifty" not in set(rows["arm"])
    row = line(rows, arm="hundred", metric="l1")
    # 2 thousandths for every person
    assert [row["difference"], row["low"], row["high"]] == pytest.approx([2, 2, 2]) and row["n_people"] == 3
    assert line(rows, arm="hundred", metric="l1_ratio")["difference"] == pytest.approx(-2)
    assert line(rows, arm="ten", metric="dice")["difference"] == pytest.approx(10 / 3)


def test_a_sentence_needs_an_interval_that_leaves_0_out(answer):
    assert (
        "hundred against fifty on IXI (T2): l1 error (10⁻³) differs by +2.00 [2.00, 2.00] (3 people)." in answer.found
    )
    row = line(answer.rows["differences"], arm="ten", metric="dice")
    assert row["low"] <= 0 < row["high"]  # better in one person, equal in two
    assert not any("ten against fifty on WMH (T2): Dice" in sentence for sentence in answer.found)
    assert not any("ten against fifty on WMH (T2): l1 ratio" in sentence for sentence in answer.found)


def test_scans_of_one_person_count_once():
    row = line(answered(person={"l0": "p", "l1": "p"}).rows["arms"], arm="ten", metric="dice")
    assert row["n_people"] == 2 and row["mean"] == pytest.approx((45 + 30) / 2)


def test_a_reference_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"study.params.reference: fity is not among study.arms \(ten, fifty"):
        answered(reference="fity")


def test_the_answer_becomes_a_page(answer, tmp_path):
    from uad.reporting import style
    from uad.studies.page import write_answer

    with style.context():
        write_answer(STUDY(STUDY.Params()), answer, tmp_path,
                     {"run": "demo", "protocol": "clean", "phantom": False, "folds": 1})  # fmt: skip
    names = {path.name for path in tmp_path.iterdir()}
    assert {"index.html", "findings.md", "frontier.csv", "frontier.png", "differences.svg"} <= names

"""The parity door on made-up rows of Thresh: numbers, verdicts and where it says to look.  docs/paper.md#thresh"""

import pandas as pd
import pytest

from uad.reporting.parity import HINTS, parity_report
from uad.reporting.tables import Reader

PAPER = {  # Dice and AUPRC as printed, docs/paper.md#thresh
    ("brats21", "t2"): (19.69, 20.27),
    ("mslub", "t2"): (6.21, 4.23),
    ("atlas", "t1"): (4.41, 1.71),
    ("wmh", "t1"): (9.38, 4.72),
}
THRESH = {"arm": "thresh", "method": "thresh", "paper_model": "Thresh", "ssl": False, "control": False, "label": "T"}
OTHER = THRESH | {"arm": "ae", "method": "ae", "paper_model": "AE"}


def rows(change=None, places=PAPER):
    """Two test volumes per place whose mean is the paper's number, plus `change[cohort]` on Dice and AUPRC."""
    frames = []
    for (cohort, modality), numbers in {place: PAPER[place] for place in places}.items():
        shift = (change or {}).get(cohort, (0, 0))
        dice, auprc = ((number + extra) / 100 for number, extra in zip(numbers, shift, strict=True))
        spread = pd.Series([-0.01, 0.01])
        frames.append(pd.DataFrame({"dice": dice + spread, "auprc": auprc + spread, "prevalence": [0.01, 0.03],
                                    "subject": ["a", "b"], "cohort": cohort, "modality": modality}))  # fmt: skip
    return pd.concat(frames).assign(arm="thresh", fold=0, split="test", t_test="", variant="full")


def report(metrics, places=tuple(PAPER), phantom=False, arms=(OTHER, THRESH)):
    return parity_report(metrics, arms, places, Reader(folds=[0]), phantom)


def line(text, start):
    return next(found for found in text.splitlines() if found.startswith(start)).split()


def test_the_papers_numbers_agree():
    text = report(rows())
    assert "The data agree on every cohort present." in text and "Look" not in text
    assert line(text, "BraTS21 (T2)  Dice")[-5:] == ["19.69", "19.69", "+0.00", "2.00", "agrees"]
    # a quarter of 1.71 is narrower than the band's floor of 1.5 points
    assert line(text, "ATLAS (T1)    AUPRC")[-5:] == ["1.71", "1.71", "+0.00", "0.43", "agrees"]


@pytest.mark.parametrize("cohort", ["brats21", "mslub", "atlas", "wmh"])
def test_a_cohort_that_is_off_gets_its_own_hints_in_order(cohort):
    text = report(rows({cohort: (-4, -1.5 if cohort != "brats21" else -4)}))
    assert text.count("is off") == 1 and text.count("too low") == 2
    assert "mean prevalence of lesions 2.00 %" in text
    places = [text.index(f"  {n}. {hint}") for n, hint in enumerate(HINTS[cohort], 1)]
    assert places == sorted(places)
    assert "what they share" not in text


def test_small_lesions_point_to_the_interpolation_of_labels_first():
    assert "D11" in HINTS["mslub"][0] and "D12" in HINTS["brats21"][1] and "invert" in HINTS["atlas"][0]


def test_dice_alone_points_to_the_threshold():
    text = report(rows({"brats21": (-5, 0)}))
    assert "AUPRC agrees, so maps and labels are right: the threshold (D26" in text
    assert "get_mask" not in text


def test_all_cohorts_off_the_same_way_point_to_what_they_share():
    text = report(rows(dict.fromkeys(("brats21", "mslub", "atlas", "wmh"), (9, 9))))
    assert text.index("Every cohort's AUPRC is too high: look first at what they share") < text.index("is off")
    mixed = report(rows({"brats21": (9, 9), "mslub": (-6, -4), "atlas": (9, 9), "wmh": (9, 9)}))
    assert "what they share" not in mixed and mixed.count("is off") == 4


def test_it_works_with_whatever_cohorts_are_present():
    text = report(rows(places=[("mslub", "t2")]), places=[("mslub", "t2"), ("mine", "t2"), ("mslub", "t1")])
    assert "The data agree on every cohort present." in text
    assert "Not in the paper: mine (T2), MSLUB (T1)." in text and "BraTS21" not in text
    missing = report(rows(places=[("mslub", "t2")]), places=[("mslub", "t2"), ("wmh", "t1")])
    assert line(missing, "WMH (T1)")[-1] == "score"


def test_phantoms_get_no_hints():
    text = report(rows({"brats21": (30, 30)}), phantom=True)
    assert "too high" in text and "These are phantoms" in text and "is off" not in text


def test_a_run_without_the_arm_says_how_to_get_it():
    assert "paper: {model: Thresh}" in report(rows(), arms=[OTHER])

"""Tests of the tests: each check of the results holds on sound rows and breaks on the fault it is for."""

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from uad.reporting.check import check_results, expected_random_auprc

pytestmark = pytest.mark.slow

VOXELS = 20_000
ARMS = [
    {"arm": "ae", "method": "ae", "postprocess": True},
    {"arm": "oracle", "method": "oracle", "postprocess": False},
    {"arm": "oracle-post", "method": "oracle", "postprocess": True},
    {"arm": "chance", "method": "chance", "postprocess": False},
]


def random_scores(truth, rng):
    """AUPRC and AUROC of random numbers as they are cached: float16, with ties."""
    ranking = rng.random(len(truth), np.float32).astype(np.float16)
    return average_precision_score(truth, ranking), roc_auc_score(truth, ranking)


def sound_rows(seed=0, volumes=12):
    """Rows of four arms on healthy volumes and on volumes with 200 to 1000 lesion voxels."""
    rng = np.random.default_rng(seed)
    lesions = rng.integers(200, 1000, volumes)
    rows = []
    for arm in ARMS:
        for number, lesion in enumerate(lesions):
            truth = np.arange(VOXELS) < lesion
            scores = {
                "ae": (0.4, 0.3, 0.8),
                "oracle": (1.0, 1.0, 1.0),
                "oracle-post": (0.7, 0.8, 0.9),
                "chance": (0.05, *random_scores(truth, rng)),
            }[arm["arm"]]
            rows.append((arm["arm"], "brats21", f"b{number}", "val" if number == 0 else "test", *scores, lesion, 0.1))
        rows += [(arm["arm"], "ixi", f"h{n}", "test", *[np.nan] * 3, 0, np.nan) for n in range(2)]
    columns = ["arm", "cohort", "subject", "split", "dice", "auprc", "auroc", "lesion", "threshold"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(modality="t2", fold=0, voxels=VOXELS, prevalence=table.pop("lesion") / VOXELS)


def at(rows, arm, subject, **values):
    changed = rows.copy()
    place = (changed["arm"] == arm) & (changed["subject"] == subject)
    assert place.sum() == 1
    changed.loc[place, list(values)] = list(values.values())
    return changed


def test_everything_holds_on_sound_rows():
    held, broken = check_results(sound_rows(), ARMS)
    assert broken == []
    assert held == [
        "every arm scored the same volumes",
        "Dice, AUPRC and AUROC lie in [0, 1]",
        "no score of a volume with a lesion is undefined",
        "oracle: Dice and AUPRC are 1 on all 11 volumes with a lesion",
        "oracle-post: post-processing leaves a ceiling of Dice brats21 0.700",
        "chance: AUROC and AUPRC are those of a random ranking",
    ]


def test_a_missing_volume_breaks_the_first_check():
    rows = sound_rows()
    rows = rows[~((rows["arm"] == "oracle") & (rows["subject"] == "b3"))]
    _, broken = check_results(rows, ARMS)
    assert broken == ["every arm scored the same volumes: oracle has 11 volumes of brats21 t2 fold0, ae has 12"]


def test_another_volume_of_the_same_number_breaks_the_first_check():
    rows = sound_rows()
    rows.loc[(rows["arm"] == "chance") & (rows["subject"] == "h1"), "subject"] = "h7"
    _, broken = check_results(rows, ARMS)
    assert [line.split(":")[0] for line in broken] == ["every arm scored the same volumes"]


@pytest.mark.parametrize(("column", "value"), [("dice", 1.01), ("auprc", -0.01), ("auroc", 1.5)])
def test_a_score_out_of_range_is_named(column, value):
    _, broken = check_results(at(sound_rows(), "ae", "b4", **{column: value}), ARMS)
    assert broken == [f"Dice, AUPRC and AUROC lie in [0, 1]: {column} of ae on b4"]


@pytest.mark.parametrize("column", ["dice", "auprc"])
def test_an_undefined_score_is_named(column):
    _, broken = check_results(at(sound_rows(), "ae", "b4", **{column: np.nan}), ARMS)
    assert broken == ["no score of a volume with a lesion is undefined: ae on brats21 b4"]


def test_without_a_validation_lesion_dice_may_be_empty_but_auprc_may_not():
    """docs/own-data.md: without validation lesions Dice stays empty and AUPRC is reported."""
    rows = sound_rows()
    rows.loc[rows["cohort"] == "brats21", ["dice", "threshold"]] = np.nan
    held, broken = check_results(rows, ARMS)
    assert broken == []
    assert "no Dice for brats21: no lesion in the validation volumes, hence no threshold" in held
    _, broken = check_results(at(rows, "oracle", "b4", auprc=0.9), ARMS)
    assert len(broken) == 1 and broken[0].startswith("oracle: Dice and AUPRC are 1")
    _, broken = check_results(at(rows, "ae", "b4", auprc=np.nan), ARMS)
    assert broken == ["no score of a volume with a lesion is undefined: ae on brats21 b4"]


@pytest.mark.parametrize("column", ["dice", "auprc"])
def test_an_imperfect_oracle_breaks(column):
    _, broken = check_results(at(sound_rows(), "oracle", "b5", **{column: 0.9999}), ARMS)
    assert len(broken) == 1 and broken[0].startswith("oracle: Dice and AUPRC are 1 on all 11") and "b5" in broken[0]


def test_validation_volumes_are_not_asked_to_be_perfect():
    assert check_results(at(sound_rows(), "oracle", "b0", dice=0.5), ARMS)[1] == []


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_chance_with_another_auprc_breaks(factor):
    rows = sound_rows()
    rows.loc[rows["arm"] == "chance", "auprc"] *= factor
    _, broken = check_results(rows, ARMS)
    assert len(broken) == 1 and broken[0].startswith("chance: AUROC and AUPRC are those of a random ranking: AUPRC is")


@pytest.mark.parametrize("shift", [-0.03, 0.03])
def test_chance_with_another_auroc_breaks(shift):
    rows = sound_rows()
    rows.loc[rows["arm"] == "chance", "auroc"] += shift
    _, broken = check_results(rows, ARMS)
    assert len(broken) == 1 and "AUROC is off by" in broken[0]


@pytest.mark.parametrize("lesion", [1, 5, 100, 400])
def test_honest_chance_seldom_breaks(lesion):
    """Also with few volumes and tiny lesions, whose AUPRC varies over orders of magnitude."""
    rng = np.random.default_rng(lesion)
    truth = np.arange(4000) < lesion
    pool = pd.DataFrame([random_scores(truth, rng) for _ in range(200)], columns=["auprc", "auroc"])
    alarms = 0
    for _ in range(100):
        rows = pool.sample(rng.integers(1, 30), random_state=rng, ignore_index=True)
        rows = rows.assign(arm="chance", cohort="brats21", subject=rows.index.astype(str), split="test", fold=0,
                           modality="t2", dice=0.1, threshold=0.1, prevalence=lesion / 4000, voxels=4000)  # fmt: skip
        alarms += bool(check_results(rows, [ARMS[3]])[1])
    assert alarms <= 1  # 0.006 expected by the AUROC limit, 0.1 to 0.3 by the test of AUPRC


# --- the expectation ------------------------------------------------------------------------------


def exact_expectation(positives, voxels):
    """Mean average precision over all rankings, in fractions."""
    total = Fraction(0)
    for ranks in combinations(range(1, voxels + 1), positives):
        total += sum(Fraction(hits, rank) for hits, rank in enumerate(ranks, start=1)) / positives
    return total / comb(voxels, positives)


@pytest.mark.parametrize(("positives", "voxels"), [(p, n) for n in range(2, 8) for p in range(1, n + 1)])
def test_expectation_equals_the_mean_over_all_rankings(positives, voxels):
    exact = float(exact_expectation(positives, voxels))
    assert expected_random_auprc(positives, voxels) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(("positives", "voxels"), [(3, 60), (40, 500), (5, 5000)])
def test_expectation_agrees_with_simulation(positives, voxels):
    rng = np.random.default_rng(positives)
    truth = np.arange(voxels) < positives
    found = [average_precision_score(truth, rng.random(voxels)) for _ in range(600)]
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(expected_random_auprc(positives, voxels), abs=4 * error)


def test_expectation_tends_to_the_prevalence():
    assert expected_random_auprc(50_000, 1_000_000) == pytest.approx(0.05, rel=1e-3)
    assert expected_random_auprc(10, 400_000) > 2 * 10 / 400_000  # few lesion voxels: well above

"""The study of noise levels on made-up lesions with answers by hand."""

import numpy as np
import pandas as pd
import pytest
from made_up_evidence import evidence_of

from uad.common.errors import InputError
from uad.common.store import Store
from uad.inference.outputs import Output
from uad.reporting import style
from uad.scoring.cohort import ScoredCohort
from uad.scoring.postprocessing import UNTOUCHED
from uad.scoring.protocol import ScoreSettings
from uad.studies import ScoredArm, load_study
from uad.studies.noise_level import best_column, resampled_means

STUDY = load_study("noise-level")
SMALL, LARGE = "below 1 ml, below 1 SD", "10 ml and more, 2 SD and more"


# --- measuring ----------------------------------------------------------------------------------------


class Maps:
    """What an arm made of a row of voxels: at 250 a map, elsewhere nothing."""

    def volume(self, cohort, scan, reading):
        values = np.array([0.1, 0.1, 0.8, 0.1, 0.9, 0.7, 0.1, 0.1, 0.1, 0.1], np.float32)
        return Output("map", np.reshape(values if reading == "250" else 0 * values, scan.image.shape))


def measured_arm(tmp_path, readings=("250", "500", "ens")):
    """Two scans of ten voxels in a row; `ill` has a lesion of two and three voxels of healthy brain on each side."""
    images = np.full((2, 1, 1, 10), 0.5, np.float16)
    images[0, 0, 0] = [0, 0.25, 0.75, 0.25, 1, 1, 0.75, 0.25, 0.75, 0]
    labels = np.zeros(images.shape, np.uint8)
    labels[0, 0, 0, 4:6] = 1
    index = pd.DataFrame(
        {"row": [0, 1], "subject": ["ill", "well"], "site": "", "scanner": "", "age": np.nan, "lesion_ml": [0.016, 0]}
    )
    store = Store(images, np.ones_like(labels), labels, index, "t2")
    table = tmp_path / "wmh.tsv"
    table.write_text("subject\tsplit\tfold\nill\ttest\t0\nwell\tval\t0\n")
    scores = pd.DataFrame(
        {
            "cohort": "wmh",
            "t_test": list(readings),
            "variant": "full",
            "threshold": [0.75, np.nan, np.nan][: len(readings)],
        }
    )
    cohort = ScoredCohort("wmh", store, table, 0, Maps(), print)
    settings = ScoreSettings(voxel_ml=0.008, variants={"full": UNTOUCHED})
    return ScoredArm("ddpm", {"wmh": cohort}, "ixi", readings, settings, scores)


def test_a_lesion_is_measured_by_itself(tmp_path):
    rows = STUDY(STUDY.Params()).measure(measured_arm(tmp_path))
    assert rows["t_test"].tolist() == ["250", "500", "ens"] and set(rows["subject"]) == {"ill"}
    row = rows.iloc[0]
    assert (row["split"], row["number"], row["lesion_ml"]) == ("test", 1, pytest.approx(0.016))
    assert row["diameter_mm"] == pytest.approx((6 * 16 / np.pi) ** (1 / 3))
    assert row["contrast"] == pytest.approx(2)  # (1 - 0.5) / 0.25
    assert row["depth_mm"] == pytest.approx(2)  # one voxel of 2 mm
    assert row["overlap"] == 0.5  # 0.9 is above the threshold, 0.7 is not
    assert row["local_ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert row["cnr"] == pytest.approx(np.sqrt(5))  # one of six voxels differs: (5 / 6) / (sqrt(5) / 6)
    assert np.isnan(rows["overlap"].iloc[1]) and np.isnan(rows["cnr"].iloc[1])


def test_an_arm_without_noise_levels_is_refused(tmp_path):
    with pytest.raises(InputError, match="ddpm has no noise level"):
        STUDY(STUDY.Params()).measure(measured_arm(tmp_path, readings=("",)))


@pytest.mark.parametrize("edges", [[], [0.0, 1.0], [2.0, 1.0]])
def test_edges_of_classes_rise_from_zero(edges):
    with pytest.raises(ValueError, match="above 0 and rise"):
        STUDY.Params(size_ml=edges)


# --- answering ----------------------------------------------------------------------------------------

# (split, subject, class): local AP at 250, 500, 750 and of the ensemble
LOCAL_AP = {
    ("val", "v", SMALL): [0.6, 0.4, 0.2, 0.5],
    ("val", "w", LARGE): [0.1, 0.5, 0.9, 0.5],
    ("test", "a", SMALL): [0.5, 0.4, 0.9, 0.4],
    ("test", "a", LARGE): [0.1, 0.5, 0.7, 0.5],
    ("test", "b", SMALL): [0.6, 0.4, 0.1, 0.4],
    ("test", "b", LARGE): [0.1, 0.5, 0.8, 0.5],
    ("test", "c", SMALL): [0.3, 0.4, 0.1, 0.4],
}
KINDS = {
    SMALL: {"lesion_ml": 0.5, "contrast": 0.5, "depth_mm": 5},
    LARGE: {"lesion_ml": 20, "contrast": -3, "depth_mm": 12},
}


def rows_of(values=LOCAL_AP, overlap=0.05):
    return pd.DataFrame(
        {"arm": "ddpm", "modality": "t2", "fold": 0, "cohort": "wmh", "split": split, "subject": subject,
         "number": 1 + (kind == LARGE), "t_test": t_test, "diameter_mm": 1.0, "overlap": overlap, "cnr": 0.0,
         "local_ap": value, **KINDS[kind]}
        for (split, subject, kind), levels in values.items()
        for t_test, value in zip(["250", "500", "750", "ens"], levels, strict=True)
    )  # fmt: skip


def scores_of(measured):
    """Scores of the same scans: two false positives at every level."""
    scans = measured[["arm", "modality", "fold", "cohort", "split", "subject", "t_test"]].drop_duplicates()
    return scans.assign(variant="full", dice=0.5, auprc=0.25, false_positives=2.0)


def answer_to(measured, **options):
    with style.context():
        return STUDY(STUDY.Params()).answer(evidence_of(["ddpm"], scores_of(measured), measured=measured, **options))


def of(table, outcome="local_ap", **keys):
    rows = table[table["outcome"] == outcome]
    for key, value in keys.items():
        rows = rows[rows[key] == value]
    (row,) = rows.to_dict("records")
    return row


def test_a_level_per_class_is_chosen_on_validation_and_judged_on_test():
    answer = answer_to(rows_of())
    small, large = (of(answer.rows["choices"], lesions=name) for name in (SMALL, LARGE))
    assert (small["chosen"], large["chosen"]) == ("250", "750")
    assert small["gain"] == pytest.approx(np.mean([0.1, 0.2, -0.1]))
    assert small["gain_ens"] == pytest.approx(np.mean([0.1, 0.2, -0.1]))
    assert large["gain"] == pytest.approx(np.mean([0.2, 0.3]))
    assert (small["best"], small["best_gain"]) == ("250", pytest.approx(0.2 / 3))
    assert (large["best_low"], large["best_high"]) == (750, 750)
    assert (small["n_test"], small["n_lesions"], small["n_val_lesions"]) == (3, 3, 1)
    assert (large["n_test"], large["n_val"]) == (2, 1)
    deep = of(answer.rows["choices"], lesions="10 to 20 mm deep")
    assert (deep["chosen"], deep["gain"]) == ("750", large["gain"])


def test_one_level_a_rule_and_the_oracle_of_a_scan():
    row = of(answer_to(rows_of()).rows["rules"])
    # validation people: 250 (0.6 + 0.1) / 2, 500 (0.4 + 0.5) / 2, 750 (0.2 + 0.9) / 2
    assert row["level"] == "750"
    assert row["one"] == pytest.approx(np.mean([(0.5 + 0.2) / 2, (-0.3 + 0.3) / 2, -0.3]))
    assert row["rule"] == pytest.approx(np.mean([(0.1 + 0.2) / 2, (0.2 + 0.3) / 2, -0.1]))
    # scans: a has 0.3, 0.45, 0.8; b has 0.35, 0.45, 0.45; c has 0.3, 0.4, 0.1
    assert row["oracle"] == pytest.approx(np.mean([0.35, 0, 0]))
    assert row["rule_levels"] == f"{SMALL}: 250; {LARGE}: 750"


def test_lesions_of_one_person_are_averaged_first():
    answer = answer_to(rows_of(), person={"b": "a"})
    row = of(answer.rows["choices"], lesions=SMALL)
    assert row["n_test"] == 2 and row["gain"] == pytest.approx(((0.1 + 0.2) / 2 - 0.1) / 2)


def test_folds_are_averaged_by_lesion():
    other = rows_of({key: [value + 0.1 for value in values] for key, values in LOCAL_AP.items()})
    answer = answer_to(pd.concat([rows_of(), other.assign(fold=1)]), folds=2)
    curve = of(answer.rows["curves"], lesions=LARGE, t_test="750")
    assert curve["mean"] == pytest.approx((0.7 + 0.8) / 2 + 0.05) and curve["n_lesions"] == 2


def test_a_class_that_validation_lacks_keeps_the_printed_level():
    values = {key: levels for key, levels in LOCAL_AP.items() if key[1] != "w"}
    row = of(answer_to(rows_of(values)).rows["choices"], lesions=LARGE)
    assert (row["chosen"], row["gain"], row["n_val_lesions"]) == ("500", 0, 0)


def test_a_lesion_counts_as_found_at_a_tenth():
    answer = answer_to(rows_of(overlap=0.05))
    assert of(answer.rows["curves"], "found_any", by="", t_test="500")["mean"] == 1
    assert of(answer.rows["curves"], "found_share", by="", t_test="500")["mean"] == 0
    assert of(answer_to(rows_of(overlap=0.1)).rows["curves"], "found_share", by="", t_test="500")["mean"] == 1


def test_a_lesion_without_contrast_is_in_no_class_of_it():
    bare = rows_of()
    bare.loc[bare["subject"] == "c", "contrast"] = np.nan
    curves = answer_to(bare).rows["curves"]
    assert of(curves, lesions=SMALL, t_test="500")["n_lesions"] == 2
    assert of(curves, by="", t_test="500")["n_lesions"] == 5


def test_only_gains_whose_interval_leaves_out_zero_are_told():
    people = {("test", f"{who}{more}", kind): levels for (split, who, kind), levels in LOCAL_AP.items()
              if split == "test" for more in range(3)}  # fmt: skip
    chosen = {key: levels for key, levels in LOCAL_AP.items() if key[0] == "val"}
    found = answer_to(rows_of(chosen | people)).found
    # of the small ones c loses what b gains; the gain of the rule is 0.15, 0.25 and -0.1 of three people each
    told = [line for line in found if "a level per class" not in line]
    assert [LARGE in told[0], "10 to 20 mm deep" in told[1], len(told)] == [True, True, 2]
    assert "t_test 750, chosen on validation, changes local AP by +25.0 [" in told[0]
    assert "(6 test people, 6 lesions; 1 validation lesion)" in told[0]
    assert answer_to(rows_of()).found == []  # of two and three people


def test_costs_are_those_of_the_scans():
    costs = answer_to(rows_of()).rows["costs"].set_index("t_test")
    assert costs.loc["250", ["dice", "auprc", "false_positives", "n_scans"]].tolist() == [0.5, 0.25, 2, 3]


def test_of_equal_levels_the_first_is_kept():
    people = pd.DataFrame({"500": [0.1, 0.3], "250": [0.3, 0.1], "750": [0.2, 0.2]})
    assert best_column(people) == "500"
    assert best_column(people.assign(**{"750": [0.2, 0.3]})) == "750"


def test_resampled_means_are_those_of_two_people():
    """Of 0 and 1 the mean is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4; columns are drawn together."""
    drawn = resampled_means(np.array([[0.0, 1.0], [1.0, 3.0]]), seed=1, rounds=20_000)
    assert np.unique(drawn[:, 0]).tolist() == [0, 0.5, 1]
    assert (drawn[:, 0] == 0.5).mean() == pytest.approx(0.5, abs=0.02)
    assert np.array_equal(drawn[:, 1], 1 + 2 * drawn[:, 0])

"""The study of pseudo-healthy images on made-up scans and rows with answers by hand."""

import numpy as np
import pandas as pd
import pytest
from made_up_evidence import evidence_of

from uad.common.errors import InputError
from uad.common.store import Store
from uad.inference.outputs import Output
from uad.reporting import style
from uad.scoring.cohort import ScoredCohort
from uad.scoring.protocol import ScoreSettings
from uad.studies import ScoredArm, load_study

STUDY = load_study("pseudo-healthy")
PLANTED = "sub-01_ses-planted1"


# --- measuring ----------------------------------------------------------------------------------------


class Images:
    """What an arm made of a row of voxels."""

    def __init__(self, kind):
        self.kind = kind

    def volume(self, cohort, scan, reading):
        return Output(self.kind, np.full(scan.image.shape, {"250": 0.25, "ens": 0.625}[reading], np.float32))


def store_of(subject, image, label):
    arrays = np.reshape(np.array(image, np.float16), (1, 1, 1, -1)), np.ones((1, 1, 1, len(image)), np.uint8)
    index = pd.DataFrame(
        {"row": [0], "subject": [subject], "site": "", "scanner": "", "age": np.nan, "lesion_ml": [0.0]}
    )
    return Store(*arrays, np.reshape(np.array(label, np.uint8), arrays[0].shape), index, "t1")


def arm_of(tmp_path, kind="reconstruction", healthy="h1"):
    """Of eight voxels the first two are lesion; the next two lie at its edge."""
    stores = {
        "planted": store_of(PLANTED, [0.25, 0.125, 0.5, 0.5, 0.5, 0.5, 0.75, 0.75], [1, 1, 0, 0, 0, 0, 0, 0]),
        "ixi": store_of("h1", [0.75, 0.5, 1, 1, 0.5, 0.5, 0.75, 0.5], [0] * 8),
    }
    cohorts = {}
    for name, subject in (("planted", PLANTED), ("ixi", "h1")):
        table = tmp_path / f"{name}.tsv"
        table.write_text(f"subject\tsplit\tfold\n{subject}\ttest\t0\n")
        cohorts[name] = ScoredCohort(name, stores[name], table, 0, Images(kind), print)
    untouched = {"planted": {PLANTED: healthy}}
    settings = ScoreSettings(voxel_ml=0.008)
    return ScoredArm("ddpm", cohorts, "ixi", ["250", "gmean", "ens"], settings, pd.DataFrame(), untouched, "ixi")


def test_the_image_in_a_lesion_is_compared_with_the_scan_before_planting(tmp_path):
    rows = STUDY(STUDY.Params()).measure(arm_of(tmp_path)).set_index("t_test")
    assert list(rows.index) == ["250", "ens"]
    low, mean = rows.loc["250"], rows.loc["ens"]
    assert (low["l1"], low["bias"]) == (0.375, -0.375)  # 0.25 against 0.75 and 0.5
    assert (mean["l1"], mean["bias"]) == (0.125, 0)
    assert (low["l1_copy"], low["bias_copy"]) == (0.4375, -0.4375)
    assert (low["l1_constant"], low["bias_constant"]) == (0.125, -0.125)  # 0.5, the median of the healthy brain
    assert low["floor"] == 0.0625  # of four voxels away from the lesion one differs, by 0.25
    assert low["l1_outside"] == np.mean([0.25, 0.25, 0.5, 0.25])
    assert low["lesion_ml"] == pytest.approx(0.016)


def test_a_scan_whose_healthy_one_was_not_packed_has_no_row(tmp_path):
    assert STUDY(STUDY.Params()).measure(arm_of(tmp_path, healthy="lost")).empty


def test_maps_are_no_images(tmp_path):
    with pytest.raises(InputError, match="ddpm draws maps"):
        STUDY(STUDY.Params()).measure(arm_of(tmp_path, kind="map"))


# --- answering ----------------------------------------------------------------------------------------


def rows_of(l1, arm="ddpm", t_test="ens", fold=0, copy=0.3, constant=0.15):
    """A row per lesion: l1 by (subject, number)."""
    return pd.DataFrame(
        {"arm": arm, "modality": "t1", "fold": fold, "cohort": "planted", "subject": subject, "number": lesion,
         "t_test": t_test, "lesion_ml": 1.0, "l1": value, "bias": -value, "l1_outside": 0.05, "l1_copy": copy,
         "bias_copy": -copy, "l1_constant": constant, "bias_constant": 0.1, "floor": 0.01}
        for (subject, lesion), value in l1.items()
    )  # fmt: skip


L1 = {("a", 1): 0.1, ("a", 2): 0.2, ("b", 1): 0.25, **{(f"c{i}", 1): 0.2 for i in range(4)}}


def answer_to(*measured, **options):
    arms = ["ddpm", "ae"] if any((rows["arm"] == "ae").any() for rows in measured) else ["ddpm"]
    evidence = evidence_of(
        arms, measured=pd.concat(measured), pathological=[("wmh", "t2"), ("planted", "t1")], **options
    )
    with style.context():
        return STUDY(STUDY.Params()).answer(evidence)


def test_errors_are_means_of_people_and_differences_are_told():
    answer = answer_to(rows_of(L1))
    (row,) = answer.rows["errors"].to_dict("records")
    l1 = np.mean([0.15, 0.25, *[0.2] * 4])
    assert (row["l1"], row["bias"]) == pytest.approx((l1, -l1))
    assert row["closer_than_copy"] == pytest.approx(0.3 - l1)
    assert row["closer_than_constant"] == pytest.approx(0.15 - l1)
    assert (row["n_test"], row["n_lesions"]) == (6, 7)
    (line,) = answer.found
    assert line.startswith("DDPM, ensemble on planted (T1): inside lesions its image is 200.0 [")
    assert "closer than the input (difference +100.0 [" in line and "farther off than a constant" in line
    assert "(6 test people, 7 lesions)" in line


def test_of_few_people_nothing_is_told():
    answer = answer_to(rows_of(L1), person={f"c{i}": "c" for i in range(4)})
    assert answer.found == [] and answer.rows["errors"]["n_test"].tolist() == [3]


def test_folds_are_averaged_by_lesion_and_levels_stand_in_order():
    shifted = {key: value + 0.1 for key, value in L1.items()}
    answer = answer_to(
        rows_of(L1), rows_of(shifted, fold=1), rows_of(L1, t_test="750"), rows_of(L1, t_test="50"),
        rows_of(L1, arm="ae", t_test=""), folds=2,
    )  # fmt: skip
    errors = answer.rows["errors"]
    assert errors["t_test"].tolist() == ["50", "750", "ens", ""]
    assert errors["l1"].tolist() == pytest.approx([0.2, 0.2, 0.25, 0.2])


def test_what_stands_beside_does_not_depend_on_arms():
    references = answer_to(rows_of(L1), rows_of(L1, arm="ae", t_test="")).rows["references"].set_index("image")
    assert references["l1"].to_dict() == pytest.approx({"copy": 0.3, "constant": 0.15, "floor": 0.01})
    assert references.loc["copy", "bias"] == pytest.approx(-0.3) and np.isnan(references.loc["floor", "bias"])

"""What a run claims, held against made-up scores: a claim holds where the numbers say so and carries them."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from places import ROOT, SCRIPTS

from uad.common.errors import InputError
from uad.common.recipe import write_settings
from uad.config.model import CheckSettings
from uad.reporting.statements import STATEMENTS, claims_of

ARMS = [
    {"arm": "thresh", "method": "thresh", "label": "Thresh", "reads_noise_levels": False},
    {"arm": "ddpm", "method": "ddpm", "label": "DDPM", "reads_noise_levels": True},
    {"arm": "cddpm", "method": "cddpm", "label": "cDDPM", "reads_noise_levels": True},
]
# (arm, cohort) -> dice, auprc, l1, kld
SCORES = {
    ("thresh", "brats21"): (0.30, 0.20, np.nan, np.nan),
    ("ddpm", "brats21"): (0.40, 0.50, np.nan, np.nan),
    ("cddpm", "brats21"): (0.45, 0.49, np.nan, np.nan),
    ("thresh", "ixi"): (np.nan, np.nan, np.nan, np.nan),
    ("ddpm", "ixi"): (np.nan, np.nan, 0.030, 0.20),
    ("cddpm", "ixi"): (np.nan, np.nan, 0.020, 0.10),
}


def scores(**changes):
    """Two test volumes per arm and cohort; a change names arm_cohort and replaces its scores."""
    rows = []
    for (arm, cohort), values in SCORES.items():
        values = changes.get(f"{arm}_{cohort}", values)
        reading = "" if arm == "thresh" else "500"
        for number in range(2):
            keys = {"arm": arm, "cohort": cohort, "subject": f"{cohort}-{number}", "t_test": reading, "fold": 0}
            rows.append(keys | dict(zip(("dice", "auprc", "l1", "kld"), values, strict=True)))
    return pd.DataFrame(rows).assign(modality="t2", split="test", variant="full")


def histograms(unconditioned=0.4):
    """Of two bins: the input is level; the conditioned arm is a little off, the other by `unconditioned`."""
    tables = {
        "input": [0.5, 0.5],
        "conditioned": [0.6, 0.4],
        "unconditioned": [0.5 + unconditioned, 0.5 - unconditioned],
    }
    arrays = {f"histograms/ixi/{name}": np.array([values] * 3) for name, values in tables.items()}
    return arrays | {"histograms/ixi/contrasts": np.array([0.5, 1.0, 2.0])}


def claims(name, table=None, experiments=None, arms=ARMS):
    settings = {
        "statements": [name], "arms": arms, "healthy": [["ixi", "t2"]], "pathological": [["brats21", "t2"]], "folds": 1,
        "single": 500, "experiment_cohorts": ["ixi"],
    }  # fmt: skip
    return claims_of(settings, scores() if table is None else table, experiments or [histograms()])


def test_the_configuration_knows_every_statement():
    assert CheckSettings(statements=list(STATEMENTS)).statements == list(STATEMENTS)
    assert CheckSettings.model_json_schema()["properties"]["statements"]["items"]["enum"] == list(STATEMENTS)
    assert claims_of({"statements": []}, pd.DataFrame(), []) == []


def test_each_diffusion_arm_is_held_against_the_threshold():
    found = claims("diffusion_above_thresh")
    assert [claim.text for claim in found] == [
        "Dice on BraTS21 (T2): Thresh 30.00 below DDPM 40.00", "AUPRC on BraTS21 (T2): Thresh 20.00 below DDPM 50.00",
        "Dice on BraTS21 (T2): Thresh 30.00 below cDDPM 45.00", "AUPRC on BraTS21 (T2): Thresh 20.00 below cDDPM 49.00",
    ]  # fmt: skip
    assert all(claim.holds for claim in found)
    found = claims("diffusion_above_thresh", scores(cddpm_brats21=(0.30, 0.49, np.nan, np.nan)))
    assert [claim.holds for claim in found] == [True, True, False, True]  # as good is not better


def test_healthy_tissue_is_nearer_with_the_condition():
    found = claims("condition_recovers_intensity")
    assert [claim.text for claim in found] == [
        "l1 error on IXI (T2): cDDPM 20.00 below DDPM 30.00", "KLD on IXI (T2): cDDPM 0.100 below DDPM 0.200",
    ]  # fmt: skip
    found = claims("condition_recovers_intensity", scores(cddpm_ixi=(np.nan, np.nan, 0.04, 0.1)))
    assert [claim.holds for claim in found] == [False, True]


def test_the_condition_may_cost_two_points_of_auprc():
    assert [claim.holds for claim in claims("condition_hides_no_lesion")] == [True]  # one point
    worse = scores(cddpm_brats21=(0.45, 0.47, np.nan, np.nan))
    (claim,) = claims("condition_hides_no_lesion", worse)
    assert not claim.holds and "cDDPM 47.00 not below DDPM 50.00 minus 2" in claim.text


def test_an_undefined_score_supports_no_claim():
    nothing = scores(cddpm_brats21=(np.nan, np.nan, np.nan, np.nan))
    assert not claims("condition_hides_no_lesion", nothing)[0].holds
    assert [claim.holds for claim in claims("diffusion_above_thresh", nothing)] == [True, True, False, False]


def test_contrast_is_carried_where_the_divergence_is_smaller():
    found = claims("condition_carries_contrast")
    assert [claim.holds for claim in found] == [True, True]
    # KL of (1/2, 1/2) from (9/10, 1/10) over that from (3/5, 2/5)
    ratio = np.log(0.25 / 0.09) / np.log(0.25 / 0.24)
    assert f"at contrast 0.5: without the condition {ratio:.2f} times that with it" in found[0].text
    assert not any(claim.holds for claim in claims("condition_carries_contrast", experiments=[histograms(0.05)]))


def test_without_experiments_the_statement_about_them_is_refused():
    settings = {
        "statements": ["condition_carries_contrast"],
        "arms": ARMS,
        "healthy": [],
        "pathological": [],
        "folds": 1,
    }
    with pytest.raises(InputError, match="there are no contrast experiments"):
        claims_of(settings | {"single": 500, "experiment_cohorts": ["ixi"]}, scores(), [])


def test_a_statement_about_an_arm_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no arm has the method cddpm"):
        claims("condition_recovers_intensity", arms=ARMS[:2])


def test_a_claim_that_does_not_hold_stops_the_run(tmp_path):
    table = scores(cddpm_ixi=(np.nan, np.nan, 0.04, 0.1))
    table.assign(prevalence=0.01, threshold=0.5, auroc=0.8, voxels=1000).to_parquet(tmp_path / "scores.parquet")
    content = {
        "statements": ["condition_recovers_intensity"], "arms": ARMS, "healthy": [["ixi", "t2"]],
        "pathological": [["brats21", "t2"]], "folds": 1, "single": 500, "experiment_cohorts": [],
    }  # fmt: skip
    settings = write_settings(tmp_path, "check", "x", content)
    command = [
        sys.executable, SCRIPTS / "check_results.py", "--settings", settings, "--scores", tmp_path / "scores.parquet",
        "--check", tmp_path / "check.txt", "--statements", tmp_path / "statements.txt",
    ]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and not (tmp_path / "statements.txt").exists()
    assert "BROKEN  l1 error on IXI (T2): cDDPM 40.00 below DDPM 30.00" in run.stderr
    assert "holds   KLD on IXI (T2): cDDPM 0.100 below DDPM 0.200" in run.stderr

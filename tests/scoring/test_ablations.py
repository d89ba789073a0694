"""Post-processing with one step left out: rows, thresholds, what is computed once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score
from small_cohort import COLUMNS, SETTINGS, changed, score

from uad.inference.outputs import Output
from uad.scoring.postprocessing import PostProcessing
from uad.scoring.protocol import ablations_of


def test_an_ablation_leaves_out_one_step_and_keeps_the_others():
    full = PostProcessing(order=("median", "erode"), median_size=3, erosion=2, component_max_size=5)
    assert ablations_of(full) == {
        "no_cc": PostProcessing(("median", "erode"), 3, 2, 0),
        "no_median": PostProcessing(("erode",), 3, 2, 5),
        "no_erosion": PostProcessing(("median",), 3, 2, 5),
    }


@pytest.mark.parametrize("masked", [True, False])
def test_without_erosion_the_mask_applies_or_not(cohort, masked):
    """D29: the authors' code multiplies by the eroded mask, or by none."""
    post = ablations_of(PostProcessing(mask_without_erosion=masked))["no_erosion"]

    def paint_outside(volume):
        outside = 0.2 * (volume.mask == 0).astype(np.float32)
        return {"output": Output("map", np.abs(volume.image - volume.output.values) + outside)}

    painted = changed(cohort, paint_outside)
    scores = score(painted, replace(SETTINGS, variants={"no_erosion": post}))
    for volume, row in zip(painted["test"], scores.rows[3:], strict=True):
        cleaned = ndimage.median_filter(volume.output.values * (volume.mask if masked else 1), 5)
        expected = average_precision_score(volume.label.ravel(), cleaned.ravel())
        assert row["auprc"] == pytest.approx(expected, abs=1e-6)
    whole = score(painted, replace(SETTINGS, variants={"full": PostProcessing(mask_without_erosion=masked)}))
    np.testing.assert_equal(whole.rows, score(painted).rows)  # with erosion the key has no effect


def test_ablations_are_scored_by_dice_with_their_own_threshold(cohort):
    """The same rows as if each ablation were the only post-processing, without its other scores."""
    alone = {
        name: score(cohort, replace(SETTINGS, variants={name: post}))
        for name, post in ablations_of(PostProcessing()).items()
    }
    before = score(cohort)
    scores = score(cohort, replace(SETTINGS, ablations=ablations_of(PostProcessing())))
    assert set(scores.thresholds) == {"full", "no_cc", "no_median", "no_erosion"}
    assert scores.thresholds["no_cc"] == scores.thresholds["full"] != scores.thresholds["no_median"]
    asked = ("subject", "split", "dice", "threshold", "lesion_ml")
    for name, other in alone.items():
        rows = [row for row in scores.rows if row["variant"] == name]
        assert [[row[key] for key in asked] for row in rows] == [[row[key] for key in asked] for row in other.rows]
        assert all(set(row) == COLUMNS for row in rows)
        assert np.isnan([row[key] for row in rows for key in ("auprc", "prevalence", "ssim", "dice_fpr05")]).all()
    full = [row for row in scores.rows if row["variant"] == "full"]
    np.testing.assert_equal(full, before.rows)


def test_ablations_read_the_network_of_the_perceptual_distance_once_per_volume(cohort):
    class Counted(torch.nn.Module):
        name, calls = "counted", 0

        def forward(self, x):
            type(self).calls += 1
            return torch.cat([x, torch.ones_like(x)], dim=1)

    volumes = {"val": [], "test": cohort["test"][:1]}
    score(volumes, backbone=Counted())
    once = Counted.calls
    scores = score(volumes, replace(SETTINGS, ablations=ablations_of(PostProcessing())), backbone=Counted())
    assert Counted.calls == 2 * once > 0
    assert np.isnan([row["dice"] for row in scores.rows]).all()  # no lesion in val, hence no threshold

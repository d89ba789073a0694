"""The scoring protocol on small cohorts: controls, thresholds, exclusions, rows.

docs/paper.md#threshold, docs/paper.md#metrics
"""

import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.measure import label as label_components
from sklearn.metrics import average_precision_score, f1_score
from small_cohort import COLUMNS, KEYS, RAW, SETTINGS, SHAPE, changed, scan, score

from uad.common.errors import InputError
from uad.inference.outputs import Output
from uad.scoring.postprocessing import PostProcessing
from uad.scoring.protocol import (
    ScoreSettings,
    VolumeToScore,
    ablations_of,
    healthy_thresholds,
    prediction_of,
    score_cohort,
)

# --- rows -----------------------------------------------------------------------------------------


def test_rows_have_the_agreed_columns(cohort):
    variants = {"full": PostProcessing(), "no_median": PostProcessing(order=("erode",))}
    rows = score(cohort, replace(SETTINGS, variants=variants)).rows
    assert all(set(row) == COLUMNS for row in rows)
    assert Counter((row["split"], row["variant"]) for row in rows) == {
        ("val", "full"): 3, ("val", "no_median"): 3, ("test", "full"): 4, ("test", "no_median"): 4,
    }  # fmt: skip
    first = rows[0]
    assert (first["arm"], first["fold"], first["t_test"], first["subject"]) == ("ae-small", 1, "500", "v1")
    assert first["lesion_ml"] == pytest.approx(0.008 * (cohort["val"][0].label == 1).sum())
    assert {row["lpips_backbone"] for row in rows} == {""} and all(np.isnan(row["lpips"]) for row in rows)


def test_scores_follow_the_protocol_step_by_step(cohort):
    """The whole protocol again with SciPy, scikit-learn and scikit-image on concatenated arrays."""

    def clean(volume):
        eroded = ndimage.binary_erosion(volume.mask, np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]]), iterations=2)
        return ndimage.median_filter(np.abs(volume.image - volume.output.values) * eroded, 5)

    maps = np.concatenate([clean(volume) for volume in cohort["val"]], axis=None)
    truth = np.concatenate([volume.label for volume in cohort["val"]], axis=None)
    candidates = np.quantile(maps[truth == 1], np.linspace(0, 1, 50))
    best = max(f1_score(truth, maps > threshold) for threshold in candidates)
    scores = score(cohort)
    threshold = scores.thresholds["full"]
    assert f1_score(truth, maps > np.float32(threshold)) >= best - 1e-12
    for volume, row in zip(cohort["test"], scores.rows[3:], strict=True):
        called = clean(volume) > np.float32(threshold)
        parts = label_components(called, connectivity=3)
        kept = called & (np.bincount(parts.ravel())[parts] > 7)
        assert row["dice"] == pytest.approx(f1_score(volume.label.ravel(), kept.ravel()))
        expected = average_precision_score(volume.label.ravel(), clean(volume).ravel())
        assert row["auprc"] == pytest.approx(expected, abs=1e-6)
        assert row["threshold"] == threshold
    assert np.mean([row["dice"] for row in scores.rows]) > 0.6


def test_threshold_comes_from_validation_volumes_only(cohort):
    other_test = {"val": cohort["val"], "test": [scan(name, "test", seed=99) for name in "xy"]}
    assert score(cohort).thresholds == score(other_test).thresholds
    other_val = {"val": [scan("w", "val", seed=98)], "test": cohort["test"]}
    assert score(cohort).thresholds != score(other_val).thresholds


def test_greedy_search_is_not_better_on_validation(cohort):
    def pooled(search):
        scores = score(cohort, replace(RAW, search=search))
        maps = np.concatenate([abs(v.image - v.output.values) for v in cohort["val"]], axis=None)
        truth = np.concatenate([volume.label for volume in cohort["val"]], axis=None)
        return f1_score(truth, maps > np.float32(scores.thresholds["full"]))

    assert pooled("exact") >= pooled("greedy") > 0.3


# --- controls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", ["exact", "greedy"])
def test_oracle_scores_one(cohort, search):
    def give_truth(volume):
        return {"output": Output("map", (volume.label == 1).astype(np.float32))}

    for row in score(changed(cohort, give_truth), replace(RAW, search=search)).rows:
        assert (row["dice"], row["auprc"], row["auroc"]) == (1, 1, 1)
        assert np.isnan([row[name] for name in ("l1", "l1_lesion", "l1_healthy", "ssim", "psnr", "kld")]).all()


def test_oracle_keeps_tiny_lesions_but_post_processing_drops_them(cohort):
    def give_truth(_):
        label = np.zeros(SHAPE, np.uint8)
        label[8, 20, 25:28] = 1
        return {"label": label, "output": Output("map", label.astype(np.float32))}

    spared = score(changed(cohort, give_truth), RAW).rows
    cleaned = score(changed(cohort, give_truth)).rows
    assert {row["dice"] for row in spared} == {1}
    assert {row["dice"] for row in cleaned} == {0}


def test_chance_scores_the_prevalence():
    gaps = []
    for number in range(30):
        volume = scan(f"s{number}", "test")
        chance = np.random.default_rng(number).random(SHAPE, dtype=np.float32)
        row = score({"val": [], "test": [replace(volume, output=Output("map", chance))]}, RAW).rows[0]
        assert row["prevalence"] == pytest.approx((volume.label == 1).mean())
        gaps.append(row["auprc"] - row["prevalence"])
    assert abs(np.mean(gaps)) < 2 * np.std(gaps, ddof=1) / np.sqrt(len(gaps))


@pytest.mark.parametrize("search", ["exact", "greedy"])
def test_copy_scores_zero(cohort, search):
    copied = changed(cohort, lambda volume: {"output": Output("reconstruction", volume.image)})
    for row in score(copied, replace(SETTINGS, search=search)).rows:
        assert row["dice"] == 0
        assert row["auprc"] == pytest.approx(row["prevalence"])
        assert (row["l1"], row["ssim"], row["psnr"], row["kld"]) == (0, 1, np.inf, 0)


# --- units of a map ---------------------------------------------------------------------------------


@pytest.mark.parametrize("search", ["exact", "greedy"])
@pytest.mark.parametrize("factor", [2.0**-30, 1e-6, 1e6, 2.0**30])
def test_the_unit_of_a_map_changes_no_score(cohort, search, factor):
    """Powers of 2 are exact in float32; the others move values by a rounding."""

    settings = replace(SETTINGS, search=search, ablations=ablations_of(PostProcessing()))

    def scored(unit):
        def change(volume):
            residual = np.abs(volume.image - volume.output.values) * np.float32(unit)
            return {"output": Output("map", residual)}

        volumes = changed(cohort, change)
        return score(volumes, settings, healthy=healthy_thresholds(lambda split: iter(volumes[split]), settings))

    scaled, plain = scored(factor), scored(1.0)
    exact = np.log2(factor) % 1 == 0
    for one, two in zip(scaled.rows, plain.rows, strict=True):
        for name in ("dice", "auprc", "auroc", "dice_fpr01", "dice_fpr05", "dice_fpr10"):
            assert one[name] == pytest.approx(two[name], rel=0 if exact else 1e-3, abs=0, nan_ok=True)
        assert one["threshold"] == pytest.approx(two["threshold"] * factor, rel=1e-5)
    assert np.mean([row["dice"] for row in plain.rows]) > 0.6


# --- healthy volumes and excluded voxels ----------------------------------------------------------


def test_healthy_volumes_have_reconstruction_scores_only(cohort):
    healthy = changed(cohort, lambda volume: {"label": np.zeros(SHAPE, np.uint8)})
    for row in score(healthy).rows:
        assert np.isnan([row[name] for name in ("dice", "auprc", "auroc", "threshold", "l1_lesion")]).all()
        assert row["lesion_ml"] == 0 and row["prevalence"] == 0
        assert row["l1"] == row["l1_healthy"] > 0 and 0 < row["ssim"] < 1


def test_a_volume_without_a_lesion_counts_as_the_protocol_says(cohort):
    """D32. Left out, or as the authors' formula has it: 2 |P and G| / (|P| + |G|), 0 / 0 where nothing is called."""
    none = np.zeros(SHAPE, np.uint8)
    called, quiet = (replace(cohort["test"][n], label=none) for n in (0, 1))
    quiet = replace(quiet, output=Output("reconstruction", quiet.image))
    volumes = {"val": cohort["val"], "test": [called, quiet, cohort["test"][2]]}
    kept = {}
    for choice in ("left_out", "zero"):
        settings = replace(SETTINGS, without_lesion=choice, ablations=ablations_of(PostProcessing()))
        rows = score(volumes, settings).rows
        kept[choice] = {(row["subject"], row["variant"]): row for row in rows if row["split"] == "test"}
    for variant in ("full", "no_cc", "no_median", "no_erosion"):
        assert np.isnan(kept["left_out"]["a", variant]["dice"]) and kept["zero"]["a", variant]["dice"] == 0
        assert np.isnan([kept[choice]["b", variant]["dice"] for choice in kept]).all()
        assert kept["left_out"]["c", variant]["dice"] == kept["zero"]["c", variant]["dice"] > 0
    assert np.isnan(kept["zero"]["a", "full"]["auprc"])


def test_a_healthy_cohort_has_no_dice_in_any_protocol(cohort):
    healthy = changed(cohort, lambda volume: {"label": np.zeros(SHAPE, np.uint8)})
    rows = score(healthy, replace(SETTINGS, without_lesion="zero")).rows
    assert np.isnan([row["dice"] for row in rows]).all()


def test_excluded_voxels_change_nothing(cohort):
    """Wherever label 2 lies, the map there has no influence on Dice, AUPRC or the threshold."""

    def exclude(volume, extra):
        label = volume.label.copy()
        label[7:9, 18:22, 20:30] = 2
        residual = np.abs(volume.image - volume.output.values) + extra * (label == 2)
        return {"label": label, "output": Output("map", residual)}

    quiet, loud = (score(changed(cohort, lambda v, extra=extra: exclude(v, extra)), RAW) for extra in (0.0, 0.15))
    assert quiet.thresholds == loud.thresholds
    for one, two in zip(quiet.rows, loud.rows, strict=True):
        assert {k: one[k] for k in ("dice", "auprc", "auroc", "prevalence")} == {
            k: two[k] for k in ("dice", "auprc", "auroc", "prevalence")
        }


def test_healthy_false_positive_thresholds(cohort):
    """1, 5 and 10 % of the healthy brain lies above them; without them the columns are NaN."""
    settings = ScoreSettings(voxel_ml=1, variants={"full": PostProcessing(order=())})
    controls = [scan(f"h{number}", "val", lesions=0) for number in range(3)]
    limits = healthy_thresholds(lambda split: iter(controls), settings)
    brain = np.concatenate([abs(v.image - v.output.values)[v.mask > 0] for v in controls])
    for rate, threshold in limits["full"].items():
        assert (brain > np.float32(threshold)).mean() == pytest.approx(rate, abs=1 / len(brain))
    assert list(limits["full"]) == [0.01, 0.05, 0.1]
    row = score(cohort, settings, healthy=limits).rows[-1]
    volume = cohort["test"][-1]
    called = abs(volume.image - volume.output.values) * volume.mask > np.float32(limits["full"][0.05])
    parts = label_components(called, connectivity=3)
    kept = called & (np.bincount(parts.ravel())[parts] > 7)
    assert row["dice_fpr05"] == pytest.approx(f1_score(volume.label.ravel(), kept.ravel()))
    assert np.isnan([score(cohort).rows[-1][name] for name in ("dice_fpr01", "dice_fpr05", "dice_fpr10")]).all()


# --- options --------------------------------------------------------------------------------------


def test_component_variant_differs_in_dice_only(cohort):
    variants = {"full": PostProcessing(order=()), "no_cc": PostProcessing(order=(), component_max_size=0)}
    scores = score(cohort, replace(SETTINGS, variants=variants))
    assert scores.thresholds["full"] == scores.thresholds["no_cc"]  # chosen before the filter, D26
    full, bare = (scores.rows[start::2] for start in (0, 1))
    assert [row["auprc"] for row in full] == [row["auprc"] for row in bare]
    assert all(one["dice"] != two["dice"] for one, two in zip(full, bare, strict=True))


def test_the_prediction_of_a_volume_is_the_one_that_was_scored(cohort):
    scores = score(cohort)
    prediction = prediction_of(cohort["test"][1], scores.thresholds["full"], PostProcessing())
    assert prediction.dtype == np.uint8 and prediction.shape == SHAPE
    row = next(row for row in scores.rows if row["subject"] == "b")
    assert f1_score(cohort["test"][1].label.ravel(), prediction.ravel()) == pytest.approx(row["dice"])
    assert prediction_of(cohort["test"][1], float("nan"), PostProcessing()) is None


# --- what is called --------------------------------------------------------------------------------


def called(label, where):
    """The row of one volume whose map is 1 at `where`; the threshold, 0, is that of a map equal to the truth."""
    image, found = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    found[where] = 1
    truth = (label == 1).astype(np.float32)
    volumes = [
        VolumeToScore(subject, split, "", image, np.ones(SHAPE, np.uint8), label, Output("map", values))
        for subject, split, values in (("v", "val", truth), ("t", "test", found))
    ]
    scores = score({"val": volumes[:1], "test": volumes[1:]}, RAW)
    assert scores.thresholds["full"] == 0
    return scores.rows[1]


def test_volume_and_false_components_of_a_prediction_counted_by_hand():
    label, where = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    label[4, 4, 4:8] = 1
    label[10, 10, 10:14] = 2
    where[4, 4, 6:10] = True  # 2 lesion voxels, 2 beside them: a hit
    where[8, 20, 20] = where[9, 21, 21] = True  # corner to corner: one false component of 2
    where[2, 30, 30:33] = True  # false, 3
    where[10, 10, 10:12] = True  # excluded alone: not counted
    where[10, 10, 13:16] = True  # reaches into excluded voxels: 1 of them and 2 healthy ones, and no false component
    row = called(label, where)
    assert row["predicted_ml"] == pytest.approx(11 * 0.008)  # 4 + 2 + 3 + 2
    assert row["false_positive_ml"] == pytest.approx(9 * 0.008)
    assert row["false_positives"] == 2


def test_nothing_called_is_no_false_positive():
    label = np.zeros(SHAPE, np.uint8)
    label[4, 4, 4:8] = 1
    row = called(label, np.zeros(SHAPE, bool))
    assert (row["predicted_ml"], row["false_positive_ml"], row["false_positives"]) == (0, 0, 0)


def test_false_positives_are_counted_after_the_component_filter(cohort):
    """Again with scikit-image on maps of noise, in which false components of all sizes are called."""
    rng = np.random.default_rng(5)
    noisy = changed(
        cohort, lambda v: {"output": Output("map", np.abs(rng.normal(0.3 * (v.label == 1), 0.2)).astype(np.float32))}
    )
    plain = PostProcessing(order=(), component_max_size=3, mask_without_erosion=False)
    scores = score(noisy, replace(SETTINGS, variants={"full": plain}))
    for volume, row in zip(noisy["test"], scores.rows[3:], strict=True):
        parts = label_components(volume.output.values > np.float32(scores.thresholds["full"]), connectivity=3)
        sizes, hits = np.bincount(parts.ravel()), np.bincount(parts[volume.label == 1], minlength=parts.max() + 1)
        false = (hits == 0) & (np.arange(len(sizes)) > 0)
        assert row["false_positives"] == np.count_nonzero(false & (sizes > 3)) > 0
        assert np.count_nonzero(false & (sizes <= 3)) > 0


def test_without_a_threshold_nothing_is_called_and_ablations_are_not_asked(cohort):
    healthy = changed(cohort, lambda volume: {"label": np.zeros(SHAPE, np.uint8)})
    columns = ["predicted_ml", "false_positive_ml", "false_positives"]
    assert np.isnan([[row[name] for name in columns] for row in score(healthy).rows]).all()
    rows = score(cohort, replace(SETTINGS, ablations=ablations_of(PostProcessing()))).rows
    missing = [np.isnan([row[name] for name in columns]).all() == (row["variant"] != "full") for row in rows]
    assert all(missing)


def test_perceptual_distance_is_named(cohort):
    class Identity(torch.nn.Module):
        name = "identity"

        def forward(self, x):
            return torch.cat([x, torch.ones_like(x)], dim=1)

    rows = score({"val": [], "test": cohort["test"][:1]}, backbone=Identity()).rows
    assert rows[0]["lpips_backbone"] == "identity" and 0 < rows[0]["lpips"] < 4


def test_volumes_are_held_one_at_a_time():
    """Ten times the test volumes must not take more memory."""

    def peak(count):
        def source(split):
            return (scan(f"{split}{n}", split) for n in range(2 if split == "val" else count))

        tracemalloc.start()
        score_cohort(source, KEYS, SETTINGS)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(20) < 1.1 * peak(2)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"split": "train"}, "v1: its split is train, not val"),
        ({"mask": np.ones((2, 3, 4))}, r"v1: its arrays differ in shape .*mask \(2, 3, 4\)"),
        ({"output": Output("map", np.full(SHAPE, -1.0))}, "v1: the anomaly map has negative"),
        ({"output": Output("map", np.full(SHAPE, np.nan))}, "v1: the anomaly map has negative, infinite or NaN"),
    ],
)
def test_impossible_volumes_are_named(cohort, change, message):
    volumes = {"val": [replace(cohort["val"][0], **change)], "test": []}
    with pytest.raises(InputError, match=message):
        score(volumes)


def test_unknown_search_is_refused():
    with pytest.raises(ValueError, match="random"):
        ScoreSettings(voxel_ml=1, search="random")

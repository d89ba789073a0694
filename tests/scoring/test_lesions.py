"""Lesions one by one, and the anomaly scores of a scan, counted by hand on small volumes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_cohort import RAW, SETTINGS, SHAPE, changed, score

from uad.inference.outputs import Output
from uad.scoring.lesions import lesion_table, lesions_of
from uad.scoring.postprocessing import PostProcessing
from uad.scoring.protocol import VolumeToScore, ablations_of


def two_lesions():
    """Labels of a lesion of 20 voxels, one of 20 that ends corner to corner, and excluded voxels beside the first."""
    label = np.zeros(SHAPE, np.uint8)
    label[2, 4:8, 4:9] = 1  # 20
    label[2, 4:8, 9:11] = 2
    label[8, 20:23, 20:26] = 1  # 18
    label[9, 23, 26] = label[10, 24, 27] = 1  # each touches the one before at a corner
    return label


def scored(label, where, settings=RAW, validation=None):
    """The scores of one test volume whose map is 1 at `where`; the threshold is that of a map equal to the truth."""
    validation = label if validation is None else validation
    volumes = {
        split: [VolumeToScore(split, split, "", np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.uint8), truth,
                              Output("map", np.asarray(values, np.float32)))]
        for split, truth, values in (("val", validation, validation == 1), ("test", label, where))
    }  # fmt: skip
    return score(volumes, settings)


def test_lesions_are_found_by_the_share_that_is_predicted():
    label, where = two_lesions(), np.zeros(SHAPE, bool)
    where[2, 4, 8:11] = True  # 1 of 20 voxels, and two excluded ones, which are no hit
    where[8, 20, 20:26] = where[8, 21, 20:22] = where[9, 23, 26] = where[10, 24, 27] = True  # 10 of 20
    where[14, 30, 30:33] = True  # hits nothing
    found = scored(label, where)
    assert [(row["number"], row["overlap"]) for row in found.lesions] == [(1, 0.05), (2, 0.5)]
    assert [row["lesion_ml"] for row in found.lesions] == pytest.approx([20 * 0.008] * 2)
    assert {(row["cohort"], row["subject"], row["split"], row["t_test"]) for row in found.lesions} == {
        ("brats21", "test", "test", "500")
    }
    assert found.rows[1]["false_positives"] == 1


def test_corners_join_lesions_and_excluded_voxels_part_them():
    label = np.zeros(SHAPE, np.uint8)
    label[3, 5, 5] = label[4, 6, 6] = 1
    label[8, 10, 10] = label[8, 10, 12] = 1
    label[8, 10, 11] = 2  # between two lesions, and neither hit nor miss
    rows = lesions_of(label == 1, label == 2, voxel_ml=2.0)
    assert [(row["lesion_ml"], row["overlap"]) for row in rows] == [(4, 0), (2, 0), (2, 0)]


def test_the_component_filter_comes_before_lesions_are_looked_at():
    """Of 20 voxels 8 are predicted in one piece, or 7, which is too few to be kept."""
    for predicted, overlap in ((8, 0.4), (7, 0.0)):
        label, where = two_lesions(), np.zeros(SHAPE, bool)
        where[8, 20, 20:26] = True
        where[8, 21, 20 : 20 + predicted - 6] = True
        plain = replace(RAW, variants={"full": PostProcessing(order=(), mask_without_erosion=False)})
        assert [row["overlap"] for row in scored(label, where, plain).lesions] == pytest.approx([0, overlap])


def test_only_lesions_of_test_scans_under_the_whole_post_processing(cohort):
    variants = {"full": PostProcessing(), "no_median": PostProcessing(order=("erode",))}
    settings = replace(SETTINGS, variants=variants, ablations=ablations_of(PostProcessing()))
    found = score(cohort, settings).lesions
    assert found == score(cohort).lesions
    assert {row["subject"] for row in found} == {"a", "b", "c", "d"}


def test_without_a_threshold_no_overlap_is_known_and_without_a_lesion_there_is_no_row():
    label = two_lesions()
    without = scored(label, label == 1, validation=np.zeros(SHAPE, np.uint8))
    assert np.isnan([row["overlap"] for row in without.lesions]).tolist() == [True, True]
    assert scored(np.zeros(SHAPE, np.uint8), label == 1, validation=label).lesions == []


def test_an_empty_table_keeps_its_columns_and_joins_others(tmp_path):
    full = lesion_table([{"cohort": "x", "subject": "a", "split": "test", "t_test": "", "number": 1, "lesion_ml": 0.5,
                          "overlap": float("nan")}])  # fmt: skip
    lesion_table([]).to_parquet(tmp_path / "none.parquet", index=False)
    full.to_parquet(tmp_path / "one.parquet", index=False)
    both = pd.concat([pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("none", "one")], ignore_index=True)
    assert list(both.columns) == list(full.columns)
    assert (both["number"].tolist(), both["lesion_ml"].tolist(), both["t_test"].tolist()) == ([1], [0.5], [""])


def test_oracle_finds_every_lesion_and_copy_none(cohort):
    def give_truth(volume):
        return {"output": Output("map", (volume.label == 1).astype(np.float32))}

    assert {row["overlap"] for row in score(changed(cohort, give_truth), RAW).lesions} == {1}
    copied = changed(cohort, lambda volume: {"output": Output("reconstruction", volume.image)})
    assert {row["overlap"] for row in score(copied).lesions} == {0}


def test_the_score_of_a_scan_is_that_of_its_brain_without_excluded_voxels(cohort):
    """A brain with the values 1 to 2,000: the highest 20 and 2; larger values elsewhere do not count."""
    volume = cohort["test"][0]
    mask, label = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    mask[:, :10, :13] = 1  # 2,080 voxels, the last 80 of which are excluded
    places = np.argwhere(mask)
    label[tuple(places[2000:].T)] = 2
    values = np.full(SHAPE, 9000, np.float32)
    values[tuple(places[:2000].T)] = np.random.default_rng(2).permutation(2000) + 1
    made = replace(volume, mask=mask, label=label, output=Output("map", values))
    row = score({"val": [], "test": [made]}, RAW).rows[0]
    assert (row["score_top1"], row["score_top01"]) == (1990.5, 1999.5)


def test_the_score_of_a_scan_is_of_the_cleaned_map_and_not_of_ablations(cohort):
    """One bright voxel is what a median takes away."""
    volume = cohort["test"][0]
    values = np.where(volume.mask, 0.5, 0).astype(np.float32)
    values[8, 20, 25] = 100
    made = replace(volume, output=Output("map", values))
    full, *ablated = score(
        {"val": [], "test": [made]}, replace(SETTINGS, ablations=ablations_of(PostProcessing()))
    ).rows
    assert (full["score_top1"], full["score_top01"]) == (0.5, 0.5)
    assert np.isnan([[row["score_top1"], row["score_top01"]] for row in ablated]).all()

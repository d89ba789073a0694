"""Counts of voxels by the value of their map, against the voxels themselves.  docs/formats.md, Tallies"""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score
from small_cohort import changed, score

from uad.inference.outputs import Output
from uad.metrics.segmentation import ranked_curve
from uad.scoring.arm_files import read_arm_files
from uad.scoring.tallies import LOWER, tally, tally_rows

KEYS = {"cohort": "mslub", "split": "test", "t_test": ""}


def rows_of(values, label, mask):
    curve = ranked_curve(values, label == 1, label != 2)
    return tally_rows(tally(curve, values[(mask == 0) & (label == 0)]), KEYS)


def made_up(values):
    """A label with all three values, and a mask, at random in the shape of `values`."""
    rng = np.random.default_rng(3)
    return rng.choice([0, 1, 2], size=values.shape, p=[0.8, 0.15, 0.05]), rng.integers(0, 2, values.shape)


def test_area_under_the_precision_recall_curve_of_the_tallies():
    """Values on edges that float32 has exactly, each in a bin of its own, so the counts lose nothing."""
    rng = np.random.default_rng(1)
    values = rng.choice([0, 2.0**-30, 0.25, 0.5, 1, 2, 2.0**40], size=(4, 20, 20)).astype(np.float32)
    label, mask = made_up(values)
    values[label == 1] *= 2
    rows = rows_of(values, label, mask)
    assert rows["value"].is_monotonic_increasing and set(rows["value"]) == set(values[label != 2].tolist())
    truth = np.repeat([1] * len(rows) + [0] * len(rows), [*rows["lesion"], *rows["healthy"]])
    counted = np.repeat([*rows["value"], *rows["value"]], [*rows["lesion"], *rows["healthy"]])
    expected = average_precision_score(label[label != 2] == 1, values[label != 2])
    assert average_precision_score(truth, counted) == pytest.approx(expected, abs=1e-12)


def test_every_value_of_float32_has_its_bin():
    """The bin begins at or below the value and ends above it, 2^(1/16) higher."""
    limits = np.finfo(np.float32)
    values = np.array([limits.smallest_subnormal, limits.tiny, 0.003, 1, 1.0442, 1.0443, 700, limits.max], np.float32)
    for value in values:
        at = np.array([value])
        (row,) = rows_of(at, np.zeros(1), np.ones(1)).itertuples()
        assert (row.lesion, row.healthy, row.brain) == (0, 1, 1)
        assert row.value <= float(value) < row.value * 2 ** (1 / 16)
        assert 16 * np.log2(row.value) == pytest.approx(round(16 * np.log2(row.value)), abs=1e-9)
    assert LOWER[0] == 0 and np.all(np.diff(LOWER) > 0)


def test_totals_are_the_voxels_and_label_2_counts_nowhere():
    values = np.random.default_rng(2).random((4, 20, 20), dtype=np.float32)
    values[values < 0.3] = 0
    label, mask = made_up(values)
    rows = rows_of(values, label, mask)
    found = rows[["lesion", "healthy", "brain"]]
    inside = (label == 0) & (mask == 1)
    assert found.sum().tolist() == [(label == 1).sum(), (label == 0).sum(), inside.sum()]
    zeros = [((values == 0) & where).sum() for where in (label == 1, label == 0, inside)]
    assert found[rows["value"] == 0].iloc[0].tolist() == zeros
    assert (found.dtypes == np.int64).all() and (found.sum(axis=1) > 0).all()
    changed_values = np.where(label == 2, np.float32(9), values)
    pd.testing.assert_frame_equal(rows_of(changed_values, label, mask), rows)


def test_a_cohort_is_tallied_over_all_scans_of_a_split(cohort):
    """Maps that post-processing leaves as they are: one value in the whole box."""
    found = score(changed(cohort, lambda v: {"output": Output("map", np.full(v.image.shape, 2, np.float32))})).tallies
    assert set(found) == {("full", "val"), ("full", "test")}
    for split, volumes in cohort.items():
        lesion, healthy, brain = found["full", split].sum(axis=1)
        assert lesion == sum(np.count_nonzero(volume.label == 1) for volume in volumes)
        assert healthy == sum(np.count_nonzero(volume.label == 0) for volume in volumes)
        assert brain == sum(np.count_nonzero((volume.label == 0) & (volume.mask > 0)) for volume in volumes)
        assert {*LOWER[found["full", split].any(axis=0)]} == {0.0, 2.0}  # 0: what erosion takes away


def test_files_are_read_with_what_their_paths_say(tmp_path):
    label = np.array([0, 1])
    rows = rows_of(np.array([0.5, 1], np.float32), label, np.ones(2))
    for place in ("ae/t2/fold0.parquet", "ae/t1/fold12.parquet"):
        (tmp_path / place).parent.mkdir(parents=True)
        rows.to_parquet(tmp_path / place, index=False)
    found = read_arm_files([tmp_path / "ae/t2/fold0.parquet", tmp_path / "ae/t1/fold12.parquet"])
    assert found[["arm", "modality", "fold"]].drop_duplicates().to_numpy().tolist() == [
        ["ae", "t2", 0],
        ["ae", "t1", 12],
    ]
    pd.testing.assert_frame_equal(found[found["fold"] == 12][rows.columns].reset_index(drop=True), rows)

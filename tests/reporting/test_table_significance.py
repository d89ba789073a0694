"""Asterisks, p values and intervals of the tables: every expected number is worked out by hand or by SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_up_tables import arm, dice3, ladder, only, volumes
from scipy import stats


@pytest.mark.parametrize(("n", "p", "star"), [(6, 2 / 2**6, 1), (5, 2 / 2**5, 0)])
def test_star_needs_p_below_five_percent(n, p, star):
    """A constant lead: of 2^n sign patterns only the observed and its mirror are as extreme."""
    frames = [volumes("a", 0, ladder(0.1, n)), volumes("b", 0, ladder(0, n)), volumes("oracle", 0, [1.0] * n)]
    table = dice3(frames, [arm("a"), arm("b"), arm("oracle", control=True)], [0])
    assert list(table["p_value"][:2]) == pytest.approx([p, p])
    assert math.isnan(only(table, arm="oracle")["p_value"])
    assert list(table["star"]) == [star, 0, 0]


def test_star_needs_all_rivals_and_takes_the_largest_p():
    lead = [0.1, 0.1, 0.1, 0.1, 0.1, -0.1]
    near = [score - gap for score, gap in zip(ladder(0.2, 6), lead, strict=True)]
    frames = [volumes("a", 0, ladder(0.2, 6)), volumes("b", 0, ladder(0, 6)), volumes("c", 0, near)]
    table = dice3(frames, [arm("a"), arm("b"), arm("c")], [0])
    # |sum of signs| is at least 4 in 2 * (1 + 6) of 64 patterns.
    assert list(table["p_value"]) == pytest.approx([14 / 64, 2 / 64, 14 / 64])
    assert list(table["star"]) == [0, 0, 0]
    # Holm over the two comparisons: 2 * 2/64 and 14/64; a's p goes with its closest rival.
    assert list(table["p_holm"]) == pytest.approx([14 / 64, 4 / 64, 14 / 64])
    assert list(table["against"]) == ["c", "a", "a"]
    # c: five leads of equal size against one: (5 - 1) / 6 of the ranks; b loses every pair.
    assert list(table["effect_size"]) == pytest.approx([4 / 6, -1, -4 / 6])


def test_other_reading_of_the_same_arm_is_no_rival():
    frames = [
        volumes("d", 0, ladder(0.3, 6), t_test="500"),
        volumes("d", 0, ladder(0.3, 6), t_test="ens"),
        volumes("b", 0, ladder(0, 6)),
    ]
    table = dice3(frames, [arm("d"), arm("b")], [0])
    assert only(table, arm="d", ens=0)["star"] + only(table, arm="d", ens=1)["star"] == 1
    assert only(table, arm="b")["p_value"] == pytest.approx(2 / 64)
    assert only(table, arm="b")["against"] == "d"


def test_fold_reading_compares_fold_means_without_pairs():
    """docs/paper.md#statistics: of C(10, 5) = 252 ways to share out ten distinct means two are as extreme."""
    frames = [volumes("a", fold, ladder(0.3 + fold / 100, 3)) for fold in range(5)]
    frames += [volumes("b", fold, ladder(fold / 100, 3)) for fold in range(5)]
    table = dice3(frames, [arm("a"), arm("b")], range(5), unit="folds")
    assert list(table["p_value"]) == pytest.approx([2 / 252, 2 / 252])
    assert list(table["star"]) == [1, 0]
    assert list(table["effect_size"]) == [1, -1]  # the effect stays one of volumes
    one = dice3([volumes("a", 0, [0.5, 0.6]), volumes("b", 0, [0.1, 0.2])], [arm("a"), arm("b")], [0], unit="folds")
    assert one["p_value"].isna().all() and set(one["star"]) == {0}
    with pytest.raises(ValueError, match="unit is 'slices'"):
        dice3(frames, [arm("a"), arm("b")], range(5), unit="slices")


def test_interval_is_over_fold_averaged_volumes():
    """Two folds of the same volumes are not twice the volumes: the interval is that of the averaged scores."""
    scores = [0.1, 0.3, 0.35, 0.6, 0.8, 0.95]
    frames = [volumes("a", fold, [score + shift for score in scores]) for fold, shift in ((0, -0.05), (1, 0.05))]
    row = only(dice3(frames, [arm("a")], [0, 1]), arm="a")
    expected = stats.bootstrap((scores,), np.mean, n_resamples=10_000, rng=np.random.default_rng(5)).confidence_interval
    assert row["ci_low"] == pytest.approx(100 * expected.low, abs=1.5)
    assert row["ci_high"] == pytest.approx(100 * expected.high, abs=1.5)
    assert row["ci_low"] < row["mean"] < row["ci_high"]


def test_p_is_over_fold_averaged_volumes_and_undefined_for_one_volume():
    """Six volumes in two folds are six pairs, not twelve; a single volume is no test."""
    frames = [volumes(name, fold, ladder(up, 6)) for name, up in (("a", 0.1), ("b", 0)) for fold in (0, 1)]
    assert only(dice3(frames, [arm("a"), arm("b")], [0, 1]), arm="a")["p_value"] == pytest.approx(2 / 64)
    frames = [volumes("a", 0, [0.5]), volumes("b", 0, [0.1])]
    table = dice3(frames, [arm("a"), arm("b")], [0])
    assert table["p_value"].isna().all()
    assert set(table["star"]) == {0}

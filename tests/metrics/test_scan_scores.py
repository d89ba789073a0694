"""Anomaly scores of scans: the highest values of a map, and AUROC and average precision against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from uad.metrics.scan_scores import auroc, average_precision, mean_of_highest

MEASURES = [(auroc, roc_auc_score), (average_precision, average_precision_score)]


@pytest.mark.parametrize(
    ("count", "one_in", "expected"),
    [
        (1000, 100, 994.5),  # 990 to 999
        (1999, 100, 1989.0),  # 19 of them: 1980 to 1998
        (1000, 1000, 999),
        (1999, 1000, 1998),
        (99, 100, 98),  # at least one
        (1, 1000, 0),
    ],
)
def test_the_highest_values_are_counted_down(count, one_in, expected):
    values = np.random.default_rng(0).permutation(count).astype(np.float32)
    assert mean_of_highest(values, one_in) == expected


def test_without_values_there_is_no_score():
    assert np.isnan(mean_of_highest(np.empty(0, np.float32), 100))


@pytest.mark.parametrize(("measure", "reference"), MEASURES)
@pytest.mark.parametrize("decimals", [0, 1, 9])  # with many ties, some, none
def test_resampled_scans_score_as_with_scikit_learn(measure, reference, decimals):
    rng = np.random.default_rng(3)
    ill, healthy = rng.normal(0.7, 1, 23).round(decimals), rng.normal(0, 1, 41).round(decimals)
    draws = [[rng.integers(0, len(group), len(group)) for group in (ill, healthy)] for _ in range(5)]
    draws.insert(0, [np.arange(len(ill)), np.arange(len(healthy))])  # each scan once
    counts = [
        np.array([np.bincount(draw[side], minlength=len(group)) for draw in draws])
        for side, group in enumerate((ill, healthy))
    ]
    truth = np.repeat([1, 0], [len(ill), len(healthy)])
    expected = [reference(truth, np.concatenate([ill[a], healthy[b]])) for a, b in draws]
    np.testing.assert_allclose(measure(ill, healthy, *counts), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("ill", "healthy", "area", "precision"),
    [
        ([3.0, 4.0], [1.0, 2.0, 2.5], 1, 1),
        ([0.0, 1.0], [2.0, 3.0, 4.0], 0, (1 / 4 + 2 / 5) / 2),
        ([1.0, 1.0], [1.0, 1.0, 1.0], 1 / 2, 2 / 5),  # no information: the share of ill scans
    ],
)
def test_perfect_worst_and_no_information(ill, healthy, area, precision):
    once = [np.ones((1, len(group)), int) for group in (ill, healthy)]
    assert auroc(np.array(ill), np.array(healthy), *once) == pytest.approx([area])
    assert average_precision(np.array(ill), np.array(healthy), *once) == pytest.approx([precision])


def test_chance_is_one_half_and_the_share_of_ill_scans():
    """Means over 400 drawings of random scores, within four standard errors."""
    rng = np.random.default_rng(1)
    once = [np.ones((1, 30), int), np.ones((1, 60), int)]
    found = {
        measure: [measure(rng.random(30), rng.random(60), *once)[0] for _ in range(400)] for measure, _ in MEASURES
    }
    areas, precisions = found[auroc], found[average_precision]
    assert np.mean(areas) == pytest.approx(
        0.5, abs=4 * np.sqrt(91 / (12 * 30 * 60) / 400)
    )  # Mann and Whitney's variance
    harmonic = sum(1 / n for n in range(1, 91))
    expected = (harmonic + 29 * (90 - harmonic) / 89) / 90
    assert np.mean(precisions) == pytest.approx(expected, abs=4 * np.std(precisions) / 20)

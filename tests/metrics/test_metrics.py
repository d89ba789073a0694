"""Segmentation, threshold and reconstruction metrics against other libraries and closed forms."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchmetrics.functional.image import structural_similarity_index_measure

from uad.metrics.reconstruction import (
    entropy_difference,
    histogram,
    histogram_divergence,
    kl,
    l1_errors,
    multiscale_dissimilarity,
    psnr,
    ssim,
)
from uad.metrics.segmentation import dice, pooled_curve, ranked_curve
from uad.metrics.threshold import exact_threshold, false_positive_thresholds, greedy_threshold

SHAPE = (8, 20, 24)


def _scan(seed, ties=False, zero_share=0.6):
    """A map with brighter lesion voxels and a background of exactly 0, in which some lesion voxels lie."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(SHAPE) < 0.05).astype(np.uint8)
    values = rng.gamma(2.0, 0.1, SHAPE) + 0.15 * truth * rng.random(SHAPE)
    if ties:
        values = np.round(values, 1)
    values[rng.random(SHAPE) < zero_share] = 0
    return values.astype(np.float32), truth


# --- ranking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("zero_share", [0.0, 0.6, 1.0])
def test_ranking_scores_equal_scikit_learn(ties, zero_share):
    values, truth = _scan(5, ties, zero_share)
    curve = ranked_curve(values, truth)
    assert curve.average_precision() == pytest.approx(average_precision_score(truth.ravel(), values.ravel()), abs=1e-6)
    assert curve.auroc() == pytest.approx(roc_auc_score(truth.ravel(), values.ravel()), abs=1e-6)
    assert curve.prevalence == pytest.approx(truth.mean())


@pytest.mark.parametrize("zero_share", [0.0, 0.6])
def test_ranking_scores_equal_torchmetrics_with_ties(zero_share):
    """Ours is kept for its time: the ratio stands in uad/metrics/segmentation.py."""
    values, truth = _scan(15, ties=True, zero_share=zero_share)
    values /= values.max()  # torchmetrics takes values above 1 for logits
    assert len(np.unique(values)) < 20
    curve, tensors = ranked_curve(values, truth), (torch.from_numpy(values), torch.from_numpy(truth).int())
    assert curve.average_precision() == pytest.approx(binary_average_precision(*tensors).item(), abs=1e-6)
    assert curve.auroc() == pytest.approx(binary_auroc(*tensors).item(), abs=1e-6)


def test_excluded_voxels_do_not_count():
    values, truth = _scan(6)
    valid = np.random.default_rng(7).random(SHAPE) < 0.7
    curve = ranked_curve(values, truth, valid)
    assert curve.average_precision() == pytest.approx(average_precision_score(truth[valid], values[valid]), abs=1e-6)
    assert curve.voxels == valid.sum()
    assert dice(values > 0.3, truth, valid) == pytest.approx(f1_score(truth[valid], values[valid] > 0.3))


def test_pooling_equals_concatenation():
    scans = [_scan(seed) for seed in (1, 2, 3)]
    pooled = pooled_curve((values, truth, None) for values, truth in scans)
    joined = ranked_curve(np.concatenate([s[0] for s in scans]), np.concatenate([s[1] for s in scans]))
    assert pooled.average_precision() == joined.average_precision()
    assert pooled.best_dice() == joined.best_dice()
    assert pooled.voxels == 3 * np.prod(SHAPE)


def test_undefined_scores_are_nan():
    values, truth = _scan(8)
    healthy = ranked_curve(values, np.zeros_like(truth))
    assert np.isnan([healthy.average_precision(), healthy.auroc(), *healthy.best_dice()]).all()
    everywhere = ranked_curve(values, np.ones_like(truth))
    assert everywhere.average_precision() == 1 and np.isnan(everywhere.auroc())


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_impossible_map_values_are_refused(bad):
    values, truth = _scan(9)
    values[3, 4, 5] = bad
    with pytest.raises(ValueError, match="finite"):
        ranked_curve(values, truth)


def test_dice_of_known_overlaps():
    truth = np.array([1, 1, 1, 0, 0, 0])
    assert dice(truth, truth) == 1
    assert dice(1 - truth, truth) == 0
    assert dice(np.array([0, 1, 1, 1, 0, 0]), truth) == pytest.approx(2 * 2 / 6)
    assert dice(np.zeros(6), truth) == 0
    assert np.isnan(dice(np.zeros(6), np.zeros(6)))


# --- thresholds -----------------------------------------------------------------------------------


def _best_dice_by_trying_all(values, truth):
    return max(f1_score(truth.ravel(), values.ravel() > t) for t in np.unique(np.append(values, 0))[:-1])


@pytest.mark.parametrize("ties", [False, True])
def test_exact_threshold_is_the_optimum(ties):
    values, truth = _scan(10, ties, zero_share=0.95)
    curve = ranked_curve(values, truth)
    threshold = exact_threshold(curve)
    best = _best_dice_by_trying_all(values, truth)
    assert f1_score(truth.ravel(), (values > np.float32(threshold)).ravel()) == pytest.approx(best)
    assert curve.best_dice()[0] == pytest.approx(best)


def test_dice_at_a_threshold_is_that_of_the_prediction():
    values, truth = _scan(11, ties=True)
    curve = ranked_curve(values, truth)
    for threshold in (0.0, 0.1, 0.25, 0.3, 5.0):
        assert curve.dice_at(threshold) == pytest.approx(dice(values > np.float32(threshold), truth))


def test_exact_is_never_worse_than_greedy():
    gains = []
    for seed in range(40):
        curve = ranked_curve(*_scan(100 + seed))
        gains.append(curve.dice_at(exact_threshold(curve)) - curve.dice_at(greedy_threshold(curve)))
    assert min(gains) >= 0
    assert max(gains) > 0.001  # the bisection does miss the optimum


def test_greedy_search_by_hand():
    """Lesion voxels at 0.2 and 0.3, others at 0.1 and 0.8: only thresholds in [0.1, 0.2) reach 0.8.

    Round 1 compares 0.2 (Dice 2*1/(2+2) = 0.5) with 0.6 (0): lower half. Round 2: 0.1 (0.8) with 0.3 (0): lower half.
    Round 3: 0.05 (2/3) with 0.15 (0.8): upper half, [0.1, 0.2]. From there on all points reach 0.8; the last is at a
    quarter of [0.1, 0.1 + 0.1 / 2^6].
    """
    values, truth = np.array([0.1, 0.2, 0.3, 0.8], np.float32), np.array([0, 1, 1, 0])
    curve = ranked_curve(values, truth)
    assert greedy_threshold(curve) == pytest.approx(0.1 + 0.025 / 64, abs=1e-7)
    assert curve.dice_at(greedy_threshold(curve)) == pytest.approx(0.8)
    assert exact_threshold(curve) == pytest.approx(0.1, abs=1e-7)


def test_greedy_search_keeps_the_lower_half_and_the_last_point_at_a_tie():
    """Only the lesion voxel is above 0: every point ties, so the search goes down to a quarter of [0, 2^-9]."""
    assert greedy_threshold(ranked_curve(np.array([0, 0, 1.0]), np.array([0, 0, 1]))) == 2**-11


def test_greedy_search_moves_up_when_the_upper_point_wins():
    """Others at 0.5, the lesion at 1: 0.25 gives 2/3 and 0.75 gives 1, as do all points of [0.5, 1] that follow."""
    assert greedy_threshold(ranked_curve(np.array([0.5, 1.0]), np.array([0, 1]))) == 0.5 + 2**-11


def test_greedy_search_stops_after_ten_rounds():
    """Ties lead down to 2^-11 in round 10; an eleventh would find the last lesion voxels at 2^-12."""
    values = np.array([1.0] + 50 * [0.75 * 2**-10] + 49 * [0.75 * 2**-11])
    assert greedy_threshold(ranked_curve(values, np.ones(100))) == 2**-11


def _greedy_rule(values, truth):
    """The authors' rule on plain arrays: `>=` everywhere, Dice starts at 0, an interval of no width ends at 1."""

    def dice_of(point):
        called = values > np.float32(point)
        return 2 * np.sum(called & truth) / (np.sum(called) + np.sum(truth))

    bottom, top, best, kept = 0.0, float(values.max()), 0.0, 0.0
    for _ in range(10):
        top = 1.0 if bottom == top else top
        lower, upper = bottom + (top - bottom) * 0.25, bottom + (top - bottom) * 0.75
        found_lower, found_upper = dice_of(lower), dice_of(upper)
        if found_lower >= found_upper:
            point, found, top = lower, found_lower, bottom + (top - bottom) * 0.5
        else:
            point, found, bottom = upper, found_upper, bottom + (top - bottom) * 0.5
        if found >= best:
            best, kept = found, point
    return kept


@pytest.mark.parametrize("kind", ["ranks", "steps", "no lesion found", "all zero"])
def test_greedy_search_is_the_authors_rule(kind):
    rng = np.random.default_rng(5)
    for _ in range(100):
        values = rng.gamma(0.7, 0.1, 400).astype(np.float32)
        truth = rng.random(400) < 0.05 + 0.5 * (values > 0.2)
        truth[0] = True
        if kind == "steps":
            values = np.round(values * 8) / np.float32(8)
        elif kind == "no lesion found":
            values[truth] = 0
        elif kind == "all zero":
            values[:] = 0
        assert greedy_threshold(ranked_curve(values, truth)) == pytest.approx(_greedy_rule(values, truth), rel=1e-6)


def test_thresholds_of_uninformative_maps():
    zeros, truth = np.zeros(SHAPE), np.ones(SHAPE)
    # nothing is called: a voxel at 0 is never above
    assert exact_threshold(ranked_curve(zeros, truth)) == 0
    assert greedy_threshold(ranked_curve(zeros, truth)) == 2**-11
    for search in (exact_threshold, greedy_threshold):
        assert np.isnan(search(ranked_curve(zeros, zeros)))


def test_a_negative_zero_is_a_zero():
    values, truth = np.array([-0.0, 0.5, 0.25], np.float32), np.array([1, 1, 0])
    assert exact_threshold(ranked_curve(values, truth)) == 0.25
    assert str(false_positive_thresholds([(values, np.ones(3))], [1.0])[1.0]) == "0.0"


@pytest.mark.parametrize("zero_share", [0.1, 0.9])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 1.0])
def test_false_positive_thresholds_bound_the_share_of_brain(rate, zero_share):
    draw = np.random.default_rng(1)
    masks = [draw.random(SHAPE) < 0.5 for _ in range(2)]
    maps = [(draw.gamma(2, 0.1, SHAPE) * (draw.random(SHAPE) > zero_share)).astype(np.float32) for _ in range(2)]
    threshold = false_positive_thresholds(zip(maps, masks, strict=True), [rate])[rate]
    brain = np.concatenate([values[mask] for values, mask in zip(maps, masks, strict=True)])
    assert (brain > np.float32(threshold)).mean() <= rate
    lower = brain[brain < np.float32(threshold)]
    assert not len(lower) or (brain > lower.max()).mean() > rate


def test_false_positive_thresholds_of_known_values():
    values = np.arange(1, 101, dtype=np.float32).reshape(4, 5, 5)
    found = false_positive_thresholds([(values, np.ones((4, 5, 5)))], [0.01, 0.05, 0.1, 0.29])
    assert found == {0.01: 99, 0.05: 95, 0.1: 90, 0.29: 71}
    assert np.isnan(false_positive_thresholds([], [0.01])[0.01])


# --- reconstruction -------------------------------------------------------------------------------


@pytest.fixture
def pair():
    """A smooth object in an empty frame and a noisy copy, [Z, Y, X] in [0, 1]."""
    rng = np.random.default_rng(12)
    image = np.zeros((24, 30, 28), np.float32)
    image[6:18, 6:24, 6:22] = ndimage.gaussian_filter(rng.random((12, 18, 16)), 1)
    noisy = np.clip(image + 0.05 * rng.standard_normal(image.shape), 0, 1).astype(np.float32)
    return image, noisy


def test_ssim_equals_torchmetrics(pair):
    """Ours is kept for its time and memory: the ratios stand beside it."""
    tensors = [torch.from_numpy(volume).double()[None, None] for volume in pair]
    expected = structural_similarity_index_measure(*tensors, sigma=1.5, kernel_size=11, data_range=1.0)
    assert ssim(*pair) == pytest.approx(expected.item(), abs=1e-6)


def test_ssim_equals_scikit_image_where_padding_does_not_matter(pair):
    framed = [np.pad(volume, 6) for volume in pair]
    mean_inside, full = structural_similarity(
        *framed, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert ssim(*framed) == pytest.approx(full.mean(), abs=1e-5)  # both frames are empty, however padded
    assert mean_inside != pytest.approx(full.mean(), abs=1e-3)  # scikit-image's own mean leaves the border out


def test_ssim_of_small_and_constant_volumes():
    assert ssim(np.zeros((6, 6, 6)), np.zeros((6, 6, 6))) == 1
    gap = ssim(np.full((6, 7, 8), 0.2), np.full((6, 7, 8), 0.6))
    assert gap == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4))  # the luminance term alone


def test_multiscale_dissimilarity_is_half_of_what_ssim_lacks(pair):
    a, b = pair
    assert np.allclose(multiscale_dissimilarity(a, a), 0)
    # of constant slices SSIM is its luminance term, in windows of every size
    expected = (1 - (2 * 0.2 * 0.6 + 0.01**2) / (0.2**2 + 0.6**2 + 0.01**2)) / 2
    flat = np.full((2, 20, 20), 0.2), np.full((2, 20, 20), 0.6)
    assert np.allclose(multiscale_dissimilarity(*flat), expected)
    found = multiscale_dissimilarity(a, b)
    alone = np.concatenate([multiscale_dissimilarity(a[z : z + 1], b[z : z + 1]) for z in range(len(a))])
    assert np.array_equal(found, alone) and found.min() > 0 and found.max() <= 1


def test_psnr_equals_scikit_image(pair):
    assert psnr(*pair) == pytest.approx(peak_signal_noise_ratio(*pair, data_range=1.0), abs=1e-5)
    beyond = pair[0] * 3 - 1, pair[1]  # nothing is cut
    assert psnr(*beyond) == pytest.approx(-10 * np.log10(np.mean(np.subtract(*beyond, dtype=float) ** 2)), abs=1e-5)
    assert psnr(np.zeros((3, 3, 3)), np.full((3, 3, 3), 0.1)) == pytest.approx(20)
    assert psnr(pair[0], pair[0]) == np.inf


def test_l1_splits_lesion_from_the_rest():
    image, label = np.zeros((2, 2, 5), np.float32), np.zeros((2, 2, 5), np.uint8)
    reconstruction = np.full((2, 2, 5), 0.1, np.float32)
    label[0, 0, :2], reconstruction[0, 0, :2] = 1, -0.5
    label[1, 1, :4], reconstruction[1, 1, :4] = 2, 0.9
    found = l1_errors(image, reconstruction, label)
    assert found["l1_lesion"] == pytest.approx(0.5)
    assert found["l1_healthy"] == pytest.approx(0.1)
    assert found["l1"] == pytest.approx((2 * 0.5 + 4 * 0.9 + 14 * 0.1) / 20)
    assert np.isnan(l1_errors(image, reconstruction, np.zeros_like(label))["l1_lesion"])


def test_histogram_counts_500_bins_and_clips():
    shares = histogram(np.array([-3.0, 0.0, 0.001, 0.5, 1.0, 1.7]))
    assert len(shares) == 500 and shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(3 / 6) and shares[250] == pytest.approx(1 / 6)
    assert shares[-1] == pytest.approx(2 / 6)


def test_divergences_have_their_closed_forms():
    p, q = np.zeros(500), np.zeros(500)
    p[:2], q[:2] = [0.5, 0.5], [0.25, 0.75]
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert kl(p, q) == pytest.approx(expected, abs=2e-3)  # the epsilon moves 500 * 1e-6 of the mass
    assert kl(p[:2], q[:2], epsilon=0) == pytest.approx(expected, abs=1e-12)
    assert kl(p, p) == 0
    assert entropy_difference(p, q) == pytest.approx(stats.entropy(q) - stats.entropy(p))
    assert entropy_difference(q, p) == pytest.approx(-entropy_difference(p, q))


def test_an_entropy_difference_is_no_divergence():
    """Two different histograms of one entropy: the printed formula calls them equal, KL does not."""
    rng = np.random.default_rng(13)
    image = rng.random((10, 10, 10)) * 0.4
    found = histogram_divergence(image, image + 0.5, np.ones(image.shape, bool))
    assert abs(found["kld_entropy"]) < 0.05
    assert found["kld"] > 5


def test_divergence_looks_only_where_it_is_told():
    image = np.random.default_rng(14).random((6, 6, 6))
    reconstruction = image.copy()
    reconstruction[:3] = 0
    where = np.zeros(image.shape, bool)
    where[3:] = True
    assert histogram_divergence(image, reconstruction, where) == {"kld": 0, "kld_entropy": 0}
    assert histogram_divergence(image, reconstruction, ~where)["kld"] > 1
    nowhere = histogram_divergence(image, reconstruction, np.zeros(image.shape, bool))
    assert np.isnan(list(nowhere.values())).all()

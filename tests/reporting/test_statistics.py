"""Permutation tests, Holm, bootstrap, effect size and star against enumeration, SciPy, mlxtend, statsmodels and
simulation.  docs/paper.md#statistics
"""

import time
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from mlxtend.evaluate import permutation_test as mlxtend_test
from scipy import stats

from uad.reporting.cells import Cell
from uad.reporting.significance import compare_lines
from uad.reporting.statistics import bootstrap_interval, group_interval, holm, permutation_test, rank_biserial


def _scores(n, shift, seed=1):
    rng = np.random.default_rng(seed)
    base = rng.random(n)
    return base + shift + 0.3 * rng.standard_normal(n), base


def _difference(x, y, axis=-1):
    return np.mean(x, axis=axis) - np.mean(y, axis=axis)


def _monte_carlo_error(p, rounds=10_000):
    return 4 * np.sqrt(2 * p * (1 - p) / rounds) + 1e-3  # four standard errors of the difference of two estimates


def _beyond(value, observed, alternative):
    slack = 1e-12
    if alternative == "two-sided":
        return abs(value) >= abs(observed) - slack
    return value >= observed - slack if alternative == "greater" else value <= observed + slack


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_few_pairs_are_enumerated(alternative):
    a, b = _scores(8, 0.15)
    observed = np.mean(a - b)
    patterns = list(product([1, -1], repeat=8))
    extreme = sum(_beyond(np.mean((a - b) * signs), observed, alternative) for signs in patterns)
    assert permutation_test(a, b, alternative=alternative) == pytest.approx(extreme / 256)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_few_unpaired_scores_are_enumerated(alternative):
    a, b = _scores(6, 0.2)[0], _scores(5, 0, seed=2)[1]
    pool, extreme, count = np.concatenate([a, b]), 0, 0
    for pick in combinations(range(11), 6):
        rest = [i for i in range(11) if i not in pick]
        extreme += _beyond(pool[list(pick)].mean() - pool[rest].mean(), a.mean() - b.mean(), alternative)
        count += 1
    assert permutation_test(a, b, paired=False, alternative=alternative) == pytest.approx(extreme / count)


def test_five_folds_cannot_be_significant():
    """With five pairs the smallest two-sided p is 2 / 32 (docs/paper.md#statistics)."""
    assert permutation_test(np.arange(5) + 10.0, np.arange(5.0)) == 2 / 32


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.08])
@pytest.mark.parametrize("paired", [True, False])
def test_agrees_with_scipy(shift, paired):
    a, b = _scores(60, shift)
    expected = stats.permutation_test(
        (a, b),
        _difference,
        permutation_type="samples" if paired else "independent",
        n_resamples=9999,
        alternative="greater",
        rng=np.random.default_rng(3),
    ).pvalue
    found = permutation_test(a, b, paired=paired, alternative="greater")
    assert found == pytest.approx(expected, abs=_monte_carlo_error(expected))


@pytest.mark.parametrize("paired", [True, False])
def test_agrees_with_mlxtend(paired):
    a, b = _scores(40, 0.05)
    rounds = 2000
    expected = mlxtend_test(a, b, method="approximate", num_rounds=rounds, seed=4, paired=paired)
    found = permutation_test(a, b, rounds=rounds, seed=5, paired=paired)
    assert found == pytest.approx(expected, abs=_monte_carlo_error(expected, rounds))


def test_exact_value_equals_mlxtend():
    a, b = _scores(9, 0.1)
    expected = mlxtend_test(a, b, method="exact", paired=True)
    assert permutation_test(a, b) == pytest.approx(expected)


def test_p_is_never_zero_and_depends_on_the_seed_only():
    a, b = _scores(100, 5.0)
    assert permutation_test(a, b, rounds=999) == 1 / 1000
    a, b = _scores(100, 0.01)
    assert permutation_test(a, b, seed=1) == permutation_test(a, b, seed=1)
    assert permutation_test(a, b, seed=1) != permutation_test(a, b, seed=2)
    assert permutation_test(a, a) == 1


def test_p_is_uniform_without_a_difference():
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p_values.append(permutation_test(rng.random(30), rng.random(30), rounds=500, seed=seed))
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


@pytest.mark.timing
def test_brats_size_takes_less_than_a_second():
    a, b = _scores(1151, 0.01)
    start = time.process_time()
    permutation_test(a, b, rounds=10_000)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "a, b, paired",
    [([], [], True), ([1.0, np.nan], [1.0, 2.0], True), ([1.0, 2.0], [1.0], True), ([1.0], [], False)],
)
def test_scores_are_checked(a, b, paired):
    with pytest.raises(ValueError, match="scores"):
        permutation_test(a, b, paired=paired)


def test_alternative_is_checked():
    with pytest.raises(ValueError, match="alternative"):
        permutation_test([1.0, 2.0], [2.0, 1.0], alternative="both")


def test_holm_on_a_worked_example():
    """0.01 * 4, then 0.02 * 3, then max(0.06, 0.03 * 2) and max(0.06, 0.04 * 1)."""
    assert holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    with_gap = holm([0.02, np.nan, 0.01])
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.02]) and np.isnan(with_gap[1])


def test_bootstrap_interval_is_close_to_the_normal_one():
    values = np.random.default_rng(6).normal(3, 2, 400)
    low, high = bootstrap_interval(values, seed=7)
    spread = values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - 1.96 * spread, abs=0.15 * spread)
    assert high == pytest.approx(values.mean() + 1.96 * spread, abs=0.15 * spread)
    assert bootstrap_interval(np.append(values, np.nan), seed=7) == (low, high)


def test_bootstrap_interval_covers_as_often_as_it_says():
    hits = 0
    for seed in range(600):
        values = np.random.default_rng(seed).exponential(1.0, 50)
        low, high = bootstrap_interval(values, seed=seed, level=0.9, rounds=500)
        hits += low <= 1 <= high
    assert hits / 600 == pytest.approx(0.9, abs=0.04)  # three standard errors


def test_bootstrap_interval_of_degenerate_values():
    assert bootstrap_interval([0.4, 0.4, 0.4], seed=1) == (0.4, 0.4)
    assert np.isnan(bootstrap_interval([0.4], seed=1)).all()


def test_bootstrap_interval_against_scipy_on_skewed_scores():
    """A hand-made percentile interval moved by BCa's correction, and SciPy's own with another seed."""
    values = np.random.default_rng(21).beta(0.6, 1.5, 300)
    low, high = bootstrap_interval(values, seed=7)
    resample = np.random.default_rng(22).choice(values, (20_000, 300)).mean(axis=1)
    spread = values.std(ddof=1) / np.sqrt(300)
    # z0 and a are about skewness / (6 sqrt(n)), so BCa moves both ends by 2 z0 + a z^2 standard errors
    shift = (2 + 1.96**2) * stats.skew(values) / (6 * np.sqrt(300)) * spread
    expected = np.quantile(resample, [0.025, 0.975])
    assert [low, high] == pytest.approx(expected + shift, abs=0.12 * spread)
    scipys = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(23))
    assert [low, high] == pytest.approx(list(scipys.confidence_interval), abs=0.1 * spread)


def test_bootstrap_interval_of_infinite_values_is_undefined():
    assert np.isnan(bootstrap_interval([1.0, np.inf, 2.0], seed=1)).all()
    assert bootstrap_interval([0.1 + 0.2, 0.3], seed=1) == pytest.approx((0.3, 0.3))


def test_interval_of_groups_is_that_of_the_mean_where_the_mean_is_asked_for():
    values = np.random.default_rng(21).beta(0.6, 1.5, 60)
    found = group_interval(lambda drawn: drawn @ values / drawn.sum(axis=1), [60], seed=7)
    assert found == pytest.approx(bootstrap_interval(values, seed=7))


def test_interval_of_two_groups_against_scipy():
    """The same draws, of places here and of values there."""
    a, b = _scores(40, 0.2)[0], _scores(70, 0, seed=2)[1]
    low, high = group_interval(lambda x, y: x @ a / x.sum(axis=1) - y @ b / y.sum(axis=1), [40, 70], seed=3)
    scipys = stats.bootstrap((a, b), _difference, n_resamples=10_000, method="BCa", rng=np.random.default_rng(3))
    assert [low, high] == pytest.approx(list(scipys.confidence_interval))
    assert low < a.mean() - b.mean() < high


def test_interval_of_groups_that_say_the_same_or_nothing():
    assert group_interval(lambda x, y: np.full(len(x), 0.25), [5, 4], seed=1) == (0.25, 0.25)
    assert np.isnan(group_interval(lambda x, y: x.sum(axis=1), [5, 1], seed=1)).all()


@pytest.mark.parametrize("n", [5, 20, 200])
def test_holm_agrees_with_statsmodels(n):
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    p_values = np.random.default_rng(n).beta(0.4, 2, n)
    assert holm(p_values) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])


# --- effect size ----------------------------------------------------------------------------------


def test_rank_biserial_on_a_worked_example():
    """Differences 1, -2, 3, 4 and 0: ranks 1, 2, 3, 4 of which 8 for, 2 against: 6 of 10."""
    assert rank_biserial([1, 0, 3, 4, 7], [0, 2, 0, 0, 7]) == pytest.approx(0.6)
    assert rank_biserial([0, 2, 0, 0, 7], [1, 0, 3, 4, 7]) == pytest.approx(-0.6)
    assert rank_biserial([0.3, 0.6, 0.3], [0.2, 0.5, 0.4]) == pytest.approx(1 / 3)  # sizes tied up to rounding
    assert rank_biserial([0.1 + 0.2], [0.3]) == rank_biserial([0, 0], [0, 0]) == rank_biserial([], []) == 0


def test_rank_biserial_is_one_minus_twice_the_share_of_wilcoxons_statistic():
    a, b = _scores(40, 0.05)
    smaller = stats.wilcoxon(a, b).statistic  # the smaller of both rank sums; all ranks sum to 40 * 41 / 2
    assert abs(rank_biserial(a, b)) == pytest.approx(1 - 2 * smaller / (40 * 41 / 2))


# --- the star -------------------------------------------------------------------------------------


def _cell(scores):
    return Cell(fold_means={0: float(np.mean(scores))}, scores=pd.Series(scores), rows=len(scores))


def _arms(count):
    return [{"arm": f"arm{i}", "control": False} for i in range(count)]


def _star(columns, seed, rounds=400):
    return any(line.star for line in compare_lines(_arms(len(columns)), [_cell(c) for c in columns], 1, rounds, seed))


def _star_rate(arms, lead, runs=300, volumes=25):
    """Share of simulated columns with a star; `lead` is what the first arm is ahead of the equal others."""
    stars = 0
    for seed in range(runs):
        rng = np.random.default_rng([seed, arms])
        scans = rng.beta(1, 2, volumes)  # volumes differ more than arms do
        columns = scans + 0.1 * rng.standard_normal((arms, volumes))
        columns[0] += lead
        stars += _star(columns, seed)
    return stars / runs


@pytest.mark.slow
def test_star_is_given_falsely_as_often_as_it_says():
    """Two equal arms: 5 %, the two-sided level. More equal arms: all must be beaten at once, so less than that."""
    error = 3 * np.sqrt(0.05 * 0.95 / 300)
    assert _star_rate(2, 0.0) == pytest.approx(0.05, abs=error)
    assert _star_rate(5, 0.0) <= 0.05 + error


def test_star_is_found_where_there_is_one():
    assert _star_rate(3, 0.12) > 0.95  # the lead is 4 standard errors of the mean difference


def test_star_needs_every_rival_beaten():
    rng = np.random.default_rng(8)
    base = rng.random(200)
    clear, close = base - 0.2 + 0.1 * rng.standard_normal(200), base + 0.001 * rng.standard_normal(200) - 1e-4
    assert _star([base, clear], 9) and _star([clear, base], 9)
    both = compare_lines(_arms(3), [_cell(c) for c in (base, clear, close)], 1, 2000, 9)
    best = int(np.argmax([base.mean(), clear.mean(), close.mean()]))
    assert not any(line.star for line in both)
    assert both[best].p_value > 0.05 and both[1].p_value < 0.01
    assert both[1].p_holm == pytest.approx(2 * both[1].p_value)
    assert both[best].against != 1 and both[1].against == best  # the closest rival is the close one
    assert both[1].effect_size < -0.9
    low = compare_lines(_arms(2), [_cell(base), _cell(clear)], -1, 2000, 9)
    assert low[1].star and low[0].effect_size < 0  # lower is better: the signs turn
    assert not _star([base], 9)

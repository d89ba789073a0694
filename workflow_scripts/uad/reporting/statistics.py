"""Comparing arms over volumes: permutation tests, Holm correction, bootstrap intervals, effect size.

docs/paper.md#statistics; what is tested against what is in `uad.reporting.significance` and docs/statistics.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy import stats

Alternative = Literal["two-sided", "greater", "less"]
ALPHA = 0.05
_DRAWS_AT_ONCE = 4_000_000  # signs or permuted scores held at a time: 32 MB
_DECKS_AT_ONCE = 1000  # of 60 scores they stay in the processor's cache


def permutation_test(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    rounds: int = 10_000,
    seed: int = 0,
    paired: bool = True,
    alternative: Alternative = "two-sided",
) -> float:
    """p of the difference of means under random relabelling (docs/paper.md#statistics).

    Where at most `rounds` relabellings exist, all are counted and p is exact; otherwise `rounds` are drawn
    and p = (k + 1) / (rounds + 1), with k draws at least as extreme as the observed difference.

    Args:
        a, b: scores per volume, finite; for a paired test entry i of both belongs to the same volume.
        rounds: draws.
        seed: of the draws.
        paired: flip signs within pairs (the benchmark's reading) instead of shuffling all scores.
        alternative: "two-sided" compares |difference|; "greater" asks whether a is above b.

    Raises:
        ValueError: empty or non-finite scores, or paired scores of different lengths.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not len(a) or not len(b) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a permutation test needs scores, all of them finite")
    if paired and len(a) != len(b):
        raise ValueError(f"a paired test needs as many scores of a ({len(a)}) as of b ({len(b)})")
    count = 2 ** len(a) if paired else math.comb(len(a) + len(b), len(a))
    exact = count <= rounds
    rng = None if exact else np.random.default_rng(seed)
    pooled = np.concatenate([a, b])
    null = _sign_flips(a - b, rounds, rng) if paired else _shuffles(pooled, len(a), rounds, rng)
    extreme = _count_extreme(null, float(a.mean() - b.mean()), alternative)
    return extreme / count if exact else (extreme + 1) / (rounds + 1)


def _sign_flips(differences: np.ndarray, rounds: int, rng: np.random.Generator | None) -> np.ndarray:
    """Mean differences under every sign pattern (`rng` None) or under random ones."""
    n = len(differences)
    if rng is None:
        flipped = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return (1 - 2 * flipped) @ differences / n
    null = np.empty(rounds)
    step = max(_DRAWS_AT_ONCE // n, 1)
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        bits = np.unpackbits(np.frombuffer(rng.bytes(size * -(-n // 8)), np.uint8).reshape(size, -1), axis=1)
        null[start : start + size] = (differences.sum() - 2 * (bits[:, :n] @ differences)) / n
    return null


def _shuffles(scores: np.ndarray, first: int, rounds: int, rng: np.random.Generator | None) -> np.ndarray:
    """Differences of means for every way to pick `first` scores (`rng` None) or for random ones."""
    rest = len(scores) - first
    if rng is None:
        picks = np.array(list(combinations(range(len(scores)), first)))
        sums = scores[picks].sum(axis=1)
    else:
        sums = np.empty(rounds)
        step = max(_DRAWS_AT_ONCE // len(scores), 1)
        for start in range(0, rounds, step):
            size = min(step, rounds - start)
            sums[start : start + size] = _sums_of_drawn(scores, first, size, rng)
    return sums / first - (scores.sum() - sums) / rest


def _sums_of_drawn(scores: np.ndarray, first: int, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """Sum of `first` scores drawn without replacement, [rounds]: Fisher and Yates' shuffle of many rounds at once,
    which ends when enough are drawn.
    """
    count, sums = len(scores), np.zeros(rounds)
    places = [rng.integers(place, count, rounds) for place in range(first)]
    for start in range(0, rounds, _DECKS_AT_ONCE):
        part = slice(start, min(start + _DECKS_AT_ONCE, rounds))
        decks = np.tile(scores, part.stop - start)  # one after another
        begins = np.arange(part.stop - start) * count
        for place, drawn in enumerate(places):
            picks = begins + drawn[part]
            sums[part] += decks[picks]
            decks[picks] = decks[place::count]
    return sums


def _count_extreme(null: np.ndarray, observed: float, alternative: Alternative) -> int:
    """How many differences are at least as extreme as the observed one, ties up to rounding included."""
    if alternative == "two-sided":
        null, observed = np.abs(null), abs(observed)
    elif alternative == "less":
        null, observed = -null, -observed
    elif alternative != "greater":
        raise ValueError(f"alternative is {alternative!r}; it must be two-sided, greater or less")
    return int(np.count_nonzero((null > observed) | np.isclose(null, observed, rtol=1e-9, atol=1e-12)))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down correction: adjusted p in the order given; NaN stays NaN and is not counted."""
    p_values = np.asarray(p_values, np.float64)
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, seed: int, level: float = 0.95, rounds: int = 10_000
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean over volumes (scipy); NaN values are left out.

    Args:
        values: scores per volume.
        seed: of the resampling.
        level: confidence.
        rounds: resamples.

    Returns:
        Lower and upper end; (NaN, NaN) with fewer than two values or an infinite one (PSNR of a perfect copy),
        the common value when all are equal up to rounding.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if len(values) < 2 or not np.isfinite(values).all():
        return float("nan"), float("nan")
    if np.allclose(values, values[0], rtol=1e-9, atol=1e-12):
        return float(values[0]), float(values[0])
    result = _bootstrap([values], np.mean, seed, level, rounds)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def group_interval(
    statistic: Callable[..., np.ndarray], sizes: Sequence[int], seed: int, level: float = 0.95, rounds: int = 10_000
) -> tuple[float, float]:
    """As `bootstrap_interval`, of any number that one or more groups of subjects give; each is resampled by itself.

    Args:
        statistic: how often each subject was drawn, int [resamples, subjects] for each group -> [resamples].
        sizes: subjects of each group.
        seed, level, rounds: as `bootstrap_interval`.

    Returns:
        Lower and upper end; (NaN, NaN) with fewer than two subjects in a group, the common value when all resamples
        agree up to rounding.
    """
    if min(sizes) < 2:
        return float("nan"), float("nan")

    def of_places(*places: np.ndarray, axis: int) -> np.ndarray:
        flat = [group.reshape(-1, group.shape[-1]) for group in places]
        drawn = map(_times_drawn, flat, sizes)
        return statistic(*drawn).reshape(places[0].shape[:-1])

    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # resamples that agree: answered below
        result = _bootstrap([np.arange(size) for size in sizes], of_places, seed, level, rounds)
    found = result.bootstrap_distribution
    if np.allclose(found, found[0], rtol=1e-9, atol=1e-12):
        return float(found[0]), float(found[0])
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _times_drawn(places: np.ndarray, size: int) -> np.ndarray:
    """How often each of `size` subjects is in each row of `places`: int [rows, size]."""
    rows = np.arange(len(places))[:, None]
    return np.bincount((places + size * rows).ravel(), minlength=len(places) * size).reshape(-1, size)


def _bootstrap(
    groups: Sequence[Sequence[float] | np.ndarray],
    statistic: Callable[..., np.ndarray],
    seed: int,
    level: float,
    rounds: int,
) -> Any:
    return stats.bootstrap(
        groups,
        statistic,
        confidence_level=level,
        n_resamples=rounds,
        batch=max(_DRAWS_AT_ONCE // sum(map(len, groups)), 1),
        method="BCa",
        rng=np.random.default_rng(seed),
    )


def rank_biserial(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014), the effect size of paired scores.

    The pairs' differences a - b are ranked by size; the ranks in favour of a, minus those in favour of b, over
    all ranks. Equal pairs are left out, tied sizes share their mean rank.

    Args:
        a, b: finite scores; entry i of both belongs to the same volume.

    Returns:
        -1 (b is higher in every pair) to 1 (a is); 0 if all pairs are equal or there is none.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    differences = np.round((a - b) / size, 9) if size else a - b  # equal up to rounding is a tie
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    ranks = stats.rankdata(np.abs(differences))
    return float(np.sum(np.sign(differences) * ranks) / ranks.sum())

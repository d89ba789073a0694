"""Which line of a table column is better than the others, and how surely.  docs/paper.md#statistics, docs/statistics.md

A column is one cohort, modality and metric; its lines are the arms' readings. Everything is a comparison with the
column's best line, because the question of the paper's star is whether the best is superior to all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from uad.reporting.cells import Cell
from uad.reporting.statistics import ALPHA, holm, permutation_test, rank_biserial

Unit = Literal["volumes", "folds"]
UNITS = ("volumes", "folds")


@dataclass(frozen=True)
class Comparison:
    """One line of a column in its comparison with the best line, or the best with its closest rival.

    Attributes:
        p_value: of the permutation test, two-sided; of the best line the largest over its rivals.
        p_holm: the same after Holm's correction over the column's comparisons.
        effect_size: matched-pairs rank-biserial correlation over volumes, -1 to 1; positive where this line has
            the better volumes. It goes with `against`.
        against: place of the other line, or None if nothing was compared.
        star: superior to all rivals (the paper's asterisk).
    """

    p_value: float = float("nan")
    p_holm: float = float("nan")
    effect_size: float = float("nan")
    against: int | None = None
    star: bool = False


def compare_lines(
    arms: Sequence[Mapping[str, Any]],
    cells: Sequence[Cell],
    better: int,
    rounds: int,
    seed: int,
    unit: Unit = "volumes",
) -> list[Comparison]:
    """Compare the lines of one column; `arms[i]` and `cells[i]` belong to line i.

    The best line that is no control is compared with every other such line. The star asks for a mean beyond every
    line of the other arms and p < 5 % against all of them; another reading of the same arm is no rival. Demanding
    all tests at once keeps the star's error rate without a correction, so it does not use Holm's.

    Args:
        better: +1 if high is good, -1 if low is, 0 for no order: then nothing is compared.
        rounds, seed: of the permutations.
        unit: "volumes": paired test of the volumes' scores, averaged over folds. "folds": unpaired test of the fold
            means, as the paper may have done.
    """
    results = [Comparison() for _ in cells]
    lines = [i for i, cell in enumerate(cells) if not arms[i]["control"] and not np.isnan(cell.mean)]
    if len(lines) < 2 or better == 0:
        return results
    best = max(lines, key=lambda i: better * cells[i].mean)
    others = [i for i in lines if i != best]
    p_values = [p_value(cells[best], cells[i], rounds, seed, unit) for i in others]
    for i, p, p_holm in zip(others, p_values, holm(p_values).tolist(), strict=True):
        results[i] = Comparison(p, p_holm, better * effect_size(cells[i].scores, cells[best].scores), best)
    rivals = [i for i in others if arms[i]["arm"] != arms[best]["arm"]]
    if rivals:
        closest = max(rivals, key=lambda i: _nan_first(results[i].p_value))
        largest, largest_holm = (
            float(np.max([getattr(results[i], name) for i in rivals])) for name in ("p_value", "p_holm")
        )  # NaN as soon as one rival could not be tested
        ahead = all(better * cells[best].mean > better * cells[i].mean for i in rivals)
        effect = -results[closest].effect_size
        results[best] = Comparison(largest, largest_holm, effect, closest, bool(ahead and largest < ALPHA))
    return results


def _nan_first(p: float) -> float:
    return np.inf if np.isnan(p) else p


def p_value(a: Cell, b: Cell, rounds: int, seed: int, unit: Unit) -> float:
    """Two-sided permutation test of two cells by `unit` (see `compare_lines`); NaN without two values of each."""
    if unit == "volumes":
        return _paired_p(a.scores, b.scores, rounds, seed)
    if unit == "folds":
        first, second = list(a.fold_means.values()), list(b.fold_means.values())
        if min(len(first), len(second)) < 2 or not np.isfinite([*first, *second]).all():
            return float("nan")
        return permutation_test(first, second, rounds=rounds, seed=seed, paired=False)
    raise ValueError(f"unit is {unit!r}; it must be one of {UNITS}")


def _paired_p(a: pd.Series, b: pd.Series, rounds: int, seed: int) -> float:
    both = _pairs(a, b)
    if len(both) < 2:
        return float("nan")
    return permutation_test(both["a"].to_numpy(), both["b"].to_numpy(), rounds=rounds, seed=seed, paired=True)


def effect_size(a: pd.Series, b: pd.Series) -> float:
    """Matched-pairs rank-biserial correlation of the volumes with a finite score in both; NaN with fewer than two.

    `a` and `b`: subject -> score averaged over folds.
    """
    both = _pairs(a, b)
    return rank_biserial(both["a"].to_numpy(), both["b"].to_numpy()) if len(both) > 1 else float("nan")


def _pairs(a: pd.Series, b: pd.Series) -> pd.DataFrame:
    both = pd.concat([a, b], axis=1, keys=["a", "b"], join="inner").sort_index()
    return both[np.isfinite(both).all(axis=1)]

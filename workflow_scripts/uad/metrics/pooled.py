"""Exact thresholds of the voxels of many volumes, in memory that does not grow with their number.  D25, D26

As bit patterns, float32 values of at least 0 have the order of the numbers. The upper half of the 32 bits says in
which of 2^15 bins a value lies, the lower half where in it. Counts by bin tell in which bins an answer can lie, counts
by value in those bins give it exactly. Values are kept for this second look while they have room, else read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from uad.metrics.segmentation import Volume, check_values, evaluated_voxels

_BINS = 2**15
_INFINITE = np.uint32(0x7F800000)  # impossible values, and -0.0, have bit patterns from here on
_BINS_AT_A_TIME = 16  # of 2^16 values each
_COUNTED_AT_ONCE = 2**17  # values; counting has a cost per bin
_MOST_KEPT = 2**24  # values; 64 MB
_RESERVE = 2  # later volumes may be harder than those that say what can be dropped


def pooled_exact_threshold(volumes: Callable[[], Iterable[Volume]]) -> float:
    """`exact_threshold` of the concatenated voxels.

    With P lesion voxels, a threshold that calls n voxels has a Dice of at most 2P / (P + n).  So where the volumes
    seen so far reach Dice D, a threshold that calls more than 2P / D - P of their voxels cannot be the best; only twice
    as many are looked at.  That is a guess about the volumes to come: at the end the bound is tested with all of
    them, and where it does not rule out what was passed over, the volumes are read again.

    Args:
        volumes: gives the (map, truth, valid) of each volume, as `pooled_curve`; the same ones if asked again.

    Returns:
        Threshold, at least 0; NaN without lesion voxels.

    Raises:
        ValueError: for negative or non-finite values.
    """
    highest = _HighestVoxels(volumes)
    best, threshold = highest.best()
    lesion_voxels, called = highest.lesion_voxels, highest.called[highest.floor]
    if highest.floor and not best > _dice(lesion_voxels, called, lesion_voxels):
        _, threshold = _HighestVoxels(volumes, from_zero=True).best()
    return threshold


class _HighestVoxels:
    """Voxels from a rising floor on and the lesion voxels among them, by bin.

    Attributes:
        floor: the lowest bin that is counted; values at 0 never are.
        lesion_voxels: all of them, wherever they lie.
        voxels, lesions: how many lie in each bin.
        called, hits: how many lie in it or above.
    """

    def __init__(self, volumes: Callable[[], Iterable[Volume]], from_zero: bool = False) -> None:
        self._volumes, self._rises = volumes, not from_zero
        self.floor, self.lesion_voxels = 0, 0
        self.voxels, self.lesions = np.zeros((2, _BINS), np.int64)
        self._kept: list[tuple[np.ndarray, np.ndarray]] | None = []
        for bits, positive, lesion_voxels in self._read():
            self.lesion_voxels += lesion_voxels
            self.voxels += _by_bin(bits)
            self.lesions += _by_bin(bits[positive])
            self._rise()
            self._keep(bits, positive)
        for counts in (self.voxels, self.lesions):
            counts[: self.floor] = 0  # some were counted before the floor had risen
        self.called, self.hits = _at_or_above(self.voxels), _at_or_above(self.lesions)

    def best(self) -> tuple[float, float]:
        """The highest Dice of a threshold above the floor and the lowest threshold that reaches it.

        In a bin, the Dice is at most what it would be if the lesion voxels came before the others.  Bins are looked
        into from the highest such bound on, until no other can reach the best Dice found.  NaN without lesion voxels.
        """
        if not self.lesion_voxels:
            return float("nan"), float("nan")
        if not self.hits[0]:
            return 0.0, self._value_below(_BINS << 16)  # the highest: nothing is called
        others_above = self.called - self.voxels - (self.hits - self.lesions)
        bound = np.where(self.lesions > 0, _dice(self.hits, self.hits + others_above, self.lesion_voxels), -1.0)
        best, lowest_called = _dice(self.hits, self.called, self.lesion_voxels).max(), _BINS << 16
        waiting = np.flatnonzero(bound >= best)
        waiting = waiting[np.argsort(-bound[waiting], kind="stable")]
        while len(waiting) and bound[waiting[0]] >= best:
            group, waiting = waiting[:_BINS_AT_A_TIME], waiting[_BINS_AT_A_TIME:]
            voxels, lesions = self._inside(group)
            number = lesions.values >> 16
            hits = self.hits[number] - self.lesions[number] + lesions.in_bin_at_or_above(lesions.values)
            called = self.called[number] - self.voxels[number] + voxels.in_bin_at_or_above(lesions.values)
            dice = _dice(hits, called, self.lesion_voxels)
            first = int(np.argmax(dice))
            if (dice[first], -int(lesions.values[first])) > (best, -lowest_called):  # of equals the lowest
                best, lowest_called = dice[first], int(lesions.values[first])
        return float(best), self._value_below(lowest_called)

    def _read(self) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """Of several volumes at once: bit patterns of voxels above 0 and from the floor on, which of them are lesion;
        how many lesion voxels there are in all.
        """
        waiting, lesion_voxels = [], 0
        for volume in self._volumes():
            values, lesion = evaluated_voxels(*volume)
            bits = values.view(np.uint32)
            places = np.flatnonzero(bits >= np.uint32(max(self.floor << 16, 1)))
            high, positive = bits[places], lesion[places]
            if len(high) and high.max() >= _INFINITE:
                check_values(high.view(np.float32))
                above = high < _INFINITE  # without -0.0
                high, positive = high[above], positive[above]
            waiting.append((high, positive))
            lesion_voxels += int(np.count_nonzero(lesion))
            if sum(len(high) for high, _ in waiting) >= _COUNTED_AT_ONCE:
                yield *map(np.concatenate, zip(*waiting, strict=True)), lesion_voxels
                waiting, lesion_voxels = [], 0
        if waiting:
            yield *map(np.concatenate, zip(*waiting, strict=True)), lesion_voxels

    def _rise(self) -> None:
        called, hits = _at_or_above(self.voxels), _at_or_above(self.lesions)
        reached = _dice(hits, called, self.lesion_voxels)[self.floor :].max() if self.lesion_voxels else 0.0
        if self._rises and reached:
            could_be_called = 2 * self.lesion_voxels / reached - self.lesion_voxels
            enough = np.flatnonzero(called >= _RESERVE * could_be_called)
            self.floor = max(self.floor, int(enough[-1])) if len(enough) else self.floor

    def _keep(self, bits: np.ndarray, positive: np.ndarray) -> None:
        if self._kept is None:
            return
        self._kept.append((bits, positive))
        if sum(len(bits) for bits, _ in self._kept) > _MOST_KEPT:
            high = [bits >= self.floor << 16 for bits, _ in self._kept]
            self._kept = [(bits[above], flags[above]) for above, (bits, flags) in zip(high, self._kept, strict=True)]
            if sum(len(bits) for bits, _ in self._kept) > _MOST_KEPT // 2:
                self._kept = None

    def _inside(self, bins: Sequence[int]) -> tuple[_Counts, _Counts]:
        """Voxels and lesion voxels in these bins, by value."""
        voxels, lesions = _Counts(bins), _Counts(bins)
        again = ((bits, positive) for bits, positive, _ in self._read()) if self._kept is None else self._kept
        for bits, positive in again:
            voxels.add(bits)
            lesions.add(bits[positive])
        return voxels.settled(), lesions.settled()

    def _value_below(self, bits: int) -> float:
        """The highest value that is counted and lies below a bit pattern; 0 where there is none."""
        bins = np.flatnonzero(self.voxels[: (bits >> 16) + 1])[-2:]  # it is in the pattern's bin or the one before
        if not len(bins):
            return 0.0
        voxels, _ = self._inside(bins)
        below = voxels.values[voxels.values < bits]
        return _value(below[-1]) if len(below) else 0.0


def false_positive_thresholds(
    volumes: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]], rates: Sequence[float]
) -> dict[float, float]:
    """Thresholds that call a given share of healthy brain voxels abnormal (D25).

    Args:
        volumes: gives the (map, brain mask) of each healthy scan, both [Z, Y, X]; the same ones if asked again.
        rates: shares in [0, 1], e.g. 0.05.

    Returns:
        rate -> the lowest value whose share of brain voxels above it is at most the rate; NaN without brain
        voxels.

    Raises:
        ValueError: for negative or non-finite values.
    """
    brain = _Again(lambda: (np.asarray(values, np.float32)[np.asarray(mask) > 0] for values, mask in volumes()))
    bins = sum((_by_bin(bits) for bits in brain), np.zeros(_BINS, np.int64))
    up_to = np.cumsum(bins)
    voxels = int(up_to[-1])
    if not voxels:
        return dict.fromkeys(rates, float("nan"))
    # the 1e-9 keeps 0.1 * 30 = 3.0000000000000004 and 0.29 * 100 = 28.999999999999996 at the intended count
    places = [voxels - 1 - min(int(rate * voxels + 1e-9), voxels - 1) for rate in rates]
    numbers = np.searchsorted(up_to, places, side="right")
    inside = _Counts(numbers)
    for bits in brain:
        inside.add(bits)
    inside.settled()
    found = {}
    for rate, place, number in zip(rates, places, numbers, strict=True):
        own = inside.values >> 16 == number
        in_bin = place - (up_to[number] - bins[number])
        found[rate] = _value(inside.values[own][np.searchsorted(np.cumsum(inside.counts[own]), in_bin, side="right")])
    return found


class _Again:
    """Bit patterns of values to go through more than once: kept if all of them have room, else read again."""

    def __init__(self, parts: Callable[[], Iterable[np.ndarray]]) -> None:
        self._parts = parts
        self._kept: list[np.ndarray] | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._kept is not None:
            yield from self._kept
            return
        kept, room = [], _MOST_KEPT
        for part in self._parts():
            check_values(part)
            bits = (part + np.float32(0)).view(np.uint32)  # -0.0 becomes 0
            room -= len(bits)
            if room >= 0:
                kept.append(bits)
            else:
                kept.clear()
            yield bits
        self._kept = kept if room >= 0 else None


def _dice(hits: np.ndarray | int, called: np.ndarray | int, lesion_voxels: int) -> np.ndarray | float:
    return 2.0 * hits / (called + lesion_voxels)


def _by_bin(bits: np.ndarray) -> np.ndarray:
    return np.bincount(bits >> 16, minlength=_BINS)


class _Counts:
    """How often each value occurs in some of the bins.

    Attributes:
        values: distinct bit patterns, ascending.
        counts: how often each was added.
    """

    def __init__(self, bins: Sequence[int]) -> None:
        self._wanted = np.zeros(_BINS, bool)
        self._wanted[bins] = True
        self._lowest, self._highest = int(min(bins)) << 16, (int(max(bins)) + 1 << 16) - 1
        self.values, self.counts = np.empty(0, np.uint32), np.empty(0, np.int64)
        self._waiting: list[np.ndarray] = []

    def add(self, bits: np.ndarray) -> None:
        near = bits[(bits >= self._lowest) & (bits <= self._highest)]
        self._waiting.append(near[self._wanted[near >> 16]])
        if sum(map(len, self._waiting)) > _COUNTED_AT_ONCE:
            self.settled()

    def settled(self) -> _Counts:
        """Itself, with all that was added."""
        values, counts = np.unique(np.concatenate([np.empty(0, np.uint32), *self._waiting]), return_counts=True)
        self._waiting = []
        if len(self.values):
            values, places = np.unique(np.concatenate([self.values, values]), return_inverse=True)
            counts = np.bincount(places, np.concatenate([self.counts, counts])).astype(np.int64)
        self.values, self.counts = values, counts
        return self

    def in_bin_at_or_above(self, bits: np.ndarray) -> np.ndarray:
        """How many of a pattern's bin lie at it or above."""
        below = np.concatenate([[0], np.cumsum(self.counts)])
        return below[np.searchsorted(self.values, (bits >> 16) + 1 << 16)] - below[np.searchsorted(self.values, bits)]


def _at_or_above(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts[::-1])[::-1]


def _value(bits: np.integer) -> float:
    return float(np.uint32(bits).view(np.float32))

"""The long table behind Table 5: are scans with a lesion told from healthy ones, and which lesions are found.

docs/statistics.md#detection-per-scan-and-per-lesion, docs/formats.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from uad.common.errors import InputError
from uad.metrics.scan_scores import auroc, average_precision
from uad.reporting.cells import Cell, build_cell, cell_rows, check_t_test, readings_of, select_rows
from uad.reporting.lesion_classes import LESION_CLASSES, lesion_class
from uad.reporting.paper_numbers import METRICS
from uad.reporting.statistics import bootstrap_interval, group_interval
from uad.reporting.tables import Arm, Place, Reader

COLUMNS = [
    *("arm", "ens", "ssl", "cohort", "modality", "metric", "size", "mean", "std", "ci_low", "ci_high"),
    *("n_folds", "n_volumes", "n_healthy", "n_lesions", "n_undefined", "missing_folds", "status"),
]
ALL_SIZES = "all"
_OF_SCANS: dict[str, tuple[str, Callable[..., np.ndarray]]] = {
    "auroc_top1": ("score_top1", auroc),
    "ap_top1": ("score_top1", average_precision),
    "auroc_top01": ("score_top01", auroc),
    "ap_top01": ("score_top01", average_precision),
}
_NEEDED = ("score_top1", "score_top01", "false_positives", "lesion_ml")
_SUBJECT = ["cohort", "subject"]


def table5(
    metrics: pd.DataFrame,
    lesions: pd.DataFrame,
    arms: Sequence[Arm],
    healthy: Sequence[Place],
    pathological: Sequence[Place],
    reader: Reader,
    overlap: float,
) -> pd.DataFrame:
    """Detection per scan and per lesion on the test split of the pathological cohorts, as a long table with `COLUMNS`.

    Args:
        metrics: rows of metrics files.
        lesions: rows of lesions files (`uad.reporting.scores.read_lesions`).
        arms: in display order.
        healthy, pathological: (cohort, modality) in display order; a pathological cohort is told from the test scans
            of all healthy ones of its modality.
        reader: folds, noise level, resamples and seed.
        overlap: share of a lesion's voxels that have to be predicted for `found_share`; `found_any` asks for one voxel.

    Raises:
        InputError: metric rows without the scores of scans, and as `select_rows`.
    """
    absent = [column for column in _NEEDED if column not in metrics]
    if absent:
        raise InputError(f"metrics: columns {', '.join(absent)} are missing; score the arms again")
    rows = select_rows(metrics, reader.folds)
    check_t_test(rows, reader.single)
    table = []
    for arm in arms:
        for ens in sorted(readings_of(rows, arm["arm"])) or [0]:
            of = partial(cell_rows, arm=arm["arm"], ens=ens, single=reader.single)
            for cohort, modality in pathological:
                ill = of(rows, cohort=cohort, modality=modality)
                well = pd.concat([of(rows, cohort=c, modality=m) for c, m in healthy if m == modality] or [rows[:0]])
                there = lesions[(lesions["cohort"] == cohort) & (lesions["modality"] == modality)]
                keys = {"arm": arm["arm"], "ens": ens, "ssl": int(arm["ssl"])}
                keys |= {"cohort": cohort, "modality": modality}
                found = [*_scan_rows(ill, well, reader), _false_positives(ill, reader)]
                found += _lesion_rows(of(there, cohort=cohort, modality=modality), there, ill, reader, overlap)
                table += [{**keys, **row} for row in found]
    return pd.DataFrame(table, columns=COLUMNS)


def _row(metric: str, size: str, cell: Cell, interval: tuple[float, float], reader: Reader, **counts: int) -> dict:
    return {
        **{"metric": metric, "size": size, "mean": cell.mean, "std": cell.std},
        **dict(zip(("ci_low", "ci_high"), interval, strict=True)),
        **{"n_folds": len(cell.fold_means), "n_volumes": len(cell.scores), "n_healthy": 0, "n_lesions": 0, **counts},
        **{"n_undefined": cell.n_undefined, "missing_folds": ";".join(map(str, cell.missing_folds))},
        "status": cell.status(reader.folds),
    }


# --- scans ----------------------------------------------------------------------------------------


def _scan_rows(ill: pd.DataFrame, well: pd.DataFrame, reader: Reader) -> Iterator[dict[str, Any]]:
    """A row per score and metric; a scan without a lesion voxel is neither ill nor healthy and left out."""
    without = ill.loc[~(ill["lesion_ml"] > 0), "subject"].nunique()
    for metric, (score, measure) in _OF_SCANS.items():
        with_lesion, controls = _by_fold(ill[ill["lesion_ml"] > 0], score), _by_fold(well, score)
        folds = sorted(set(with_lesion.index) & set(controls.index))
        pairs = [(with_lesion.loc[fold].to_numpy(), controls.loc[fold].to_numpy()) for fold in folds]
        sizes = with_lesion.shape[1], controls.shape[1]
        scale = METRICS[metric].scale
        means, interval = {}, (np.nan, np.nan)
        if pairs and min(sizes):
            once = [np.ones((1, size), int) for size in sizes]
            means = {fold: float(measure(*pair, *once)[0]) * scale for fold, pair in zip(folds, pairs, strict=True)}
            over_folds = partial(_over_folds, measure, pairs)
            low, high = group_interval(over_folds, sizes, reader.seed, rounds=reader.rounds)
            interval = low * scale, high * scale
        missing = tuple(fold for fold in reader.folds if fold not in set(ill["fold"]))
        cell = Cell(means, with_lesion.mean(), missing, without, len(ill))
        yield _row(metric, "", cell, interval, reader, n_healthy=sizes[1])


def _by_fold(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """Scores [folds, subjects] of the scans that every fold has."""
    return rows.pivot(index="fold", columns=_SUBJECT, values=score).sort_index(axis=1).dropna(axis=1)


def _over_folds(
    measure: Callable[..., np.ndarray], pairs: Sequence[tuple[np.ndarray, np.ndarray]], *drawn: np.ndarray
) -> np.ndarray:
    """The mean over folds in which the same scans were drawn: [resamples]."""
    return np.mean([measure(*pair, *drawn) for pair in pairs], axis=0)


def _false_positives(ill: pd.DataFrame, reader: Reader) -> dict[str, Any]:
    cell = build_cell(ill, "false_positives", reader.folds)
    interval = bootstrap_interval(cell.scores.sort_index().to_numpy(), reader.seed, rounds=reader.rounds)
    return _row("false_positives", "", cell, interval, reader)


# --- lesions --------------------------------------------------------------------------------------


def _lesion_rows(
    found: pd.DataFrame, there: pd.DataFrame, ill: pd.DataFrame, reader: Reader, overlap: float
) -> Iterator[dict[str, Any]]:
    """A row per key and size of which the cohort has a lesion.

    Args:
        found: lesions of one arm and reading in every fold.
        there: lesions of every arm, for the sizes.
        ill: metric rows of the same arm, reading and cohort.
    """
    classes = set(lesion_class(there["lesion_ml"]))
    sizes = [ALL_SIZES, *(name for name in LESION_CLASSES if name in classes)] if classes else [ALL_SIZES]
    of_lesion = lesion_class(found["lesion_ml"])
    missing = tuple(fold for fold in reader.folds if fold not in set(ill["fold"]))
    for metric, least in (("found_any", 0.0), ("found_share", overlap)):
        hits = (found["overlap"] > 0) & (found["overlap"] >= least)
        hit = hits.astype(float).where(found["overlap"].notna()) * METRICS[metric].scale
        for size in sizes:
            chosen = found.assign(hit=hit)[(of_lesion == size) | (size == ALL_SIZES)]
            means = {int(fold): float(part.mean()) for fold, part in chosen.dropna(subset="hit").groupby("fold")["hit"]}
            each = chosen.groupby([*_SUBJECT, "number"])["hit"].mean()  # over folds
            by_subject = each.groupby(level=_SUBJECT)
            undefined = chosen.loc[chosen["hit"].isna(), "subject"].nunique()
            cell = Cell(means, by_subject.mean(), missing, undefined, len(ill))
            interval = (np.nan, np.nan)
            if means:
                totals, counts = by_subject.sum().to_numpy(), by_subject.size().to_numpy()
                ratio = partial(_ratio, totals, counts)
                interval = group_interval(ratio, [len(totals)], reader.seed, rounds=reader.rounds)
            yield _row(metric, size, cell, interval, reader, n_lesions=len(each))


def _ratio(totals: np.ndarray, counts: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Sum of the drawn subjects' `totals` over that of their `counts`: [resamples]."""
    return (drawn @ totals) / (drawn @ counts)

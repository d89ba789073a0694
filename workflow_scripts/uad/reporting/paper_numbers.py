"""The paper's printed numbers (Tables 1 to 4), the bands around them, and the units in which every table of ours is
written.

Source: docs/paper.md#splits and docs/paper.md#numbers (version 1 of the paper), docs/statistics.md#bands.
`paper_tables.csv` beside this file is long: table, model, ens, ssl, removed (CC, MF or BE in Table 4: connected
components, median filter, brain erosion), cohort, metric, mean, std, star, delta (Table 4: difference to Table 3). Its
values are in the units of `METRICS`; the paper's Table 2 says nothing about pre-training, so its `ssl` is empty.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from uad.common.tabular import read_table


@dataclass(frozen=True)
class Metric:
    """How a metric is printed: `scale` turns the raw value into the printed unit, `better` is +1 (high), -1
    (low) or 0 (no order).
    """

    title: str
    unit: str
    scale: float
    better: int
    decimals: int = 2

    @property
    def heading(self) -> str:
        """Title with its unit, e.g. "Dice (%)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS = {
    "dice": Metric("Dice", "%", 100.0, +1),
    "auprc": Metric("AUPRC", "%", 100.0, +1),
    "ssim": Metric("SSIM", "%", 100.0, +1),
    "psnr": Metric("PSNR", "dB", 1.0, +1),
    "lpips": Metric("LPIPS", "10⁻³", 1000.0, -1),
    "l1": Metric("l1 error", "10⁻³", 1000.0, -1),
    "l1_ratio": Metric("l1 ratio", "", 1.0, +1),
    "kld": Metric("KLD", "nats", 1.0, -1, decimals=3),
    # As printed in the paper it is a difference of two entropies, which has no best value (docs/paper.md#metrics).
    "kld_entropy": Metric("entropy difference", "nats", 1.0, 0, decimals=3),
    # Table 5, which the paper does not have
    "auroc_top1": Metric("AUROC, top 1 %", "%", 100.0, +1),
    "ap_top1": Metric("AP, top 1 %", "%", 100.0, +1),
    "auroc_top01": Metric("AUROC, top 0.1 %", "%", 100.0, +1),
    "ap_top01": Metric("AP, top 0.1 %", "%", 100.0, +1),
    "found_any": Metric("lesions found", "%", 100.0, +1),
    "found_share": Metric("lesions found", "%", 100.0, +1),
    # no order: an arm that predicts nothing has none
    "false_positives": Metric("false positives per scan", "", 1.0, 0),
}


@dataclass(frozen=True)
class PaperCell:
    """One printed number: mean, standard deviation over folds, and in Table 4 the difference to Table 3."""

    mean: float = math.nan
    std: float = math.nan
    delta: float = math.nan


COHORT_TITLES = {"ixi": "IXI", "brats21": "BraTS21", "mslub": "MSLUB", "atlas": "ATLAS", "wmh": "WMH"}
# Table 1: scans per split; a fold of IXI has as many as any other.
PAPER_SPLITS = {
    "ixi": {"train": 358, "val": 44, "test": 158},
    "brats21": {"val": 100, "test": 1151},
    "mslub": {"val": 10, "test": 20},
    "atlas": {"val": 175, "test": 480},
    "wmh": {"val": 15, "test": 45},
}
# Table 4: what is left out -> the variant of the metrics rows and its name in words.
REMOVED = {
    "CC": ("no_cc", "component filter"),
    "MF": ("no_median", "median filter"),
    "BE": ("no_erosion", "brain erosion"),
}
# Table 1 has no modality: IXI gives both, the other cohorts one each. Tables 2 to 4 show IXI in T2.
PAPER_MODALITIES = {"ixi": ("t1", "t2"), "brats21": ("t2",), "mslub": ("t2",), "atlas": ("t1",), "wmh": ("t1",)}
PAPER_MODALITY = {"ixi": "t2", "brats21": "t2", "mslub": "t2", "atlas": "t1", "wmh": "t1"}

_KEYS = ["table", "model", "ens", "ssl", "removed", "cohort", "metric"]


@functools.cache
def paper_tables() -> pd.DataFrame:
    """All 208 printed cells; mean, std, delta are floats (NaN where the paper prints none), star is 0 or 1,
    other columns are text.
    """
    path = Path(__file__).with_name("paper_tables.csv")
    return read_table(path, numbers=("mean", "std", "delta"), integers=("star",))


@functools.cache
def _cells() -> dict[tuple[str, ...], PaperCell]:
    table = paper_tables()
    keys = table[_KEYS].itertuples(index=False, name=None)
    values = table[["mean", "std", "delta"]].itertuples(index=False, name=None)
    return {key: PaperCell(*cell) for key, cell in zip(keys, values, strict=True)}


def paper_cell(
    table: int, model: str, ens: int, ssl: int, cohort: str, modality: str, metric: str, removed: str = ""
) -> PaperCell:
    """What the paper prints for one cell of Tables 2 to 4, in the units of `METRICS`; NaN where it prints nothing.

    `removed` is a key of `REMOVED` for Table 4. A Table 2 number answers for `ssl` 0 and 1 alike, because the paper
    does not say which of them it shows.
    """
    if PAPER_MODALITY.get(cohort) != modality:
        return PaperCell()
    key_ssl = "" if table == 2 else str(ssl)
    return _cells().get((str(table), model, str(ens), key_ssl, removed, cohort, metric), PaperCell())


def half_band(cohort: str, metric: str, paper_mean: float, paper_std: float) -> float:
    """How far a value may lie from the paper's and still count as reproduced (docs/statistics.md#bands).

    Two of the paper's standard deviations. Dice and AUPRC, which are both in points, may always be off by 2 points
    on BraTS21 and by 1.5 elsewhere; the source gives no such floor for the metrics of Table 2.

    Returns:
        Half the width of the band in the units of `METRICS`; NaN where the paper prints no value, or no deviation
        and the metric has no floor.
    """
    if math.isnan(paper_mean):
        return math.nan
    if metric not in ("dice", "auprc"):
        return 2 * paper_std
    floor = 2.0 if cohort == "brats21" else 1.5
    return floor if math.isnan(paper_std) else max(2 * paper_std, floor)


def band_of(difference: float, half_width: float) -> str:
    """Whether a difference is "within" or "outside" the band (rim included); "" if there is none, or no band."""
    if math.isnan(difference) or math.isnan(half_width):
        return ""
    return "within" if abs(difference) <= half_width + 1e-9 else "outside"


def paper_readings(table: int, model: str, ssl: int) -> set[int]:
    """The `ens` values (0, 1) for which the paper's table has a row of this model."""
    cells = paper_tables()
    rows = cells[(cells["table"] == str(table)) & (cells["model"] == model)]
    if table != 2:
        rows = rows[rows["ssl"] == str(ssl)]
    return {int(value) for value in rows["ens"]}


def cohort_title(cohort: str, modality: str) -> str:
    """Printed name of a cohort in one modality, e.g. "BraTS21 (T2)"; a user's own cohort keeps its name."""
    return f"{COHORT_TITLES.get(cohort, cohort)} ({modality.upper()})"

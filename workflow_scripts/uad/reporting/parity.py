"""The parity door: the row Thresh against the paper's, and where to look when it is off.  docs/paper.md#thresh

Thresh has no training and no randomness, so its numbers test the data alone: stores, labels, splits and
post-processing. The paper's BraTS21 and MSLUB numbers are the same in two papers of its authors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from uad.reporting.cells import select_rows
from uad.reporting.paper_numbers import METRICS, PAPER_MODALITY, cohort_title, half_band
from uad.reporting.tables import Place, Reader, table3

_MODEL = "Thresh"
_RELATIVE = 0.25  # the band's floor of 1.5 points is as wide as the smallest of these numbers
_HEADS = ("cohort", "metric", "ours", "paper", "difference", "allowed", "verdict")

# Where to look, in this order.  docs/paper.md#preprocessing, docs/paper.md#packing, docs/paper.md#post-processing
_SHARED = (
    "pack: percentiles inside the brain and after the crop (D13 pack.percentiles, D9 pack.order), smoothing at loading"
    " (D10 pack.curvature_flow); then post-processing (D7 postprocess.order, postprocess.median_size)",
)
_LABELS = (
    "labels: D11 preprocess.registration.label_interpolation; `linear` with `> 0` dilates small lesions up to three"
    " times, which raises the prevalence and both scores",
)
_STRIPPING = (
    "brain masks: look at skull_stripped/ and the column brain_ml; bright scalp left in the mask lowers both scores",
)
_NOT_INVERTED = (
    "the sign: in T1 lesions are dark, but the paper's numbers are those of the T1 image as it is (invert: false)"
)
HINTS = {
    "brats21": (
        "the image: T2, not FLAIR, from volumes in SRI24 space that are not registered again"
        " (D11 preprocess.register_stripped_registered)",
        "brain mask and N4: D12 preprocess.stripped_mask and preprocess.n4.mask_stripped"
        " (the authors: get_mask, no weights)",
        "labels: any value above 0 is lesion (whole tumour)",
        *_SHARED,
    ),
    "mslub": (*_LABELS, *_STRIPPING, "registration: the column atlas_dice of preprocessed/mslub/", *_SHARED),
    "atlas": (
        _NOT_INVERTED,
        *_LABELS,
        "the split: 175 / 480 cases are the paper's sizes, which cases is unknown (D20)",
        *_STRIPPING,
        *_SHARED,
    ),
    "wmh": (
        _NOT_INVERTED,
        "labels: value 2 is other pathology (cohorts.wmh.exclude_label); the paper does not say what it did with it",
        *_LABELS,
        *_STRIPPING,
        *_SHARED,
    ),
}


def parity_report(
    metrics: pd.DataFrame, arms: Sequence[Mapping[str, Any]], places: Sequence[Place], reader: Reader, phantom: bool
) -> str:
    """The door as plain text: a table, then what to look at per cohort that is off.

    Args:
        metrics: metrics rows of at least the arm that stands for the paper's Thresh.
        arms: the run's arms; only that one is read.
        places: (cohort, modality) of the pathological cohorts.
        reader: as for the tables.
        phantom: whether the data are phantoms.
    """
    row = [arm for arm in arms if arm["paper_model"] == _MODEL]
    if not row:
        return f"No arm of the run stands for the paper's row {_MODEL}: give one `paper: {{model: {_MODEL}}}`."
    known = [place for place in places if PAPER_MODALITY.get(place[0]) == place[1]]
    unknown = [cohort_title(*place) for place in places if place not in known]
    table = table3(metrics, row[:1], known, reader).assign(verdict="")
    table["verdict"] = [_verdict(cell) for cell in table.itertuples()]
    parts = [f"Parity of {_MODEL}, which trains nothing, with the paper: do the data agree?", _table_text(table)]
    if unknown:
        parts.append(f"Not in the paper: {', '.join(unknown)}.")
    if phantom:
        parts.append("These are phantoms: their numbers cannot agree with the paper's, and nothing follows from them.")
    else:
        parts += _advice(table, _prevalence(metrics, known, reader))
    return "\n\n".join(parts)


def _allowed(cell: Any) -> float:
    """Half the acceptance band, and no more than a quarter of the paper's value."""
    return min(half_band(cell.cohort, cell.metric, cell.paper_mean, cell.paper_std), _RELATIVE * cell.paper_mean)


def _verdict(cell: Any) -> str:
    if math.isnan(cell.mean):
        return "no score"
    if abs(cell.difference) <= _allowed(cell):
        return "agrees"
    return "too low" if cell.difference < 0 else "too high"


def _table_text(table: pd.DataFrame) -> str:
    lines = [_HEADS]
    for cell in table.itertuples():
        ours, difference = ("–", "–") if math.isnan(cell.mean) else (f"{cell.mean:.2f}", f"{cell.difference:+.2f}")
        lines.append((
            cohort_title(cell.cohort, cell.modality), METRICS[cell.metric].heading, ours, f"{cell.paper_mean:.2f}",
            difference, f"{_allowed(cell):.2f}", cell.verdict,
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    left = (0, 1, len(_HEADS) - 1)
    return "\n".join(
        "  ".join(text.ljust(width) if column in left else text.rjust(width)
                  for column, (text, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    )  # fmt: skip


def _prevalence(metrics: pd.DataFrame, places: Sequence[Place], reader: Reader) -> dict[Place, float]:
    """Mean share of lesion voxels over the test volumes in %: the AUPRC of chance."""
    rows = select_rows(metrics, reader.folds)
    return {
        place: 100 * rows.loc[(rows["cohort"] == place[0]) & (rows["modality"] == place[1]), "prevalence"].mean()
        for place in places
    }


def _advice(table: pd.DataFrame, prevalence: Mapping[Place, float]) -> list[str]:
    off = table[table["verdict"].isin(["too low", "too high"])]
    scored = table[table["verdict"] != "no score"]
    if scored.empty:
        return ["Nothing to compare: no cohort of the paper has a score."]
    if off.empty:
        return ["The data agree on every cohort present."]
    parts = []
    cohorts = list(dict.fromkeys(zip(off["cohort"], off["modality"], strict=True)))
    present = set(zip(scored["cohort"], scored["modality"], strict=True))
    auprc = off[off["metric"] == "auprc"]
    if len(present) > 1 and len(auprc) == len(present) and auprc["verdict"].nunique() == 1:
        parts.append(
            f"Every cohort's AUPRC is {auprc['verdict'].iloc[0]}: look first at what they share.\n  1. {_SHARED[0]}"
        )
    return [*parts, *(_cohort_advice(place, off, prevalence[place]) for place in cohorts)]


def _cohort_advice(place: Place, off: pd.DataFrame, prevalence: float) -> str:
    """Hints for one cohort. AUPRC does not see the threshold, so a Dice that is off alone points there."""
    metrics = set(off.loc[(off["cohort"] == place[0]) & (off["modality"] == place[1]), "metric"])
    title = f"{cohort_title(*place)} is off (mean prevalence of lesions {prevalence:.2f} %, the AUPRC of chance)."
    if metrics == {"dice"}:
        hints: Sequence[str] = (
            "AUPRC agrees, so maps and labels are right: the threshold (D26 threshold.search) or the validation"
            " volumes it comes from (splits, D20)",
            "the component filter (D8 postprocess.component_max_size) and the grid: it counts voxels of 2 mm",
        )
    else:
        hints = HINTS[place[0]]
    return "\n".join([f"{title} Look, in this order, at", *(f"  {n}. {hint}" for n, hint in enumerate(hints, 1))])

"""Checks of a cohort's files at ingest: every header, and the values of the lesion labels.

Image voxels are read later, by preprocessing; 1,251 headers take seconds.  docs/bad-input.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from uad.cohorts.promise import Promise
from uad.cohorts.report import EMPTY_LABEL
from uad.common.errors import InputError
from uad.common.nifti import Header, grid_distance, read_header
from uad.common.volumes import GRID_TOLERANCE_VOXELS, label_values

if TYPE_CHECKING:
    import pandas as pd

    from uad.cohorts.base import Adapter

_SAME_VOXELS = 1e-2  # headers store float32, so equal grids differ by thousandths of a voxel
_SAME_MM = 1e-2
_MANY_VALUES = 10  # more than any lesion protocol has tissue classes

Grid = tuple[tuple[int, ...], tuple[float, ...], str, str]  # shape, mm, orientation, type


@dataclass
class Findings:
    """What the checks of a cohort found.

    Attributes:
        refused: one message per file that cannot be used.
        grids: by modality, how many images have which grid.
        label_values: by value above 0, how many labels hold it.
        quirks: by description, the subjects that have it.
    """

    refused: list[str] = field(default_factory=list)
    grids: dict[str, Counter[Grid]] = field(default_factory=dict)
    label_values: Counter[int] = field(default_factory=Counter)
    quirks: dict[str, list[str]] = field(default_factory=dict)

    def quirk(self, description: str, subject: str) -> None:
        self.quirks.setdefault(description, []).append(subject)


def check_scans(table: pd.DataFrame, adapter: Adapter, modalities: Sequence[str], published: bool) -> Findings:
    """Check the files of every subject of a cohort table.

    Args:
        published: compare images with the grids that the publisher states (phantoms have others).
    """
    findings = Findings(grids={modality: Counter() for modality in modalities})
    promise = adapter.promise
    for row in table.to_dict("records"):
        headers = {}
        for modality in modalities:
            try:
                header = read_header(row[modality])
                if published:
                    _check_promise(header, promise, row, modality, findings)
            except InputError as error:
                findings.refused.append(str(error))
                continue
            headers[modality] = header
            spacing = tuple(round(float(edge), 2) for edge in header.spacing)
            findings.grids[modality][(header.shape, spacing, header.orientation, header.dtype)] += 1
            if header.forms_apart > GRID_TOLERANCE_VOXELS:
                findings.quirk(
                    f"{modality}: qform and sform place the scan differently; the sform counts", row["subject"]
                )
        if len(headers) == 2 and not _one_grid(*headers.values()):
            findings.quirk("T1 and T2 lie on different grids; each is registered on its own", row["subject"])
        for kind in ("mask", "label"):
            if row[kind]:
                _check_label(row, kind, headers, adapter, findings)
    return findings


def _check_promise(header: Header, promise: Promise, row: dict, modality: str, findings: Findings) -> None:
    wrong = []
    if promise.shapes and header.shape not in promise.shapes:
        wrong.append(f"has shape {header.shape}, the data set {' or '.join(map(str, promise.shapes))}")
    if promise.affine:
        apart = np.abs(header.affine[:3] - np.array(promise.affine)).max()
        if apart > _SAME_MM:
            wrong.append(f"has an affine that differs by {apart:.3g} from the data set's")
    low, high = promise.voxel_mm
    if header.spacing.min() < low - _SAME_MM or header.spacing.max() > high + _SAME_MM:
        wrong.append(f"has voxels of {header.spacing.round(2).tolist()} mm, outside {low:g} to {high:g}")
    if wrong and promise.firm:
        raise InputError(f"{row[modality]}: {' and '.join(wrong)}; fetch the original file again")
    for departure in wrong:
        findings.quirk(f"{modality}: {departure}", row["subject"])


def _check_label(row: dict, kind: str, headers: dict[str, Header], adapter: Adapter, findings: Findings) -> None:
    """Grid of a lesion label or brain mask against its scans, and the label's values."""
    path = row[kind]
    cure = "resample it to the scan's grid"
    if len(headers) == 2 and not _one_grid(*headers.values()):
        cure = (
            "T1 and T2 have different grids and one file cannot fit both: make one cohort per modality, or resample "
            "all to one common grid"
        )
    try:
        header = read_header(path)
        for image in headers.values():
            if kind == "label" and adapter.label_on_own_grid:
                _check_overlap(header, image, path)
            else:
                _check_grid(header, image, kind, row, findings, cure)
        if kind == "label":
            _check_values(row, adapter.promise, findings)
    except InputError as error:
        findings.refused.append(str(error))


def _check_grid(header: Header, image: Header, kind: str, row: dict, findings: Findings, cure: str) -> None:
    if header.shape != image.shape:
        raise InputError(f"{row[kind]}: has shape {header.shape}, its scan {image.shape}; {cure}")
    distance = grid_distance(header.shape, header.affine, image.affine)
    if distance > GRID_TOLERANCE_VOXELS:
        raise InputError(
            f"{row[kind]}: lies {distance:.2f} voxels away from its scan (allowed {GRID_TOLERANCE_VOXELS}); {cure}"
        )
    if distance > _SAME_VOXELS:
        text = f"{kind}: header up to {GRID_TOLERANCE_VOXELS} voxels away from its scan's; it takes the scan's header"
        findings.quirk(text, row["subject"])


def _check_overlap(header: Header, image: Header, path: str) -> None:
    """Refuse a label on its own grid that does not overlap the scan in space."""
    lows, highs = zip(*(_extent(one) for one in (header, image)), strict=True)
    if (np.minimum(*highs) <= np.maximum(*lows)).any():
        raise InputError(f"{path}: does not overlap its scan in scanner space; check both headers")


def _extent(header: Header) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest world coordinates of the voxels' corners in mm."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in header.shape], indexing="ij")).reshape(3, -1)
    world = header.affine[:3, :3] @ corners + header.affine[:3, 3:]
    return world.min(axis=1), world.max(axis=1)


def _check_values(row: dict, promise: Promise, findings: Findings) -> None:
    values = label_values(row["label"])
    strange = sorted(set(values) - {0, *promise.label_values})
    if promise.label_values and strange:
        allowed = ", ".join(map(str, promise.label_values))
        raise InputError(
            f"{row['label']}: holds the label values {strange}, the data set has 0 and {allowed}; "
            "is it another release? fetch the original file"
        )
    findings.label_values.update(value for value in values if value)
    if len(values) > _MANY_VALUES:
        findings.quirk(
            f"the lesion label holds more than {_MANY_VALUES} values, as a parcellation does; each counts as lesion",
            row["subject"],
        )
    if not any(values):
        findings.quirk(EMPTY_LABEL, row["subject"])


def _one_grid(first: Header, second: Header) -> bool:
    same = first.shape == second.shape
    return same and grid_distance(first.shape, first.affine, second.affine) <= _SAME_VOXELS

"""Volumes for the viewer: a bounded number of test scans, as every arm sees them.

Scoring has kept what is shown (`uad.scoring.kept_scans`), so that a report needs no reconstructions.

A page opened from disk may not fetch files.  The volumes are therefore scripts with NIfTI files in base64, one per
scan (input, truth) and one per scan and reading (reconstruction, residual, prediction), loaded when they are chosen.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from uad.common.pictures import lesion_slice
from uad.common.store import Store
from uad.reporting.cells import cell_rows, readings_of, select_rows
from uad.reporting.paper_numbers import cohort_title
from uad.scoring.kept_scans import VIEWER_FOLD, of_viewer, spread_over
from uad.scoring.predict import anomaly_map

Arm = Mapping[str, Any]
Place = tuple[str, str]  # cohort, modality


class ScanExporter:
    """Writes the viewer's volumes of one run.

    Args:
        settings: content of the report's settings file.
        scores: rows of all metrics files.
        kept: (arm, modality) -> the file of the scans that scoring kept, fold 0.
        stores: (cohort, modality) -> opened store.
        folder: where the scripts go.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        scores: pd.DataFrame,
        kept: Mapping[tuple[str, str], Path],
        stores: Mapping[Place, Store],
        folder: Path,
    ) -> None:
        self.settings, self.stores, self.folder = settings, stores, folder
        rows = select_rows(scores, range(settings["folds"]))
        self.rows = rows[rows["fold"] == VIEWER_FOLD]
        methods = [arm for arm in settings["arms"] if not arm["control"]]
        self.arms = methods or settings["arms"]
        self.kept = {key: np.load(path) for key, path in kept.items()}

    def export(self, place: Place, count: int) -> list[dict[str, Any]]:
        """Write the scans of a place; returns their entries of the viewer's catalogue."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = self.rows[(self.rows["cohort"] == place[0]) & (self.rows["modality"] == place[1])]
        names = [name.split("/") for name in self.kept[self.arms[0]["arm"], place[1]]]
        held = {subject for cohort, subject, *_ in names if cohort == place[0]}
        volumes = rows[rows["subject"].isin(held)].groupby("subject")["lesion_ml"].first()
        return [self._export_scan(place, subject) for subject in spread_over(volumes, count)]

    def _export_scan(self, place: Place, subject: str) -> dict[str, Any]:
        cohort, modality = place
        store = self.stores[place]
        scan = store.scan(subject)
        name = f"{cohort}_{modality}_{store.row(subject)}"
        self._write(name, {"image": scan.image, "label": scan.label})
        site = store.index.set_index("subject").loc[subject, "site"]
        return {
            "title": cohort_title(cohort, modality),
            "label": subject + (f", {site}" if site else ""),
            "file": name,
            "shape": list(scan.image.shape[::-1]),
            "start": _start(scan.label, scan.image, scan.mask),
            "lesion_ml": float(store.index["lesion_ml"][store.row(subject)]),
            "readings": [
                entry
                for arm in self.arms
                for ens in sorted(readings_of(self.rows, arm["arm"]))
                if (entry := self._export_reading(place, scan, name, arm, ens)) is not None
            ],
        }

    def _export_reading(self, place: Place, scan: Any, name: str, arm: Arm, ens: int) -> dict[str, Any] | None:
        found = cell_rows(self.rows, arm["arm"], ens, *place, str(self.settings["single"]))
        found = found[found["subject"] == scan.subject]
        if found.empty:
            return None
        row = found.iloc[0]
        kept = self.kept[arm["arm"], place[1]]
        output, prediction = of_viewer(kept, f"{place[0]}/{scan.subject}/{row['t_test']}")
        reconstructs = output.kind == "reconstruction"
        residual = anomaly_map(output, scan.image, scan.mask)
        volumes = {"residual": residual * scan.mask if arm["postprocess"] else residual}
        if reconstructs:
            volumes["reconstruction"] = output.values.clip(0, 1)
        if prediction is not None:
            volumes["prediction"] = prediction
        file = f"{name}_{arm['arm']}{'_ens' if ens else ''}"
        self._write(file, volumes)
        notes = ["" if reconstructs else "this arm draws a map, no reconstruction"]
        notes += [] if prediction is not None else ["no threshold, hence no prediction: the cohort has no lesions"]
        return {
            "label": arm["label"] + (" (ENS)" if ens else ""),
            "file": file,
            "reconstructs": reconstructs,
            "dice": _plain(row["dice"]),
            "auprc": _plain(row["auprc"]),
            "threshold": _plain(row["threshold"]),
            "residual_max": float(volumes["residual"].max()),
            "note": " · ".join(filter(None, notes)),
        }

    def _write(self, name: str, volumes: Mapping[str, np.ndarray]) -> None:
        encoded = {key: nifti_base64(values, self.settings["spacing_mm"]) for key, values in volumes.items()}
        (self.folder / f"{name}.js").write_text(f"uadbench.put({json.dumps(name)},{json.dumps(encoded)});\n")


def nifti_base64(values: np.ndarray, spacing_mm: float) -> str:
    """A packed array [Z, Y, X] as a gzipped 8-bit NIfTI file in base64; equal arrays give equal text.

    Whole numbers are kept, others are scaled to 256 steps from their minimum to their maximum.
    """
    data = values.transpose(2, 1, 0)  # x grows to patient left, y to posterior: both axes run against RAS
    steps = np.array([-spacing_mm, -spacing_mm, spacing_mm])
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.array(data.shape) - 1) / 2  # the middle of the volume is the origin
    whole = np.issubdtype(data.dtype, np.integer)
    image = nib.Nifti1Image(np.ascontiguousarray(data, np.uint8 if whole else np.float32), affine)
    image.set_data_dtype(np.uint8)
    image.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)).decode("ascii")


def _start(label: np.ndarray, image: np.ndarray, mask: np.ndarray) -> list[int]:
    """Voxel (x, y, z) counted along right, anterior, superior where the viewer starts: the largest lesion slice."""
    z = lesion_slice(label, image)
    region = label[z] == 1 if (label[z] == 1).any() else mask[z]
    y, x = np.argwhere(region).mean(axis=0).round().astype(int) if region.any() else np.array(image.shape[1:]) // 2
    return [int(image.shape[2] - 1 - x), int(image.shape[1] - 1 - y), z]


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)

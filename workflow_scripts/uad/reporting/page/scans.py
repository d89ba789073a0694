"""Volumes for the viewer: some test scans as every arm sees them, and the extremes of each arm.

Scoring has kept what is shown (`uad.scoring.kept_scans`), so that a report needs no reconstructions.

A page opened from disk may not fetch files.  The volumes are therefore scripts with NIfTI files in base64, one per
scan (input, truth, brain) and one per scan and reading (reconstruction or map, prediction), loaded when chosen.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pandas as pd

from uad.common.pictures import lesion_slice
from uad.common.store import Store
from uad.reporting.cells import cell_rows, readings_of, select_rows
from uad.reporting.paper_numbers import cohort_title
from uad.scoring.kept_scans import VIEWER_FOLD, extremes, of_viewer, spread_over
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

    def export(self, place: Place) -> list[dict[str, Any]]:
        """Write the scans of a place; returns their entries of the viewer's catalogue.

        First the scans that every arm shows, as many as the settings ask for; then those that only some arms show:
        their extremes, or with "all" whatever they kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        count = self.settings["viewer_scans"]
        held = {arm["arm"]: self._held(arm, place) for arm in self.arms}
        shared = set.intersection(*held.values())
        volumes = self._rows_of(place).groupby("subject")["lesion_ml"].first()
        common = spread_over(volumes[volumes.index.isin(shared)], len(shared) if count == "all" else count)
        single: dict[str, list[Arm]] = {}
        for arm in self.arms:
            wanted = held[arm["arm"]] if count == "all" else set(self.extremes(place, arm).values())
            for subject in sorted(wanted & held[arm["arm"]] - set(common)) if count else []:
                single.setdefault(subject, []).append(arm)
        return [
            *(self._export_scan(place, subject, self.arms, "every") for subject in common),
            *(self._export_scan(place, subject, arms, "main") for subject, arms in sorted(single.items())),
        ]

    def extremes(self, place: Place, arm: Arm) -> dict[str, str]:
        """The arm's "worst", "median" and "best" subject by the Dice of its main reading, in fold 0."""
        found = self._reading(place, arm, self._main(arm))
        return extremes(found.set_index("subject")["dice"])

    def _rows_of(self, place: Place) -> pd.DataFrame:
        return self.rows[(self.rows["cohort"] == place[0]) & (self.rows["modality"] == place[1])]

    def _reading(self, place: Place, arm: Arm, ens: int) -> pd.DataFrame:
        return cell_rows(self.rows, arm["arm"], ens, *place, str(self.settings["single"]))

    def _main(self, arm: Arm) -> int:
        return max(readings_of(self.rows, arm["arm"]), default=0)

    def _held(self, arm: Arm, place: Place) -> set[str]:
        """The subjects of a place that scoring kept of an arm."""
        names = (name.split("/") for name in self.kept[arm["arm"], place[1]])
        return {subject for cohort, subject, *_ in names if cohort == place[0]}

    def _export_scan(
        self, place: Place, subject: str, arms: Sequence[Arm], readings: Literal["every", "main"]
    ) -> dict[str, Any]:
        cohort, modality = place
        store = self.stores[place]
        scan = store.scan(subject)
        name = f"{cohort}_{modality}_{store.row(subject)}"
        self._write(name, {"image": scan.image, "label": scan.label, "mask": scan.mask.astype(np.uint8)})
        site = store.index.set_index("subject").loc[subject, "site"]
        title = cohort_title(cohort, modality)
        return {
            "title": title if readings == "every" else f"{title}: scans of single arms",
            "place": f"{cohort}_{modality}",
            "subject": subject,
            "label": subject + (f", {site}" if site else ""),
            "file": name,
            "shape": list(scan.image.shape[::-1]),
            "start": _start(scan.label, scan.image, scan.mask),
            "lesion_ml": float(store.index["lesion_ml"][store.row(subject)]),
            "readings": [
                entry
                for arm in arms
                for ens in (sorted(readings_of(self.rows, arm["arm"])) if readings == "every" else [self._main(arm)])
                if (entry := self._export_reading(place, scan, name, arm, ens)) is not None
            ],
        }

    def _export_reading(self, place: Place, scan: Any, name: str, arm: Arm, ens: int) -> dict[str, Any] | None:
        found = self._reading(place, arm, ens)
        found = found[found["subject"] == scan.subject]
        if found.empty:
            return None
        row = found.iloc[0]
        kept = self.kept[arm["arm"], place[1]]
        output, prediction = of_viewer(kept, f"{place[0]}/{scan.subject}/{row['t_test']}")
        reconstructs = output.kind == "reconstruction"
        drawn = anomaly_map(output, scan.image, scan.mask)
        drawn = drawn * scan.mask if arm["postprocess"] else drawn
        # the page computes a residual from input and reconstruction: half the size of the folder
        volumes = {"reconstruction": output.values.clip(0, 1)} if reconstructs else {"map": drawn}
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
            "map_max": float(drawn.max()),
            "note": " · ".join(filter(None, notes)),
        }

    def _write(self, name: str, volumes: Mapping[str, np.ndarray]) -> None:
        encoded = {key: nifti_base64(values, self.settings["spacing_mm"]) for key, values in volumes.items()}
        (self.folder / f"{name}.js").write_text(
            f"uadbench.put({json.dumps(f'volumes/{name}')},{json.dumps(encoded)});\n"
        )


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

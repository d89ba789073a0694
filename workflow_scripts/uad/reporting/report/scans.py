"""Volumes for the viewer: a bounded number of test scans, as every arm sees them.

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

from uad.pictures import lesion_slice
from uad.postprocessing import PostProcessing, clean_map, remove_small_components
from uad.reconstruction import Reconstructions
from uad.reporting.cells import cell_rows, readings_of, select_rows
from uad.reporting.paper_numbers import cohort_title
from uad.store import Store

FOLD = 0  # every arm has this fold

Arm = Mapping[str, Any]
Place = tuple[str, str]  # cohort, modality


def choose_subjects(rows: pd.DataFrame, count: int) -> list[str]:
    """At most `count` subjects of a place's test rows, spread evenly over the lesion volumes, smallest first."""
    volumes = rows.groupby("subject")["lesion_ml"].first().sort_values(kind="stable")
    places = np.linspace(0, len(volumes) - 1, min(count, len(volumes))).round().astype(int)
    return volumes.index[places].tolist()


class ScanExporter:
    """Writes the viewer's volumes of one run.

    Args:
        settings: content of the report's settings file.
        scores: rows of all metrics files.
        arrays: (arm, modality) -> table of the cached arrays of fold 0.
        stores: (cohort, modality) -> opened store.
        folder: where the scripts go.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        scores: pd.DataFrame,
        arrays: Mapping[tuple[str, str], Path],
        stores: Mapping[Place, Store],
        folder: Path,
    ) -> None:
        self.settings, self.stores, self.folder = settings, stores, folder
        self.rows = select_rows(scores, range(settings["folds"])).query("fold == @FOLD")
        methods = [arm for arm in settings["arms"] if not arm["control"]]
        self.arms = methods or settings["arms"]
        self.caches = {key: Reconstructions(path) for key, path in arrays.items()}
        post = settings["postprocess"]
        self.post = PostProcessing(**{**post, "order": tuple(post["order"])})

    def doubts(self) -> list[str]:
        """What speaks against the output of an arm, one line per arm and cohort in doubt."""
        labels = {arm["arm"]: arm["label"] for arm in self.settings["arms"]}
        return [
            f"caution: {labels[arm]} ({modality}), {doubt}"
            for (arm, modality), cache in self.caches.items()
            for doubt in cache.doubts()
        ]

    def export(self, place: Place, count: int) -> list[dict[str, Any]]:
        """Write the scans of a place; returns their entries of the viewer's catalogue."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = self.rows[(self.rows["cohort"] == place[0]) & (self.rows["modality"] == place[1])]
        return [self._export_scan(place, subject) for subject in choose_subjects(rows, count)]

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
        output, gives = self._output(place, scan.subject, arm["arm"], str(row["t_test"]))
        is_map = gives == "map"
        raw = output if is_map else np.abs(scan.image - output)
        volumes = {"residual": raw if is_map and not arm["postprocess"] else raw * scan.mask}
        if not is_map:
            volumes["reconstruction"] = output.clip(0, 1)
        if not math.isnan(row["threshold"]):
            volumes["prediction"] = predict(raw, scan.mask, row["threshold"], self.post if arm["postprocess"] else None)
        file = f"{name}_{arm['arm']}{'_ens' if ens else ''}"
        self._write(file, volumes)
        notes = ["" if not is_map else "this arm draws a map, no reconstruction"]
        notes += [] if "prediction" in volumes else ["no threshold, hence no prediction: the cohort has no lesions"]
        return {
            "label": arm["label"] + (" (ENS)" if ens else ""),
            "file": file,
            "reconstructs": not is_map,
            "dice": _plain(row["dice"]),
            "auprc": _plain(row["auprc"]),
            "threshold": _plain(row["threshold"]),
            "residual_max": float(volumes["residual"].max()),
            "note": " · ".join(filter(None, notes)),
        }

    def _output(self, place: Place, subject: str, arm: str, t_test: str) -> tuple[np.ndarray, str]:
        """What an arm made of a scan in one reading, float32 [Z, Y, X]: a reconstruction or a map."""
        array, rows, gives, levels = self.caches[arm, place[1]].open(place[0])
        values = array[:, rows[subject]]
        if t_test == "ens":
            chosen = [levels.index(level) for level in self.settings["inference"]["ensemble"]]
            return values[chosen].astype(np.float32).mean(axis=0), gives
        return values[levels.index(int(t_test)) if t_test else 0].astype(np.float32), gives

    def _write(self, name: str, volumes: Mapping[str, np.ndarray]) -> None:
        encoded = {key: nifti_base64(values, self.settings["spacing_mm"]) for key, values in volumes.items()}
        (self.folder / f"{name}.js").write_text(f"uadbench.put({json.dumps(name)},{json.dumps(encoded)});\n")


def predict(raw: np.ndarray, mask: np.ndarray, threshold: float, post: PostProcessing | None) -> np.ndarray:
    """The scored prediction (paper_spec 12): clean, threshold, drop small components; uint8 [Z, Y, X].

    Without `post` the map enters as it is, and no component is dropped (controls).
    """
    if post is None:
        return (raw > np.float32(threshold)).astype(np.uint8)
    called = clean_map(raw, mask, post) > np.float32(threshold)
    return remove_small_components(called, post.component_max_size, post.connectivity).astype(np.uint8)


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

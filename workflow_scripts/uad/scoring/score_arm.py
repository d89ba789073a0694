"""Scores one arm from its cached arrays: which volumes, which readings, which pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uad.cohorts.splits import subjects_in
from uad.common.errors import InputError
from uad.common.store import Store
from uad.config.model import InferenceSettings, PerceptualSettings, PostprocessSettings, ThresholdSettings
from uad.inference.run import Reconstructions
from uad.methods import method_of
from uad.scoring.postprocessing import PostProcessing
from uad.scoring.protocol import (
    HealthyThresholds,
    RowKeys,
    ScoreSettings,
    VolumeToScore,
    ablations_of,
    healthy_thresholds,
    score_cohort,
)

ENSEMBLE = "ens"
VIEWER_FOLD = 0  # every arm has it
VIEWER_SCANS = 5  # test scans per cohort that are kept for the report's viewer, which shows these or fewer


def spread_over(volumes: pd.Series, count: int) -> list[str]:
    """At most `count` subjects, spread evenly over the lesion volumes (indexed by subject), smallest first."""
    ordered = volumes.sort_index().sort_values(kind="stable")
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return ordered.index[places].tolist()


class ArmScorer:
    """One (arm, modality, fold).

    A diffusion arm is read once per noise level and once as the ensemble, the mean of the reconstructions at
    the levels of `inference.ensemble` (docs/paper.md#inference); other arms have the single reading "". The
    ensemble, or the single reading, is also scored with each step of the post-processing left out (Table 4).

    Args:
        settings: content of the job's settings file; without `ablation: true` no step is left out.
        results: the run's folder, with `store/` and `splits/`.
        arrays: table of the arm's cached arrays.
        backbone: network file of the perceptual distance, or None.
        progress: receives lines for the reader.
        threads: CPU threads of the perceptual distance.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        results: Path,
        fold: int,
        arrays: Path,
        backbone: Path | None,
        progress: Callable[[str], None],
        threads: int = 1,
    ) -> None:
        self.settings, self.results, self.fold, self.backbone_path = settings, results, fold, backbone
        self.threads = threads
        self.inference = InferenceSettings.model_validate(settings["inference"])
        self.cache = Reconstructions(arrays)
        self.progress = progress
        self._healthy_thresholds: dict[str, HealthyThresholds] = {}
        self._members: dict[tuple[str, str], list[str]] = {}
        self.thresholds: dict[str, dict[str, float]] = {}
        self.viewer: dict[str, np.ndarray] = {}
        self.method = method_of(settings)

    @cached_property
    def score_settings(self) -> ScoreSettings:
        post = PostprocessSettings.model_validate(self.settings["postprocess"])
        search = ThresholdSettings.model_validate(self.settings["threshold"]).search
        full = PostProcessing(**{**post.model_dump(), "order": tuple(post.order)})
        return ScoreSettings(
            self.settings["voxel_ml"], {"full": full}, search, without_lesion=self.settings["dice_without_lesion"]
        )

    @cached_property
    def backbone(self) -> Any:
        if self.backbone_path is None or self.method.gives != "reconstruction":
            return None
        import torch  # most of the start of a job that does not need it

        from uad.metrics.perceptual import load_backbone

        torch.set_num_threads(self.threads)
        pinned = PerceptualSettings.model_validate(self.settings["perceptual"]).sha256
        return load_backbone(self.backbone_path, pinned)

    @property
    def readings(self) -> list[str]:
        if not self.method.reads_noise_levels:
            return [""]
        return [*(str(level) for level in self.inference.t_test), ENSEMBLE]

    def _settings_for(self, cohort: str, reading: str) -> ScoreSettings:
        """The reading that Table 4 shows asks for ablations too, where there are lesions to find."""
        shown = reading in ("", ENSEMBLE) and cohort != self.settings["train_cohort"] and self.method.postprocess
        if not (self.settings["ablation"] and shown):
            return self.score_settings
        return replace(self.score_settings, ablations=ablations_of(self.score_settings.variants["full"]))

    def score(self, cohort: str) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
        """Metric rows of a cohort and the arrays of its example picture, keyed `<cohort>/<name>`.

        What the report's viewer shows is added to `viewer`, keyed `<cohort>/<subject>/<reading>/<name>`.
        """
        rows: list[dict[str, Any]] = []
        examples: dict[str, np.ndarray] = {}
        example = self._example_subject(cohort)
        kept = spread_over(self._test_lesions(cohort), VIEWER_SCANS) if self.fold == VIEWER_FOLD else []
        for reading in self.readings:
            scores = score_cohort(
                partial(self._volumes, cohort, reading),
                RowKeys(self.settings["arm"], self.settings["method"], self.settings["modality"], self.fold, cohort,
                        reading),
                self._settings_for(cohort, reading),
                self._healthy(reading),
                self.backbone,
                pictures=[example, *kept],
            )  # fmt: skip
            rows += scores.rows
            self.thresholds[f"{cohort} {reading}".strip()] = scores.thresholds
            if reading in ("", ENSEMBLE):
                prediction = scores.predictions.get(("full", example))
                examples = self._example(cohort, example, reading, prediction)
            if reading in ("", str(self.inference.single), ENSEMBLE):
                for subject in kept:
                    self._keep(
                        f"{cohort}/{subject}/{reading}",
                        self._output(cohort, subject, reading),
                        scores.predictions.get(("full", subject)),
                    )
        return rows, examples

    def _healthy(self, reading: str) -> HealthyThresholds | None:
        """Thresholds of the healthy training cohort; the same for every cohort, so found once per reading."""
        cohort = self.settings["train_cohort"]
        if cohort not in self.settings["cohorts"]:
            return None
        if reading not in self._healthy_thresholds:
            volumes = partial(self._volumes, cohort, reading)
            self._healthy_thresholds[reading] = healthy_thresholds(volumes, self.score_settings)
        return self._healthy_thresholds[reading]

    def _store(self, cohort: str) -> Store:
        return Store.open(self.results / "store" / f"{cohort}_{self.settings['modality']}")

    def _subjects(self, cohort: str, split: str) -> list[str]:
        if (cohort, split) not in self._members:
            table = self.results / "splits" / f"{cohort}.tsv"
            held = self._store(cohort).subjects
            self._members[cohort, split] = subjects_in(
                table, self.fold, [split], held, lambda line: self.progress(f"{cohort}: {line}")
            )
        return self._members[cohort, split]

    def _volumes(self, cohort: str, reading: str, split: str) -> Iterator[VolumeToScore]:
        store = self._store(cohort)
        sites = store.index.set_index("subject")["site"]
        for subject in self._subjects(cohort, split):
            scan, output = store.scan(subject), self._output(cohort, subject, reading)
            is_map = self.method.gives == "map"
            yield VolumeToScore(
                subject, split, sites[subject], scan.image, scan.mask, scan.label,
                reconstruction=None if is_map else output, anomaly_map=output if is_map else None,
                postprocess=self.method.postprocess,
            )  # fmt: skip

    def _output(self, cohort: str, subject: str, reading: str) -> np.ndarray:
        """Reconstruction or map [Z, Y, X] of one scan in one reading, float32."""
        array, rows, _, levels = self.cache.open(cohort)
        values = array[:, rows[subject]]
        if reading == ENSEMBLE:
            chosen = [levels.index(level) for level in self.inference.ensemble]
            return values[chosen].astype(np.float32).mean(axis=0)
        return values[levels.index(int(reading)) if reading else 0].astype(np.float32)

    def _example_subject(self, cohort: str) -> str:
        """The test subject with the median lesion volume.

        Raises:
            InputError: the cohort has no test volume.
        """
        if not self._subjects(cohort, "test"):
            raise InputError(f"{cohort}: no test volume in fold {self.fold}; give cohorts.{cohort}.splits.test more")
        ordered = self._test_lesions(cohort).sort_values(kind="stable")
        return ordered.index[len(ordered) // 2]

    def _test_lesions(self, cohort: str) -> pd.Series:
        """Lesion volume in ml by test subject."""
        return self._store(cohort).index.set_index("subject")["lesion_ml"].loc[self._subjects(cohort, "test")]

    def _keep(self, key: str, output: np.ndarray, prediction: np.ndarray | None) -> None:
        """Keep a scan for the viewer: float16 reconstruction or float32 map, and what is called a lesion."""
        is_map = self.method.gives == "map"
        self.viewer[f"{key}/{self.method.gives}"] = output if is_map else output.astype(np.float16)
        if prediction is not None:
            self.viewer[f"{key}/prediction"] = prediction

    def _example(self, cohort: str, subject: str, reading: str, prediction: np.ndarray | None) -> dict[str, np.ndarray]:
        scan, output = self._store(cohort).scan(subject), self._output(cohort, subject, reading)
        nothing = np.zeros(0, np.float32)
        is_map = self.method.gives == "map"
        arrays = {
            "image": scan.image.astype(np.float16),
            "reconstruction": nothing if is_map else output.astype(np.float16),
            "map": (output if is_map else np.abs(scan.image - output) * scan.mask).astype(np.float32),  # of any unit
            "prediction": nothing if prediction is None else prediction,
            "label": scan.label,
            "subject": np.array(subject),
            "cohort": np.array(cohort),
            "t_test": np.array(reading),
        }
        return {f"{cohort}/{name}": values for name, values in arrays.items()}

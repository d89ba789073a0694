"""One arm, modality and fold, from files to rows: which volumes, which readings, which pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uad.cohorts.splits import subjects_in
from uad.common.errors import InputError
from uad.common.store import Store
from uad.config.model import InferenceSettings, PerceptualSettings, PostprocessSettings, ThresholdSettings
from uad.inference.outputs import ENSEMBLE, Outputs
from uad.methods import method_of
from uad.scoring.kept_scans import VIEWER_FOLD, VIEWER_SCANS, example, for_viewer, spread_over
from uad.scoring.postprocessing import UNTOUCHED, PostProcessing
from uad.scoring.protocol import RowKeys, ScoreSettings, VolumeToScore, ablations_of, healthy_thresholds, score_cohort


@dataclass(frozen=True)
class ArmScores:
    """Result of `score_arm`.

    Attributes:
        rows: one per volume, reading and variant, in the metrics format.
        thresholds: "<cohort> <reading>" -> variant -> threshold.
        doubts: what speaks against the arm's outputs.
        examples: arrays of one scan per cohort, keyed `<cohort>/<name>`.
        viewer: what the report's viewer shows, keyed `<cohort>/<subject>/<reading>/<name>`; of fold 0 alone.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    examples: dict[str, np.ndarray] = field(default_factory=dict)
    viewer: dict[str, np.ndarray] = field(default_factory=dict)


def score_arm(
    settings: Mapping[str, Any],
    stores: Mapping[str, Store],
    splits: Mapping[str, Path],
    fold: int,
    arrays: Path,
    backbone: Path | None,
    progress: Callable[[str], None],
    threads: int = 1,
) -> ArmScores:
    """Score one arm on every cohort of a modality.

    A diffusion arm has one reading per noise level and the ensemble, the mean of the reconstructions at the levels
    of `inference.ensemble` (docs/paper.md#inference); other arms have the single reading "". The ensemble, or the
    single reading, is also scored with each step of the post-processing left out (Table 4).

    Args:
        settings: content of the job's settings file; without `ablation: true` no step is left out.
        stores, splits: packed scans and split table by cohort.
        arrays: table of the arm's outputs.
        backbone: network file of the perceptual distance, or None.
        progress: receives lines for the reader.
        threads: CPU threads of the perceptual distance.

    Raises:
        InputError: a cohort without test volume; files that are missing, damaged or do not fit each other.
    """
    method, train_cohort = method_of(settings), settings["train_cohort"]
    inference = InferenceSettings.model_validate(settings["inference"])
    readings = [*map(str, inference.t_test), ENSEMBLE] if method.reads_noise_levels else [""]
    plain = _score_settings(settings, method.postprocess)
    network = None
    if backbone is not None and method.gives == "reconstruction":
        network = _load_backbone(backbone, settings, threads)
    outputs = Outputs(arrays, inference.ensemble)
    scores = ArmScores(doubts=outputs.doubts())
    for doubt in scores.doubts:
        progress(f"caution: {doubt}")
    cohorts = {name: _Cohort(name, store, splits[name], fold, outputs, progress) for name, store in stores.items()}
    healthy = {}  # the same for every cohort
    if train_cohort in cohorts:
        healthy = {r: healthy_thresholds(partial(cohorts[train_cohort].volumes, r), plain) for r in readings}
    for name, cohort in cohorts.items():
        progress(name)
        median = cohort.lesions.sort_values(kind="stable").index[len(cohort.lesions) // 2]
        shown = spread_over(cohort.lesions, VIEWER_SCANS) if fold == VIEWER_FOLD else []
        for reading in readings:
            is_main = reading in ("", ENSEMBLE)
            ablated = settings["ablation"] and is_main and name != train_cohort and method.postprocess
            found = score_cohort(
                partial(cohort.volumes, reading),
                RowKeys(settings["arm"], settings["method"], settings["modality"], fold, name, reading),
                replace(plain, ablations=ablations_of(plain.variants["full"])) if ablated else plain,
                healthy.get(reading),
                network,
                pictures=[median, *shown],
            )
            scores.rows.extend(found.rows)
            scores.thresholds[f"{name} {reading}".strip()] = found.thresholds
            if is_main:
                scan, output = cohort.store.scan(median), outputs.volume(name, median, reading)
                scores.examples.update(example(name, scan, output, reading, found.predictions.get(("full", median))))
            for subject in shown if is_main or reading == str(inference.single) else []:
                output, prediction = outputs.volume(name, subject, reading), found.predictions.get(("full", subject))
                scores.viewer.update(for_viewer(f"{name}/{subject}/{reading}", output, prediction))
    return scores


class _Cohort:
    """A cohort as one fold splits it; `lesions`: their volume in ml by test subject."""

    def __init__(
        self, name: str, store: Store, table: Path, fold: int, outputs: Outputs, progress: Callable[[str], None]
    ) -> None:
        self.name, self.store, self.outputs = name, store, outputs
        held = store.index.set_index("subject")
        self.subjects = {
            split: subjects_in(table, fold, [split], held.index, lambda line: progress(f"{name}: {line}"))
            for split in ("val", "test")
        }
        if not self.subjects["test"]:
            raise InputError(f"{name}: no test volume in fold {fold}; give cohorts.{name}.splits.test more")
        self.sites, self.lesions = held["site"], held["lesion_ml"].loc[self.subjects["test"]]

    def volumes(self, reading: str, split: str) -> Iterator[VolumeToScore]:
        """The volumes of a split, one at a time."""
        for subject in self.subjects[split]:
            scan, output = self.store.scan(subject), self.outputs.volume(self.name, subject, reading)
            yield VolumeToScore(subject, split, self.sites[subject], scan.image, scan.mask, scan.label, output)


def _score_settings(settings: Mapping[str, Any], postprocess: bool) -> ScoreSettings:
    post = PostProcessing(**PostprocessSettings.model_validate(settings["postprocess"]).model_dump())
    search = ThresholdSettings.model_validate(settings["threshold"]).search
    variants = {"full": post if postprocess else UNTOUCHED}
    return ScoreSettings(settings["voxel_ml"], variants, search, without_lesion=settings["dice_without_lesion"])


def _load_backbone(path: Path, settings: Mapping[str, Any], threads: int) -> Any:
    import torch  # most of the start of a job that does not need it

    from uad.metrics.perceptual import load_backbone

    torch.set_num_threads(threads)
    return load_backbone(path, PerceptualSettings.model_validate(settings["perceptual"]).sha256)

"""One arm, modality and fold, from files to rows: which volumes, which readings, which pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from uad.common.store import Store
from uad.config.model import InferenceSettings, PerceptualSettings, PostprocessSettings, ThresholdSettings
from uad.inference.outputs import ENSEMBLE, Output, Outputs
from uad.methods import Method, method_of
from uad.scoring.cohort import ScoredCohort
from uad.scoring.kept_scans import VIEWER_FOLD, VIEWER_SCANS, example, extremes, for_viewer, spread_over
from uad.scoring.postprocessing import UNTOUCHED, PostProcessing
from uad.scoring.protocol import (
    CohortScores,
    RowKeys,
    ScoreSettings,
    ablations_of,
    healthy_thresholds,
    prediction_of,
    score_cohort,
)
from uad.scoring.tallies import tally_rows


@dataclass(frozen=True)
class ArmScores:
    """Result of `score_arm`.

    Attributes:
        rows: one per volume, reading and variant, in the metrics format.
        tallies: voxels by value per cohort, split and reading that the tables print, in the tallies format.
        lesions: one row per lesion of a test volume and reading, in the lesions format.
        thresholds: "<cohort> <reading>" -> variant -> threshold.
        doubts: what speaks against the arm's outputs.
        examples: arrays of one scan per cohort, keyed `<cohort>/<name>`.
        viewer: what the report's viewer may show, keyed `<cohort>/<subject>/<reading>/<name>`; of fold 0 alone.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    tallies: list[pd.DataFrame] = field(default_factory=list)
    lesions: list[dict[str, Any]] = field(default_factory=list)
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

    A diffusion arm has one reading per noise level, the ensemble, which is the mean of the reconstructions at the
    levels of `inference.ensemble` (docs/paper.md#inference), and those of `inference.combine`; other arms have the
    single reading "". The ensemble, or the single reading, is also scored with each step of the post-processing left
    out (Table 4).

    Args:
        settings: content of the job's settings file; without `ablation: true` no step is left out, with
            `viewer_scans: all` every test scan is kept for the viewer.
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
    readings = readings_of(method, inference)
    main, printed = readings[-1], [reading for reading in readings if reading in ("", str(inference.single), ENSEMBLE)]
    plain = score_settings(settings, method.postprocess)
    network = None
    if backbone is not None and method.gives == "reconstruction":
        network = _load_backbone(backbone, settings, threads)
    outputs = Outputs(arrays, inference.ensemble)
    scores = ArmScores(doubts=outputs.doubts())
    for doubt in scores.doubts:
        progress(f"caution: {doubt}")
    cohorts = {name: ScoredCohort(name, store, splits[name], fold, outputs, progress) for name, store in stores.items()}
    healthy = {}  # the same for every cohort
    if train_cohort in cohorts:
        healthy = {r: healthy_thresholds(partial(cohorts[train_cohort].volumes, r), plain) for r in readings}
    for name, cohort in cohorts.items():
        progress(name)
        found = {}
        for reading in readings:
            ablated = settings["ablation"] and reading == main and name != train_cohort and method.postprocess
            found[reading] = score_cohort(
                partial(cohort.volumes, reading),
                RowKeys(settings["arm"], settings["method"], settings["modality"], fold, name, reading),
                replace(plain, ablations=ablations_of(plain.variants["full"])) if ablated else plain,
                healthy.get(reading),
                network,
            )
            scores.rows.extend(found[reading].rows)
            scores.lesions.extend(found[reading].lesions)
            scores.thresholds[f"{name} {reading}".strip()] = found[reading].thresholds
        kept = {reading: found[reading] for reading in printed}
        for reading, cohort_scores in kept.items():
            for (_, split), counts in cohort_scores.tallies.items():
                scores.tallies.append(tally_rows(counts, {"cohort": name, "split": split, "t_test": reading}))
        shown = _shown(cohort, found[main], settings.get("viewer_scans")) if fold == VIEWER_FOLD else []
        _keep_pictures(scores, cohort, kept, plain.variants["full"], main, shown)
    return scores


def _shown(cohort: ScoredCohort, found: CohortScores, viewer_scans: str | None) -> list[str]:
    """The test subjects that are kept for the viewer, in the order of their lesion volumes.

    Args:
        found: scores of the arm's main reading.
        viewer_scans: "all", or None for a few.
    """
    ordered = spread_over(cohort.lesions, len(cohort.lesions))
    if viewer_scans == "all":
        return ordered
    rows = pd.DataFrame(found.rows)
    dice = rows[(rows["split"] == "test") & (rows["variant"] == "full")].set_index("subject")["dice"]
    kept = {*spread_over(cohort.lesions, VIEWER_SCANS), *extremes(dice).values()}
    return [subject for subject in ordered if subject in kept]


def _keep_pictures(
    scores: ArmScores,
    cohort: ScoredCohort,
    found: Mapping[str, CohortScores],
    full: PostProcessing,
    main: str,
    shown: Sequence[str],
) -> None:
    """Add the cohort's example and the viewer's scans to `scores`.

    Args:
        main: reading of the example, which is the scan with the median lesion.
        found: scores by reading, of those that the viewer has.
        full: the whole post-processing.
        shown: subjects of the viewer.
    """

    def with_prediction(subject: str, reading: str) -> tuple[Output, np.ndarray | None]:
        volume = cohort.volume(reading, "test", subject)
        return volume.output, prediction_of(volume, found[reading].thresholds["full"], full)

    median = cohort.lesions.sort_values(kind="stable").index[len(cohort.lesions) // 2]
    output, prediction = with_prediction(median, main)
    scores.examples.update(example(cohort.name, cohort.store.scan(median), output, main, prediction))
    for subject in shown:
        for reading in found:
            kept = for_viewer(f"{cohort.name}/{subject}/{reading}", *with_prediction(subject, reading))
            scores.viewer.update(kept)


def readings_of(method: Method, inference: InferenceSettings) -> list[str]:
    """Every reading of an arm, the main one last."""
    return [*map(str, inference.t_test), *inference.combine, ENSEMBLE] if method.reads_noise_levels else [""]


def score_settings(settings: Mapping[str, Any], postprocess: bool) -> ScoreSettings:
    """How the configuration says that an arm is scored; without post-processing for maps that enter after it."""
    post = PostProcessing(**PostprocessSettings.model_validate(settings["postprocess"]).model_dump())
    search = ThresholdSettings.model_validate(settings["threshold"]).search
    variants = {"full": post if postprocess else UNTOUCHED}
    return ScoreSettings(settings["voxel_ml"], variants, search, without_lesion=settings["dice_without_lesion"])


def _load_backbone(path: Path, settings: Mapping[str, Any], threads: int) -> Any:
    import torch  # most of the start of a job that does not need it

    from uad.metrics.perceptual import load_backbone

    torch.set_num_threads(threads)
    return load_backbone(path, PerceptualSettings.model_validate(settings["perceptual"]).sha256)

"""Scoring of one arm on one cohort: maps and reconstructions in, metric rows out.

docs/paper.md#threshold, docs/paper.md#metrics

The protocol, for each post-processing variant:

1. Clean the map (erosion, median).
2. Choose the threshold with the best global Dice on the cohort's validation volumes, before the component
   filter (D26).
3. Predict `map > threshold`, drop small components, compute Dice for each validation and test volume.
4. AUPRC and AUROC come from the cleaned map, before threshold and components, over all voxels; a scan's own anomaly
   score is the mean of its highest values in the brain.
5. Each lesion of a test volume is looked at by itself: how much of it the prediction has.

An ablation leaves one step out and asks for Dice alone (docs/paper.md#experiments, Table 4). Its threshold is searched
again; without the component filter that is the same search, because the filter comes after it (D26).

Voxels of label 2 count in no Dice, AUPRC, AUROC, anomaly score, volume, lesion, tally or threshold; a component that
reaches into them is no false positive; the component filter still sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from uad.common.errors import InputError
from uad.inference.outputs import Output
from uad.metrics.reconstruction import histogram_divergence, l1_errors, psnr, ssim
from uad.metrics.scan_scores import mean_of_highest
from uad.metrics.segmentation import RankedCurve, Volume, dice, pooled_curve, ranked_curve
from uad.metrics.threshold import exact_threshold, false_positive_thresholds, greedy_threshold
from uad.scoring.lesions import NEIGHBOURS, lesions_of
from uad.scoring.postprocessing import PostProcessing, clean_map, components
from uad.scoring.predict import anomaly_map, predict
from uad.scoring.tallies import tally

if TYPE_CHECKING:
    from uad.metrics.perceptual import MedicalNetResNet10

LESION, EXCLUDED = 1, 2
SEARCHES = {"exact": exact_threshold, "greedy": greedy_threshold}
FALSE_POSITIVE_RATES = {"dice_fpr01": 0.01, "dice_fpr05": 0.05, "dice_fpr10": 0.10}
SCAN_SCORES = {"score_top1": 100, "score_top01": 1000}  # one in so many of the brain's voxels
NAN = float("nan")
_RECONSTRUCTION_SCORES = ("l1", "l1_lesion", "l1_healthy", "ssim", "psnr", "lpips", "kld", "kld_entropy")
_MAP_SCORES = ("auprc", "auroc", "prevalence", "voxels", *FALSE_POSITIVE_RATES, *SCAN_SCORES)
_PREDICTION_SCORES = ("predicted_ml", "false_positive_ml", "false_positives")
_NOT_ASKED = {
    **dict.fromkeys((*_RECONSTRUCTION_SCORES, *_MAP_SCORES, *_PREDICTION_SCORES), NAN),
    "lpips_backbone": "",
}


@dataclass(frozen=True, eq=False)
class VolumeToScore:
    """One scan with what an arm made of it; all arrays are [Z, Y, X].

    Attributes:
        subject, site: as in the cohort table.
        split: "val" or "test".
        image: intensities in [0, 1].
        mask: brain mask.
        label: 0 none, 1 lesion, 2 excluded from evaluation; all 0 for a healthy scan.
        output: reconstruction, or map before post-processing, finite and at least 0.
    """

    subject: str
    split: str
    site: str
    image: np.ndarray
    mask: np.ndarray
    label: np.ndarray
    output: Output


@dataclass(frozen=True)
class RowKeys:
    """What every row of one scoring says about itself; `t_test` is "" for arms without a noise level."""

    arm: str
    method: str
    modality: str
    fold: int
    cohort: str
    t_test: str = ""


@dataclass(frozen=True)
class ScoreSettings:
    """How to score.

    Attributes:
        voxel_ml: volume of one voxel in millilitres.
        variants: name -> post-processing; "full" is what the tables read.  `UNTOUCHED` of controls.
        search: "exact", or "greedy" as the authors' code (docs/paper.md#threshold).
        ablations: name -> post-processing of which only Dice is asked (`ablations_of`).
        without_lesion: Dice of a volume without a lesion voxel: "left_out" (NaN), or "zero" where anything is called,
            as in the authors' code (D32).
    """

    voxel_ml: float
    variants: Mapping[str, PostProcessing] = field(default_factory=lambda: {"full": PostProcessing()})
    search: str = "exact"
    ablations: Mapping[str, PostProcessing] = field(default_factory=dict)
    without_lesion: str = "left_out"

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise ValueError(f"search is {self.search!r}; it must be one of {sorted(SEARCHES)}")


@dataclass(frozen=True)
class CohortScores:
    """Result of one scoring.

    Attributes:
        rows: one per volume and variant or ablation, in the metrics format.
        thresholds: variant or ablation -> threshold.
        lesions: one row per lesion of a test volume, of the variant "full", in the lesions format.
        tallies: (variant, split) -> counts of the split's voxels by value (`uad.scoring.tallies.tally`); no ablation.
    """

    rows: list[dict[str, object]]
    thresholds: dict[str, float]
    tallies: dict[tuple[str, str], np.ndarray]
    lesions: list[dict[str, object]]


VolumeSource = Callable[[str], Iterable[VolumeToScore]]  # "val" or "test" -> its volumes, one at a time
HealthyThresholds = Mapping[str, Mapping[float, float]]  # variant -> false-positive rate -> threshold


def ablations_of(full: PostProcessing) -> dict[str, PostProcessing]:
    """The post-processing with one step left out: variant name -> settings (docs/paper.md#experiments, Table 4)."""
    return {
        "no_cc": replace(full, component_max_size=0),
        "no_median": replace(full, order=tuple(step for step in full.order if step != "median")),
        "no_erosion": replace(full, order=tuple(step for step in full.order if step != "erode")),
    }


def healthy_thresholds(volumes: VolumeSource, settings: ScoreSettings) -> dict[str, dict[float, float]]:
    """Thresholds at 1, 5 and 10 % false positives in the brain of the healthy validation volumes (D25).

    Args:
        volumes: source of the healthy cohort; only "val" is asked for, once per variant.
        settings: post-processing variants.

    Returns:
        variant -> rate -> threshold, NaN without volumes.

    Raises:
        InputError: as `score_cohort`.
    """
    rates = list(FALSE_POSITIVE_RATES.values())
    return {
        name: false_positive_thresholds(_cleaned_healthy(volumes, variant), rates)
        for name, variant in settings.variants.items()
    }


def _cleaned_healthy(volumes: VolumeSource, variant: PostProcessing) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for volume in _checked(volumes("val"), "val"):
        yield _cleaned(volume, variant), volume.mask


def cohort_thresholds(volumes: VolumeSource, settings: ScoreSettings) -> dict[str, float]:
    """Threshold of each variant and ablation from the cohort's validation volumes; NaN where none has a
    lesion (D25).

    Args:
        volumes: source of the cohort; only "val" is asked for, once per way to clean the map.
        settings: post-processing variants, ablations and search.

    Raises:
        InputError: as `score_cohort`.
    """
    search = SEARCHES[settings.search]
    found: dict[PostProcessing, float] = {}
    thresholds = {}
    for name, variant in {**settings.variants, **settings.ablations}.items():
        cleaning = _cleaning(variant)
        if cleaning not in found:
            found[cleaning] = search(pooled_curve(_cleaned_validation(volumes, variant)))
        thresholds[name] = found[cleaning]
    return thresholds


def _cleaned_validation(volumes: VolumeSource, variant: PostProcessing) -> Iterator[Volume]:
    for volume in _checked(volumes("val"), "val"):
        yield _cleaned(volume, variant), volume.label == LESION, volume.label != EXCLUDED


def _cleaning(variant: PostProcessing) -> PostProcessing:
    """What the map before the threshold depends on: the same for variants that differ in the component filter."""
    return replace(variant, component_max_size=0)


def score_cohort(
    volumes: VolumeSource,
    keys: RowKeys,
    settings: ScoreSettings,
    healthy: HealthyThresholds | None = None,
    backbone: MedicalNetResNet10 | None = None,
) -> CohortScores:
    """Score one arm on one cohort, modality and fold.

    Volumes are asked for once per way to clean the map ("val", for the thresholds) and once more ("val", then
    "test", for the rows) and held one at a time; a threshold search keeps their non-zero voxels (`pooled_curve`).

    Args:
        volumes: "val" or "test" -> the volumes of that split; no training volumes.
        keys: copied into every row.
        settings: variants, threshold search, voxel volume.
        healthy: result of `healthy_thresholds`; None leaves the `dice_fpr` columns NaN.
        backbone: network for LPIPS (`uad.metrics.perceptual.load_backbone`), with an attribute `name`.

    Returns:
        Rows of the metrics format. NaN where a score is undefined: Dice and AUPRC of a healthy volume (but see
        `ScoreSettings.without_lesion`), Dice, predicted volume and false positives without a threshold, l1 to LPIPS
        without reconstruction, all but Dice and threshold of an ablation.

    Raises:
        InputError: arrays of different shapes, a map that is negative or not finite, or a volume of another split.
    """
    thresholds = cohort_thresholds(volumes, settings)
    rows: list[dict[str, object]] = []
    tallies: dict[tuple[str, str], np.ndarray] = {}
    lesions: list[dict[str, object]] = []
    for split in ("val", "test"):
        for volume in _checked(volumes(split), split):
            keys_of_row = _key_columns(volume, keys, settings.voxel_ml)
            shared = {**keys_of_row, **_reconstruction_scores(volume, backbone)}
            maps: dict[PostProcessing, np.ndarray] = {}
            for name, variant in settings.variants.items():
                cleaned = maps[_cleaning(variant)] = _cleaned(volume, variant)
                curve = ranked_curve(cleaned, volume.label == LESION, volume.label != EXCLUDED)
                counts = tally(curve, cleaned[(volume.mask == 0) & (volume.label == 0)])
                tallies[name, split] = tallies.get((name, split), 0) + counts
                scores = _detection_scores(curve, cleaned, volume, variant, _rate_limits(healthy, name))
                scores |= _scan_scores(cleaned, volume)
                prediction = None if np.isnan(thresholds[name]) else predict(cleaned, thresholds[name], variant)
                scores |= prediction_scores(prediction, volume, settings)
                if (name, split) == ("full", "test"):
                    of_scan = {"cohort": keys.cohort, "subject": volume.subject, "split": split, "t_test": keys.t_test}
                    found = lesions_of(volume.label == LESION, prediction, settings.voxel_ml)
                    lesions.extend({**of_scan, **lesion} for lesion in found)
                rows.append({**shared, "variant": name, **scores, "threshold": thresholds[name]})
            for name, variant in settings.ablations.items():
                if _cleaning(variant) not in maps:
                    maps[_cleaning(variant)] = _cleaned(volume, variant)
                cleaned = maps[_cleaning(variant)]
                score = _dice(cleaned, thresholds[name], volume, variant, settings.without_lesion)
                rows.append({**keys_of_row, **_NOT_ASKED, "variant": name, "dice": score,
                             "threshold": thresholds[name]})  # fmt: skip
    return CohortScores(rows, thresholds, tallies, lesions)


def prediction_of(volume: VolumeToScore, threshold: float, variant: PostProcessing) -> np.ndarray | None:
    """What was scored as the prediction of a volume: uint8 [Z, Y, X]; None without a threshold (NaN)."""
    if np.isnan(threshold):
        return None
    return predict(_cleaned(volume, variant), threshold, variant).astype(np.uint8)


def _checked(volumes: Iterable[VolumeToScore], split: str) -> Iterator[VolumeToScore]:
    for volume in volumes:
        if volume.split != split:
            raise InputError(f"{volume.subject}: its split is {volume.split}, not {split}; correct the split table")
        shapes = {name: np.shape(getattr(volume, name)) for name in ("image", "mask", "label")}
        shapes[volume.output.kind] = np.shape(volume.output.values)
        if len(set(shapes.values())) > 1:
            found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise InputError(f"{volume.subject}: its arrays differ in shape ({found}); make them on one grid")
        yield volume


def _cleaned(volume: VolumeToScore, variant: PostProcessing) -> np.ndarray:
    """The map that meets the threshold, float32 [Z, Y, X]."""
    raw = anomaly_map(volume.output, volume.image)
    if not (raw.min() >= 0 and np.isfinite(raw.max())):  # NaN fails the first comparison
        raise InputError(f"{volume.subject}: the anomaly map has negative, infinite or NaN values; give |residual|")
    return clean_map(raw, volume.mask, variant)


def _dice(
    cleaned: np.ndarray,
    threshold: float,
    volume: VolumeToScore,
    variant: PostProcessing,
    without_lesion: str = "left_out",
) -> float:
    """Dice after the component filter; NaN without a threshold, and without a lesion as `ScoreSettings` say."""
    if np.isnan(threshold) or not _has_dice(volume, without_lesion):
        return NAN
    return _overlap(predict(cleaned, threshold, variant), volume)


def _has_dice(volume: VolumeToScore, without_lesion: str) -> bool:
    return without_lesion != "left_out" or bool((volume.label == LESION).any())


def _overlap(prediction: np.ndarray, volume: VolumeToScore) -> float:
    return dice(prediction, volume.label == LESION, volume.label != EXCLUDED)


def _rate_limits(healthy: HealthyThresholds | None, variant: str) -> dict[str, float]:
    found = healthy[variant] if healthy is not None else {}
    return {column: found.get(rate, NAN) for column, rate in FALSE_POSITIVE_RATES.items()}


def _scan_scores(cleaned: np.ndarray, volume: VolumeToScore) -> dict[str, float]:
    """The scan's anomaly scores: means of the highest values in its brain, in the map's unit."""
    values = cleaned[(volume.mask > 0) & (volume.label != EXCLUDED)]
    return {column: mean_of_highest(values, one_in) for column, one_in in SCAN_SCORES.items()}


def prediction_scores(
    prediction: np.ndarray | None, volume: VolumeToScore, settings: ScoreSettings
) -> dict[str, float]:
    """Dice as `_dice`, volumes in ml and false components of the prediction; NaN without one.

    A component is false when it holds neither a lesion voxel nor an excluded one.
    """
    if prediction is None:
        return dict.fromkeys(("dice", *_PREDICTION_SCORES), NAN)
    parts, healthy = components(prediction, NEIGHBOURS), prediction & (volume.label == 0)
    false_parts = np.setdiff1d(parts[healthy], parts[prediction & (volume.label != 0)])
    return {
        "dice": _overlap(prediction, volume) if _has_dice(volume, settings.without_lesion) else NAN,
        "predicted_ml": float(np.count_nonzero(prediction & (volume.label != EXCLUDED)) * settings.voxel_ml),
        "false_positive_ml": float(np.count_nonzero(healthy) * settings.voxel_ml),
        "false_positives": float(len(false_parts)),
    }


def _detection_scores(
    curve: RankedCurve,
    cleaned: np.ndarray,
    volume: VolumeToScore,
    variant: PostProcessing,
    limits: Mapping[str, float],
) -> dict[str, float]:
    """AUPRC, AUROC, prevalence, evaluated voxels and one Dice per healthy threshold in `limits`."""
    scores = {
        "auprc": curve.average_precision(),
        "auroc": curve.auroc(),
        "prevalence": curve.prevalence,
        "voxels": curve.voxels,
    }
    return scores | {column: _dice(cleaned, threshold, volume, variant) for column, threshold in limits.items()}


def _key_columns(volume: VolumeToScore, keys: RowKeys, voxel_ml: float) -> dict[str, object]:
    """What every row of a volume says: keys and lesion volume."""
    return {
        **asdict(keys),
        "subject": volume.subject,
        "split": volume.split,
        "site": volume.site,
        "lesion_ml": float(np.count_nonzero(volume.label == LESION) * voxel_ml),
    }


def _reconstruction_scores(volume: VolumeToScore, backbone: MedicalNetResNet10 | None) -> dict[str, object]:
    """What does not depend on the post-processing; NaN without a reconstruction."""
    columns: dict[str, object] = {**dict.fromkeys(_RECONSTRUCTION_SCORES, NAN), "lpips_backbone": ""}
    if volume.output.kind == "map":
        return columns
    pair = np.asarray(volume.image, np.float32), np.asarray(volume.output.values, np.float32)
    columns |= l1_errors(*pair, volume.label)
    columns |= {"ssim": ssim(*pair), "psnr": psnr(*pair)}
    columns |= histogram_divergence(*pair, where=(volume.mask > 0) & (volume.label == 0))
    if backbone is not None:
        from uad.metrics.perceptual import perceptual_distance  # maps are scored without torch

        columns |= {"lpips": perceptual_distance(backbone, *pair), "lpips_backbone": backbone.name}
    return columns

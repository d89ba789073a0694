"""What is measured: each row does one piece of work our way and the usual way with well-known packages.

Sizes are the paper's (volumes of 50 x 96 x 96 voxels, batches of 32 slices).  Residuals are smooth noise with a lesion
in a brain-shaped mask: zeros would flatter every shortcut.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import opensimplex
import torch
import torchio
from brain_extraction import SCANS, THEIR_SCANS, Shard
from mlxtend.evaluate import permutation_test as mlxtend_test
from networks import our_inference, our_training, their_inference, their_training
from own_process import OwnProcess
from scipy import ndimage
from skimage.measure import label, regionprops
from sklearn.metrics import average_precision_score, roc_auc_score

from uad.diffusion.simplex import octave_noise
from uad.metrics.segmentation import dice, pooled_curve, ranked_curve
from uad.metrics.threshold import exact_threshold
from uad.reporting.statistics import permutation_test
from uad.scoring.postprocessing import PostProcessing, clean_map, median_filter, remove_small_components
from uad.training.augmentation import draw_augmented

SHAPE = (50, 96, 96)
POST = PostProcessing()


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        target: how many times faster than `against` ours should be; NaN: the comparison sets none.
        ours, theirs: the same work; both return what `check` compares.
        check: raises AssertionError where the results differ by more than `bound` says.
        part: share of the work that `theirs` does; its time is divided by it.
        once: too long for rounds: what is measured is the pair whose results are compared.
        threads: more than one: measured by the clock; one: by CPU time.
    """

    work: str
    against: str
    target: float
    bound: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    check: Callable[[Any, Any], None]
    part: float = 1.0
    once: bool = False
    threads: int = 1


@cache
def scan(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residual in [0, 1], brain mask and lesion [Z, Y, X]."""
    draw = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = (z / 0.9) ** 2 + (y / 0.85) ** 2 + (x / 0.7) ** 2 < 1
    residual = np.abs(ndimage.gaussian_filter(draw.normal(size=SHAPE), 1))
    centre = draw.uniform(-0.35, 0.35, 3)
    lesion = ((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 0.03) & mask
    residual += 0.3 * ndimage.gaussian_filter(lesion.astype(float), 1.5)
    return (residual / residual.max() * mask).astype(np.float32), mask, lesion


def greedy(values: np.ndarray, truth: np.ndarray) -> float:
    """The bisection of docs/paper.md#threshold, on voxels."""
    low, high, best = 0.0, float(values.max()), (-1.0, 0.0)
    for _ in range(10):
        points = [low + share * (high - low) for share in (0.25, 0.75)]
        scores = [dice_of(values > point, truth) for point in points]
        better = int(scores[1] > scores[0])
        best = max(best, (scores[better], points[better]), key=lambda found: found[0])
        low, high = ((low + high) / 2, high) if better else (low, (low + high) / 2)
    return best[1]


def dice_of(called: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(called & truth) / (np.count_nonzero(called) + np.count_nonzero(truth))


def equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_array_equal(ours, theirs)


def median_row() -> Row:
    residual, _, _ = scan(0)
    return Row(
        "5x5x5 median of a volume", "scipy.ndimage.median_filter", 5, "equal",
        lambda: median_filter(residual, 5), lambda: ndimage.median_filter(residual, 5), equal,
    )  # fmt: skip


def scoring_row() -> Row:
    residual, mask, lesion = scan(1)

    def ours() -> tuple[float, float, np.ndarray]:
        cleaned = clean_map(residual, mask, POST)
        curve = ranked_curve(cleaned, lesion)
        best = exact_threshold(curve)
        called = remove_small_components(cleaned > best, POST.component_max_size)
        dice(called, lesion)
        return curve.average_precision(), curve.auroc(), cleaned

    def theirs() -> tuple[float, float, np.ndarray]:
        cross = ndimage.generate_binary_structure(2, 1)[None]
        eroded = ndimage.binary_erosion(mask, cross, iterations=3)
        cleaned = ndimage.median_filter(residual * eroded, 5)
        truth, values = lesion.ravel(), cleaned.ravel()
        called = (cleaned > greedy(values, truth)).astype(np.uint8)
        for region in regionprops(label(called, connectivity=3)):
            if region.area <= POST.component_max_size:
                called[tuple(region.coords.T)] = 0
        dice_of(called > 0, lesion)
        return average_precision_score(truth, values), roc_auc_score(truth, values), cleaned

    def check(ours: tuple, theirs: tuple) -> None:
        np.testing.assert_allclose(ours[:2], theirs[:2], atol=1e-6)
        equal(ours[2], theirs[2])

    return Row(
        "scoring a volume: clean-up, AUPRC, AUROC, threshold, components, Dice",
        "SciPy, scikit-learn, scikit-image, greedy search", 6, "AUPRC, AUROC to 1e-6, maps equal", ours, theirs, check,
    )  # fmt: skip


def threshold_row() -> Row:
    volumes = [(clean_map(residual, mask, POST), lesion) for residual, mask, lesion in map(scan, range(100))]

    def ours() -> float:
        return exact_threshold(pooled_curve((*volume, None) for volume in volumes))

    def theirs() -> float:
        values, truth = (np.concatenate([volume[i].ravel() for volume in volumes]) for i in (0, 1))
        return greedy(values, truth)

    def check(ours: float, theirs: float) -> None:
        curve = pooled_curve((*volume, None) for volume in volumes)
        assert curve.dice_at(ours) >= curve.dice_at(theirs)

    return Row(
        "threshold over 100 validation volumes", "greedy search on concatenated voxels", math.nan, "never a lower Dice",
        ours, theirs, check,
    )  # fmt: skip


def augmentation_row() -> Row:
    volumes = np.stack([scan(seed)[0] for seed in range(32)])
    subjects = [torchio.ScalarImage(tensor=torch.from_numpy(v.transpose(2, 1, 0).copy())[None]) for v in volumes]
    transform = torchio.Compose([
        torchio.RandomGamma(p=0.5), torchio.RandomBiasField(p=0.25), torchio.RandomBlur(p=0.25),
        torchio.RandomGhosting(p=0.5),
    ])  # fmt: skip
    generator = torch.Generator().manual_seed(0)

    def ours() -> torch.Tensor:
        slices = torch.randint(SHAPE[0], (32, 1), generator=generator)
        return draw_augmented(volumes, torch.arange(32), slices, generator, 1.0)

    def theirs() -> torch.Tensor:
        slices = torch.randint(SHAPE[0], (32,), generator=generator).tolist()
        return torch.stack([transform(image).data[..., z] for image, z in zip(subjects, slices, strict=True)])

    def check(ours: torch.Tensor, theirs: torch.Tensor) -> None:
        assert ours.shape[0] == theirs.shape[0] == 32
        assert abs(ours.mean() - theirs.mean()) < 0.02  # each transform is compared exactly in test_augmentation.py

    return Row(
        "an augmented batch of 32 slices", "TorchIO on volumes, one slice kept", 20, "same distribution",
        ours, theirs, check,
    )  # fmt: skip


def permutation_row() -> Row:
    draw = np.random.default_rng(0)
    pairs = [(draw.normal(0.02 * k, 1, 30), draw.normal(0, 1, 30)) for k in range(4)]

    def ours() -> list[float]:
        return [permutation_test(a, b, 10_000, seed=1, paired=False) for a, b in pairs]

    def theirs() -> list[float]:
        return [mlxtend_test(a, b, method="approximate", num_rounds=10_000, seed=1) for a, b in pairs]

    def check(ours: list[float], theirs: list[float]) -> None:
        np.testing.assert_allclose(ours, theirs, atol=0.03)  # 4 standard errors of the difference of two draws

    return Row(
        "four permutation tests of 30 against 30 volumes", "mlxtend", 50, "p within Monte-Carlo error",
        ours, theirs, check,
    )  # fmt: skip


def noise_row() -> Row:
    if importlib.util.find_spec("numba") is None:  # opensimplex would run as plain Python, which is no comparison
        raise ModuleNotFoundError("numba is missing; start the benchmark with `make bench`, which installs it")
    seeds = np.arange(32)

    def ours() -> np.ndarray:
        return octave_noise(96, 96, seeds).numpy()

    def theirs() -> np.ndarray:
        fields = []
        for seed in seeds.tolist():
            noise = opensimplex.OpenSimplex(seed)
            octaves = [
                0.8**k * noise.noise2array(np.arange(96) * 2**k / 64, np.arange(96) * 2**k / 64) for k in range(6)
            ]
            fields.append(sum(octaves))
        return np.stack(fields)

    return Row(
        "simplex noise, 32 fields of 96 x 96", "opensimplex compiled by numba, field by field", 1, "to 2e-6",
        ours, theirs,
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=2e-6),
    )  # fmt: skip


def training_row() -> Row:
    return Row(
        "training step of a narrow cDDPM, 32 slices", "plain eager float32", 1.5, "losses to 1e-3",
        OwnProcess(our_training, 2), OwnProcess(their_training, 2),
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-3), threads=2,
    )  # fmt: skip


def inference_row() -> Row:
    return Row(
        "inference of a narrow cDDPM, 50 slices", "plain eager float32", 2, "to 1e-5 of the range",
        OwnProcess(our_inference, 2), OwnProcess(their_inference, 2),
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-5), threads=2,
    )  # fmt: skip


def extraction_row() -> Row:
    shard = Shard()

    def check(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
        for own, their in zip(ours[:THEIR_SCANS], theirs, strict=True):
            assert own.any()
            equal(own, their)

    return Row(
        f"brain extraction of {SCANS} scans (theirs: {THEIR_SCANS}, scaled; one round)", "one `hd-bet` per scan", 5,
        "equal masks", shard.ours, shard.theirs, check, part=THEIR_SCANS / SCANS, once=True,
    )  # fmt: skip


ROWS = {
    "median": median_row,
    "scoring": scoring_row,
    "threshold": threshold_row,
    "augmentation": augmentation_row,
    "permutation": permutation_row,
    "noise": noise_row,
    "training": training_row,
    "inference": inference_row,
    "extraction": extraction_row,
}

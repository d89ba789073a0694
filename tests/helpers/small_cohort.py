"""A small cohort for the scoring protocol: brains with bright lesions and reconstructions that lack them."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from uad.inference.outputs import Output
from uad.scoring.postprocessing import UNTOUCHED
from uad.scoring.protocol import RowKeys, ScoreSettings, VolumeToScore, score_cohort

SHAPE = (16, 40, 50)  # two iterations of erosion
KEYS = RowKeys(arm="ae-small", method="ae", modality="t2", fold=1, cohort="brats21", t_test="500")
SETTINGS = ScoreSettings(voxel_ml=0.008)
RAW = ScoreSettings(voxel_ml=0.008, variants={"full": UNTOUCHED})
COLUMNS = {
    "arm", "method", "modality", "fold", "cohort", "subject", "split", "site", "t_test", "variant",
    "dice", "auprc", "auroc", "prevalence", "voxels", "l1", "l1_lesion", "l1_healthy", "ssim", "psnr",
    "lpips", "lpips_backbone", "kld", "kld_entropy", "threshold", "dice_fpr01", "dice_fpr05",
    "dice_fpr10", "lesion_ml", "predicted_ml", "false_positive_ml", "false_positives", "score_top1",
    "score_top01",
}  # fmt: skip


def scan(subject, split, lesions=2, seed=None):
    """A smooth brain with bright lesions and a reconstruction that lacks them."""
    rng = np.random.default_rng(sum(map(ord, subject)) if seed is None else seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = (sum(axis**2 for axis in axes) < 0.85).astype(np.uint8)
    healthy = mask * (0.5 + 3 * ndimage.gaussian_filter(rng.standard_normal(SHAPE), 3)).clip(0.2, 0.8)
    label = np.zeros(SHAPE, np.uint8)
    for centre in rng.permutation(np.argwhere(ndimage.binary_erosion(mask, iterations=5)))[:lesions]:
        label[tuple(slice(c - 3, c + 3) for c in centre)] = 1
    image = (healthy + 0.3 * label).clip(0, 1).astype(np.float32)
    reconstruction = (healthy + 0.05 * rng.standard_normal(SHAPE) * mask).astype(np.float32)
    return VolumeToScore(subject, split, "siteA", image, mask, label, Output("reconstruction", reconstruction))


def score(cohort, settings=SETTINGS, **options):
    return score_cohort(lambda split: iter(cohort[split]), KEYS, settings, **options)


def changed(cohort, change):
    return {split: [replace(volume, **change(volume)) for volume in volumes] for split, volumes in cohort.items()}

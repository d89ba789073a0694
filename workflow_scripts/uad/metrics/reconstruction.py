"""How close a reconstruction is to its input: l1, SSIM, PSNR, histograms.  docs/paper.md#metrics, D21, D22"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

SSIM_SIGMA = 1.5  # voxels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for a data range of 1
PERCEPTUAL_SIGMAS = (1.0, 2.0, 4.0)  # pixels
HISTOGRAM_BINS = 500
KL_EPSILON = 1e-6


def l1_errors(image: np.ndarray, reconstruction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Mean absolute errors before post-processing (docs/paper.md#metrics).

    Args:
        image, reconstruction: [Z, Y, X], intensities in the units of [0, 1].
        label: [Z, Y, X], 0 none, 1 lesion, 2 excluded from evaluation.

    Returns:
        l1: over all voxels including background; l1_lesion: over lesion voxels, NaN without any;
        l1_healthy: over all voxels of label 0 including background. The l1 ratio is l1_lesion / l1_healthy.
    """
    error = np.abs(np.asarray(image, np.float32) - np.asarray(reconstruction, np.float32))
    return {"l1": _mean(error), "l1_lesion": _mean(error[label == 1]), "l1_healthy": _mean(error[label == 0])}


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


def ssim(image: np.ndarray, reconstruction: np.ndarray) -> float:
    """Mean structural similarity of two volumes, at most 1: `ssim_map` with a window of sigma 1.5.

    Args:
        image, reconstruction: [Z, Y, X]; background counts, as in the paper's reading (D21).
    """
    window = gaussian_window(SSIM_SIGMA, int(3.5 * SSIM_SIGMA + 0.5))
    return float(np.mean(ssim_map(image, reconstruction, (window, window, window))))


def gaussian_window(sigma: float, radius: int) -> np.ndarray:
    """Gaussian weights of 2 * radius + 1 voxels, of sum 1."""
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def ssim_map(image: np.ndarray, reconstruction: np.ndarray, windows: Sequence[np.ndarray]) -> np.ndarray:
    """Structural similarity at every voxel for a data range of 1, float64 [Z, Y, X], at most 1.

    With Gaussian windows of radius int(3.5 sigma + 0.5), mirrored at the borders, these are the numbers of
    torchmetrics' `structural_similarity_index_measure(data_range=1.0)`, given a `kernel_size` of the same radius.

    Args:
        windows: weights of the window along the last axes: three of them look at the volume, two at each slice alone.
    """
    # torchmetrics convolves with all 11^3 weights at once. Per volume [50, 96, 96] and on one thread it takes 10 times
    # as long (656 to 65 ms, best of 5) and 6 times the memory (175 to 31 MiB) in float32, and 24.5 GB in float64.

    def smooth(volume: np.ndarray) -> np.ndarray:
        for axis, window in zip((-1, -2, -3), reversed(windows), strict=False):
            volume = ndimage.correlate1d(volume, window, axis, mode="mirror")
        return volume

    x, y = np.asarray(image, np.float64), np.asarray(reconstruction, np.float64)
    mean_x, mean_y = smooth(x), smooth(y)
    variance = np.maximum(smooth(x * x) - mean_x**2, 0) + np.maximum(smooth(y * y) - mean_y**2, 0)
    covariance = smooth(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return luminance * (2 * covariance + SSIM_C2) / (variance + SSIM_C2)


def multiscale_dissimilarity(image: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Mean of (1 - SSIM) / 2 in fine to coarse Gaussian windows within the slice: float64 [Z, Y, X], 0 to 1.

    It stands in where a method was published with the spatial map of a perceptual distance (LPIPS).
    """
    windows = [gaussian_window(sigma, int(3.5 * sigma + 0.5)) for sigma in PERCEPTUAL_SIGMAS]
    similarity = sum(ssim_map(image, reconstruction, (window, window)) for window in windows) / len(windows)
    return np.clip((1 - similarity) / 2, 0, 1)


def psnr(image: np.ndarray, reconstruction: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB for a data range of 1, over all voxels; infinite for equal volumes.

    Args:
        image, reconstruction: [Z, Y, X]; values outside [0, 1] count as they are.
    """
    import torch  # with torchmetrics nearly 2 s to import: only arms with a reconstruction need them
    from torchmetrics.functional.image import peak_signal_noise_ratio

    # float64, because sums of float32 depend on the number of threads in the digits that the metric files keep
    first, second = (torch.from_numpy(np.asarray(volume, np.float64)) for volume in (reconstruction, image))
    return float(peak_signal_noise_ratio(first, second, data_range=1.0))


def histogram(values: np.ndarray) -> np.ndarray:
    """Shares of 500 equal bins over [0, 1] (docs/paper.md#metrics); values outside count in the end bins.

    Returns:
        float64 [500], sum 1; all NaN without values.
    """
    inside = np.clip(np.asarray(values, np.float64), 0, 1)
    counts, _ = np.histogram(inside, bins=HISTOGRAM_BINS, range=(0, 1))
    return counts / inside.size if inside.size else np.full(HISTOGRAM_BINS, np.nan)


def kl(p: np.ndarray, q: np.ndarray, epsilon: float = KL_EPSILON) -> float:
    """Kullback-Leibler divergence KL(p || q) in nats, at least 0 (D22).

    Args:
        p, q: histograms of sum 1.
        epsilon: added to every share of both, which are then scaled to sum 1, so that empty bins stay finite.
    """
    p, q = ((shares + epsilon) / np.sum(shares + epsilon) for shares in (p, q))
    return float(np.sum(p * np.log(p / q)))


def entropy_difference(p: np.ndarray, q: np.ndarray) -> float:
    """sum(p log p) - sum(q log q) in nats: the paper's formula as printed, which can be negative (D22).

    Args:
        p, q: histograms of sum 1.
    """
    return _negative_entropy(p) - _negative_entropy(q)


def _negative_entropy(shares: np.ndarray) -> float:
    if np.isnan(shares).any():
        return float("nan")
    filled = shares[shares > 0]
    return float(np.sum(filled * np.log(filled)))


def histogram_divergence(image: np.ndarray, reconstruction: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """Divergence of the reconstruction's histogram from the input's (docs/paper.md#metrics, Figure 3).

    Args:
        image, reconstruction: [Z, Y, X].
        where: [Z, Y, X] bool, voxels that count, e.g. the healthy brain.

    Returns:
        kld: KL(input || reconstruction); kld_entropy: the printed difference. NaN where no voxel counts.
    """
    p, q = histogram(image[where]), histogram(reconstruction[where])
    return {"kld": kl(p, q), "kld_entropy": entropy_difference(p, q)}

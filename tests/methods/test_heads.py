"""Heads against independent libraries, dense algebra and their papers' identities."""

import numpy as np
import pytest
import torch
from packed_arrays import batch_of
from torchmetrics.functional.image import structural_similarity_index_measure as torch_ssim

from uad.diffusion.process import q_sample
from uad.diffusion.schedule import cosine_schedule
from uad.methods import Scan, load_method
from uad.methods.mhd import pixel_distance

SHAPE = (12, 20, 24)


def built(name, source=None, **params):
    head = load_method(name)
    head = head(head.Params(**params))
    if source:
        head.source = source
    return head


def pair(seed=0):
    """A scan with background at its rim, and a reconstruction of it."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, bool)
    mask[:, 2:-2, 3:-3] = True
    image = (rng.random(SHAPE) * mask).astype(np.float32)
    reconstruction = (0.7 * image + 0.2 * rng.random(SHAPE) * mask).astype(np.float32)
    return Scan("a", image, mask, np.zeros(SHAPE, np.uint8), "t2"), reconstruction


def torchmetrics_map(image, reconstruction, sigma):
    """SSIM per voxel of torchmetrics, in the volume."""
    x, y = (torch.from_numpy(values).double()[None, None] for values in (image, reconstruction))
    # kernel_size only says how far a volume is padded along its last axis
    window = {"sigma": [sigma] * 3, "kernel_size": [2 * int(3.5 * sigma + 0.5) + 1] * 3}
    return torch_ssim(x, y, **window, data_range=1.0, return_full_image=True)[1][0, 0].numpy()


# --- SSIM-ens, arXiv 2403.14262 -----------------------------------------------------------------------------


def test_ssim_ens_of_one_window_is_torchmetrics_ssim():
    scan, reconstruction = pair()
    rated = built("ssim_ens", sigmas=[1.1]).rate(scan, reconstruction)
    expected = (1 - torchmetrics_map(scan.image, reconstruction, 1.1)).clip(min=0) * scan.mask
    np.testing.assert_allclose(rated, expected, atol=2e-6)


def test_ssim_ens_weighs_windows_by_what_they_see():
    scan, reconstruction = pair()
    rated = built("ssim_ens", sigmas=[0.5, 1.7]).rate(scan, reconstruction)
    small, large = (torchmetrics_map(scan.image, reconstruction, sigma) for sigma in (0.5, 1.7))
    weight = 1 / (1 + np.exp(small - large))  # softmax of -small and -large
    np.testing.assert_allclose(rated, (1 - weight * small - (1 - weight) * large) * scan.mask, atol=2e-6)


@pytest.mark.parametrize("name", ["ssim_ens", "iqa"])
def test_a_perfect_reconstruction_is_rated_0(name):
    scan, _ = pair()
    assert built(name).rate(scan, scan.image).max() < 1e-6


# --- IQA, arXiv 2408.08228 ----------------------------------------------------------------------------------


def test_iqa_lies_between_its_two_terms():
    scan, reconstruction = pair()
    difference = np.abs(scan.image - reconstruction) * scan.mask
    np.testing.assert_allclose(built("iqa", structure=0).rate(scan, reconstruction), difference, atol=1e-7)
    similarity = torch_ssim(
        *(torch.from_numpy(values).double()[:, None] for values in (scan.image, reconstruction)),
        sigma=1.5, data_range=1.0, return_full_image=True,
    )[1][:, 0].numpy()  # fmt: skip
    dissimilarity = (1 - similarity) / 2 * scan.mask
    np.testing.assert_allclose(
        built("iqa", structure=1, radius=5).rate(scan, reconstruction), dissimilarity, atol=2e-6
    )  # torchmetrics' window for sigma 1.5 has radius 5
    both = built("iqa", radius=5).rate(scan, reconstruction)
    np.testing.assert_allclose(both, 0.84 * dissimilarity + 0.16 * difference, atol=2e-6)


# --- MHD, arXiv 2407.12474 ----------------------------------------------------------------------------------


class Source:
    """Stands for a trained diffusion method: gives the reconstructions of a list, one after the other."""

    reads_noise_levels, slices_per_pass, per_fold = True, None, True

    def __init__(self, reconstructions):
        self.reconstructions, self.levels = list(reconstructions), []

    def reconstruct(self, network, volume, t_tests, generator):
        self.levels += t_tests
        return torch.stack([self.reconstructions.pop(0) for _ in t_tests])


def test_the_small_system_equals_the_inverse_of_the_whole_covariance():
    rng = np.random.default_rng(3)
    drawn, image = rng.random((10, 300)), rng.random(300)
    covariance = np.cov(drawn, rowvar=False) + 0.01 * np.eye(300)
    d = image - drawn.mean(axis=0)
    products = d * (np.linalg.inv(covariance) @ d)
    expected = np.sqrt(products.clip(min=0))
    ours = pixel_distance(torch.from_numpy(image), torch.from_numpy(drawn))
    assert (products < 0).any()  # the case that counts as 0
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_mhd_draws_each_reconstruction_and_rates_their_mean():
    scan, _ = pair()
    images = torch.from_numpy(scan.image)[:, None]
    spread = 0.1 * torch.rand(4, *images.shape, generator=torch.Generator().manual_seed(0))
    source = Source(images + spread - spread.mean(dim=0))  # their mean is the scan
    head = built("mhd", source, samples=4, t_test=250)
    rated = head.anomaly_map(None, batch_of(images), torch.Generator())
    assert source.levels == [250] * 4 and not head.postprocess
    assert rated.shape == images.shape and rated.abs().max() < 1e-5


def test_mhd_finds_what_no_reconstruction_shows():
    scan, _ = pair()
    healthy = 0.3 * torch.from_numpy(scan.image)[:, None]
    images = healthy.clone()
    images[4:8, :, 8:12, 10:14] = 0.9
    drawn = healthy + 0.01 * torch.rand(10, *images.shape, generator=torch.Generator().manual_seed(1)) * (healthy > 0)
    rated = built("mhd", Source(drawn)).anomaly_map(None, batch_of(images), torch.Generator())
    lesion = torch.zeros_like(images, dtype=torch.bool)
    lesion[4:8, :, 8:12, 10:14] = True
    assert rated[lesion].median() > 20 * rated[~lesion & (images > 0)].median()


# --- ANDi, arXiv 2312.01904 ---------------------------------------------------------------------------------


def test_andi_ranks_voxels_as_the_geometric_mean_of_the_posterior_means_errors():
    # the paper pools (mu_q - mu_theta)^2 over t: means of the posterior q(x_{t-1} | x_t, x_0), Ho et al. 2020, eq. 7
    scan, _ = pair()
    x0, schedule, levels = torch.from_numpy(scan.image)[:, None].double(), cosine_schedule(), [75, 120, 195]
    rng = torch.Generator().manual_seed(2)
    restored = [(x0 + 0.1 * torch.randn(x0.shape, generator=rng)) * (x0 > 0) for _ in levels]
    logs = torch.zeros_like(x0)
    for t_test, guess in zip(levels, restored, strict=True):
        t = torch.full((len(x0),), t_test - 1)
        abar, before, beta = schedule.abar[t_test - 1], schedule.abar[t_test - 2], schedule.betas[t_test - 1]
        x_t = q_sample(x0, t, torch.randn(x0.shape, generator=rng), schedule)
        mean_q, mean_theta = (
            before.sqrt() * beta / (1 - abar) * clean + (1 - beta).sqrt() * (1 - before) / (1 - abar) * x_t
            for clean in (x0, guess)
        )
        logs += ((mean_q - mean_theta) ** 2).log()
    pooled = (logs / len(levels)).exp()
    source = Source(guess.float() for guess in restored)
    ours = built("andi", source, t_tests=levels).anomaly_map(None, batch_of(x0.float()), torch.Generator()).double()
    assert source.levels == levels
    inside = batch_of(x0).masks
    ratio = ours[inside] ** 2 / pooled[inside]
    assert ratio.std() / ratio.mean() < 1e-3
    assert ours[~inside].max() == 0


def test_andi_may_noise_otherwise_than_its_network_was_trained():
    ddpm = load_method("ddpm")
    source = ddpm(ddpm.Params(noise={"kind": "pyramid", "discount": 0.7}))
    assert built("andi", source)._with_gaussian_noise().params.noise.kind == "gaussian"
    assert source.params.noise.kind == "pyramid"

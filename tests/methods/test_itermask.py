"""IterMask2: its frequencies, its threshold, and a loop that ends.  docs/methods/itermask.md"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from packed_arrays import store_of

from uad.config.model import TrainSettings
from uad.methods import Batch
from uad.methods.itermask import IterMask, IterMaskParams, high_frequencies, scaled, worst
from uad.networks.refinement import MaskRefinement
from uad.training.loop import train_arm
from uad.training.slices import SliceSource

DEPTH, HEIGHT, WIDTH = 6, 40, 33
UNET = {"base": 8, "multipliers": [1, 2], "blocks": 1, "attention_heads": 1, "head_channels": 8}
METHOD = IterMask(IterMaskParams(unet=UNET))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def volume():
    """Slices with an elliptic brain; the first has none."""
    y, x = np.indices((HEIGHT, WIDTH))
    inside = torch.from_numpy(((y - 19) / 15.5) ** 2 + ((x - 16) / 12) ** 2 < 1)
    masks = inside.expand(DEPTH, 1, HEIGHT, WIDTH).clone()
    masks[0] = False
    return Batch(torch.rand(masks.shape, generator=seeded(1)) * masks, masks, torch.arange(DEPTH), DEPTH, "t2")


@pytest.mark.parametrize(("shape", "radius"), [((40, 33), 7), ((24, 20), 15), ((16, 16), 3.5)])
def test_low_frequencies_keep_their_phase_and_lose_their_amplitude(shape, radius):
    images = torch.rand(3, 1, *shape, generator=seeded(), dtype=torch.float64)
    before, after = (np.fft.fft2(x.numpy()) for x in (images, high_frequencies(images, radius)))
    cycles = [np.fft.fftfreq(size, 1 / size) for size in shape]
    low = np.hypot(cycles[0][:, None], cycles[1]) < radius
    np.testing.assert_allclose(np.abs(after[..., low]), 1, atol=1e-9)
    np.testing.assert_allclose(after[..., low], before[..., low] / np.abs(before[..., low]), atol=1e-9)
    np.testing.assert_allclose(after[..., ~low], before[..., ~low], atol=1e-9)


def test_the_first_mask_is_the_worst_share_of_each_brain():
    scan = volume()
    error = torch.rand(scan.images.shape, generator=seeded(2))
    mask = worst(error, scan.masks, 0.6)
    assert not (mask & ~scan.masks).any() and not mask[0].any()
    shares = [(mask[z].sum() / scan.masks[z].sum()).item() for z in range(1, DEPTH)]
    assert shares == pytest.approx([0.6] * (DEPTH - 1), abs=0.01)
    assert all(error[z][mask[z]].min() > error[z][scan.masks[z] & ~mask[z]].max() for z in range(1, DEPTH))


def test_the_threshold_is_exceeded_by_the_share():
    network = MaskRefinement(UNET)
    assert network.exceeded_by(0.2) == 0  # nothing counted
    errors = torch.rand(50_000, generator=seeded())
    network.count(errors[:20_000])
    network.count(errors[20_000:])
    for share in (0.0, 0.2, 0.5):
        assert network.exceeded_by(share).item() == pytest.approx(torch.quantile(errors, 1 - share).item(), abs=1.1e-3)
    network.count(torch.full((50_000,), 1e6))
    assert network.exceeded_by(0.2).item() == pytest.approx(6.0)


class Stub(torch.nn.Module):
    """Guesses badly; fills as it is told and keeps what it was shown."""

    def __init__(self, fill, threshold=0.5):
        super().__init__()
        self.answer, self.shown, self.threshold = fill, [], threshold

    def guess(self, frequencies):
        return torch.full_like(frequencies, 10.0)

    def fill(self, shown):
        self.shown.append(shown)
        return self.answer(shown)

    def exceeded_by(self, share):
        return torch.tensor(self.threshold)


def hidden(network, scan):
    """Which pixels each pass was not shown; of a pass over some slices, of those that it covers."""
    shown = [passed[:, :1] for passed in network.shown]
    return [(pixels != scaled(scan.images)[-len(pixels) :]) for pixels in shown]


def test_a_network_that_fills_perfectly_empties_the_mask_at_once():
    scan = volume()
    network = Stub(lambda shown: scaled(scan.images)[-len(shown) :])
    assert not METHOD.anomaly_map(network, scan, seeded()).any()
    assert len(network.shown) == 1 and len(network.shown[0]) == DEPTH - 1  # the slice without brain never runs


def test_the_loop_ends_for_a_network_that_never_learns():
    scan = volume()
    network = Stub(lambda shown: torch.full_like(shown[:, :1], 100.0))
    found = METHOD.anomaly_map(network, scan, seeded())
    assert len(network.shown) == 1  # everything stays in the mask
    torch.testing.assert_close(found, (scaled(scan.images) - 100).square() * scan.masks)


def test_the_mask_only_shrinks_and_by_a_hundredth_at_least():
    scan, random = volume(), seeded(5)

    # fills in a random fifth of the pixels as they are, the rest badly
    def fill(shown):
        right = torch.rand(shown[:, :1].shape, generator=random) < 0.2
        return torch.where(right, scaled(scan.images)[-len(shown) :], 100.0)

    scan = Batch(scan.images[:2], scan.masks[:2], scan.positions[:2], 2, "t2")
    network = Stub(fill)
    METHOD.anomaly_map(network, scan, seeded())
    masks = hidden(network, scan)
    sizes = [mask.sum().item() for mask in masks]
    assert sizes[0] == pytest.approx(0.6 * scan.masks.sum().item(), abs=1)
    assert all(not (after & ~before).any() for before, after in pairwise(masks))
    assert all(after <= 0.99 * before for before, after in pairwise(sizes))
    assert 10 < len(sizes) <= np.log(sizes[0]) / -np.log(0.99)


def test_a_training_leaves_the_errors_of_one_validation(tmp_path):
    volumes = np.random.default_rng(0).random((5, 6, 20, 24)).astype(np.float32)
    counted = []
    for steps in (2, 6):
        plain = {"max_steps": steps, "batch_size": 4, "precision": "32-true", "validate_every": 2, "augment": False}
        settings = TrainSettings(**plain, validation="fixed")
        sources = [SliceSource(store_of(volumes), rows, settings, 2.0, METHOD) for rows in ([0, 1, 2, 3], [4])]
        network, _ = train_arm(METHOD, *sources, seed=1, checkpoints=tmp_path / f"{steps}", threads=1, progress=print)
        counted.append(network.errors.sum().item())
    # the slices and rectangles of every validation are the same
    assert counted[0] == counted[1] > 0

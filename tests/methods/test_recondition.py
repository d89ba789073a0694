"""What a cDDPM's network is told, and that nothing else changes."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from uad.common.packed import Batch
from uad.methods import Scan, load_method

SHAPE = (3, 16, 20)
LEVELS = [250, 500, 500]


class Told(nn.Module):
    """A network that answers with its condition alone: [B, 1] -> slices of that value in [-1, 1]."""

    def __init__(self):
        super().__init__()
        self.encoder = Means()

    def forward(self, x, t, condition):
        return condition[:, :, None, None].expand_as(x)


class Means(nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3))


def scan(seed):
    image = np.random.default_rng(seed).random(SHAPE).astype(np.float32)
    return Scan(f"scan{seed}", image, np.ones(SHAPE, bool), np.zeros(SHAPE, np.uint8), "t2")


TRAINING = [scan(seed) for seed in (10, 11, 12)]


def volume_of(scan):
    return Batch.of_volume(*(torch.from_numpy(a)[:, None] for a in (scan.image, scan.mask)), "t2")


def cddpm():
    method = load_method("cddpm")
    unet = {"base": 8, "multipliers": [1, 2], "blocks": 1, "attention_heads": 1, "head_channels": 8}
    return method(method.Params(unet=unet, encoder={"depth": 10, "width": 8}, condition={"dim": 8},
                                noise={"octaves": 2, "wavelength": 8}))  # fmt: skip


def head(condition, training=TRAINING):
    method = load_method("recondition")
    method = method(method.Params(condition=condition))
    method.attach(cddpm())
    if method.asks_for_training:
        method.see_training([partial(lambda scan: scan, scan) for scan in training])
    return method


def reconstructed(method, network, volume, seed=3):
    with torch.inference_mode():
        return method.reconstruct(network, volume, LEVELS, torch.Generator().manual_seed(seed))


def told(condition, seed=3, training=TRAINING):
    """The condition [levels, Z] that reaches the network, by one that answers with it."""
    found = reconstructed(head(condition, training), Told(), volume_of(scan(0)), seed)
    return 2 * found[:, :, 0, 0, 0] - 1


def means(scan):
    return torch.from_numpy(scan.image.mean(axis=(1, 2)))


def test_own_is_the_arm_itself_to_the_bit():
    torch.manual_seed(0)
    network, volume = cddpm().network(SHAPE[1:]).eval(), volume_of(scan(0))
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    arm = reconstructed(cddpm(), network, volume)
    assert torch.equal(reconstructed(head("own"), network, volume), arm)
    for condition in ("zeros", "other", "mean", "noised"):
        assert not torch.equal(reconstructed(head(condition), network, volume), arm), condition


def test_the_network_is_told_what_the_key_says():
    torch.testing.assert_close(told("own"), means(scan(0)).expand(3, -1))
    assert not told("zeros").any()
    mean = torch.stack([means(scan) for scan in TRAINING]).mean(dim=0)
    torch.testing.assert_close(told("mean"), mean.expand(3, -1))


def test_other_is_one_training_scan_of_the_same_places_for_all_levels():
    picks = set()
    for seed in range(12):
        found = told("other", seed)
        (pick,) = [n for n, scan in enumerate(TRAINING) if torch.allclose(found, means(scan).expand(3, -1), atol=1e-5)]
        assert torch.equal(found, told("other", seed))
        picks.add(pick)
    assert picks == {0, 1, 2}


class Seen(Told):
    """Keeps the noised slices that it gets."""

    def __init__(self):
        super().__init__()
        self.slices = []

    def forward(self, x, t, condition):
        self.slices.append(x)
        return super().forward(x, t, condition)


@pytest.mark.parametrize("condition", ["zeros", "other", "mean", "noised"])
def test_the_noise_is_that_of_the_arm_itself(condition):
    volume, networks = volume_of(scan(0)), (Seen(), Seen())
    reconstructed(cddpm(), networks[0], volume)
    reconstructed(head(condition), networks[1], volume)
    assert len(networks[0].slices) == len(LEVELS)
    for ours, theirs in zip(*(network.slices for network in networks), strict=True):
        assert torch.equal(ours, theirs)


def test_noised_is_the_encoding_of_what_the_network_sees():
    network = Seen()
    found = 2 * reconstructed(head("noised"), network, volume_of(scan(0)))[:, :, 0, 0, 0] - 1
    seen = torch.stack([(x[:, 0].mean(dim=(1, 2)) + 1) / 2 for x in network.slices])
    torch.testing.assert_close(found, seen)
    assert not torch.allclose(found[1], found[2])  # the level that stands twice is drawn twice


def test_only_other_scans_are_asked_for():
    assert [head(c).asks_for_training for c in ("own", "zeros", "noised", "other", "mean")] == [False] * 3 + [True] * 2

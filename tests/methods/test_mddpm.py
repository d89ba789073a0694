"""mDDPM: what its masking changes and what it leaves.  docs/methods/mddpm.md"""

import numpy as np
import pytest
import torch

from uad.diffusion.corruption import rectangles
from uad.methods import Batch
from uad.methods.mddpm import MaskedDDPM, MaskedDiffusionSettings, MaskingSettings, filtered, masked

SHAPE = (64, 1, 40, 33)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def brains(shape=SHAPE):
    """Slices with an elliptic brain, 31 rows high, and its mask; the first has none."""
    y, x = np.indices(shape[2:])
    inside = torch.from_numpy(((y - 19) / 15.5) ** 2 + ((x - 16) / 12) ** 2 < 1)
    masks = inside.expand(shape).clone()
    masks[0] = False
    return torch.rand(shape, generator=seeded(1)) * masks, masks


def test_outside_the_rectangles_nothing_changes_and_the_background_stays_0():
    images, masks = brains()
    seen = masked(images, masks, MaskingSettings(), seeded())
    hidden = rectangles(masks, 5, (0.09, 0.18), seeded())  # drawn first, from the same seed
    assert torch.equal(seen[~hidden], images[~hidden])
    assert not seen[~masks].any()
    assert (seen[hidden] != images[hidden]).float().mean() > 0.99


def test_rectangles_are_as_many_and_as_large_as_published():
    _, masks = brains((2000, 1, 40, 33))
    masks[0] = masks[1]
    # sides of a single rectangle: 0.09 to 0.18 of 31 rows are 2.8 to 5.6 pixels, a row more where both ends touch one
    single = rectangles(masks, 1, (0.09, 0.18), seeded(), least=1)
    whole = single.any(-1).sum((1, 2)), single.any(-2).sum((1, 2))
    assert all(sides.min() >= 1 and sides.max() <= 7 for sides in whole)
    assert all(sides.float().mean().item() == pytest.approx(0.135 * 31, abs=0.4) for sides in whole)
    # 0 to 5 with equal chance: one slice in six has none
    several = rectangles(masks, 5, (0.09, 0.18), seeded())
    assert (~several.flatten(1).any(1)).float().mean().item() == pytest.approx(1 / 6, abs=0.03)
    assert not (several & ~masks).any()


def test_a_filter_keeps_low_frequencies_or_removes_them():
    y = torch.arange(32) / 32
    slow, fast = (torch.cos(2 * np.pi * cycles * y)[:, None].expand(1, 1, 32, 32) for cycles in (2, 11))
    for seed in range(12):
        # with the square drawn from 2..10, the two waves are always on different sides of its border
        both = filtered(1.0 + slow + fast, (2, 10), seeded(seed))
        expected = 1 + slow if both.mean() > 0.5 else fast
        torch.testing.assert_close(both, expected, atol=1e-5, rtol=0)


def test_the_target_is_the_clean_slice():
    images, masks = brains((8, *SHAPE[1:]))
    method = MaskedDDPM(MaskedDiffusionSettings())
    batch = Batch(images, masks, torch.arange(8), 8, "t2")
    clean = 2 * images - 1
    assert method.loss(lambda x_t, t, condition: clean, batch, seeded()).item() == 0
    assert method.loss(lambda x_t, t, condition: clean + 0.25, batch, seeded()).item() == pytest.approx(0.25, rel=1e-5)


def test_what_is_noised_is_the_masked_slice(monkeypatch):
    images, masks = brains((8, *SHAPE[1:]))
    method = MaskedDDPM(MaskedDiffusionSettings())
    noised = []
    monkeypatch.setattr(type(method.denoiser), "noised", lambda self, x0, t, generator: noised.append(x0) or x0)
    batch = Batch(images, masks, torch.arange(8), 8, "t2")
    method.loss(lambda x_t, t, condition: x_t, batch, seeded())
    assert torch.equal(noised[0], 2 * masked(images, masks, MaskingSettings(), seeded()) - 1)

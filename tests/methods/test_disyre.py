"""DISYRE: its schedule, what its corruption changes, and the restoration in closed form.  docs/methods/disyre.md"""

import numpy as np
import pytest
import torch

from uad.diffusion.corruption import smooth_shapes
from uad.methods import Batch
from uad.methods.disyre import (
    DISYRE,
    DISYREParams,
    _Corruption,
    corrupted,
    intensity_classes,
    less_corrupted,
    schedule,
    step_of,
    steps_down,
    with_foreign_patch,
    with_other_intensity,
)

COUNT, HEIGHT, WIDTH = 64, 40, 33
DEGREES = np.sqrt(np.cumprod(1 - np.linspace(1e-3, 0.2, 100)))[::-1]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def brains():
    """Slices with an elliptic brain and its mask; the first has none."""
    y, x = np.indices((HEIGHT, WIDTH))
    inside = torch.from_numpy(((y - 19) / 15.5) ** 2 + ((x - 16) / 12) ** 2 < 1)
    masks = inside.expand(COUNT, 1, HEIGHT, WIDTH).clone()
    masks[0] = False
    return torch.rand(masks.shape, generator=seeded(1)) * masks, masks


def everywhere(degree, count=COUNT):
    """A corruption of one degree over whole slices."""
    shape = torch.ones(count, 1, HEIGHT, WIDTH)
    return _Corruption(shape, torch.full((count, 2), 19), torch.full((count,), degree))


def test_a_step_is_the_nearest_of_the_schedule():
    np.testing.assert_allclose(schedule().numpy(), DEGREES, rtol=1e-5)
    assert torch.equal(step_of(schedule()), torch.arange(100))
    degrees = torch.rand(500, generator=seeded())
    nearest = [min(range(100), key=lambda t: abs(DEGREES[t] - degree)) for degree in degrees.tolist()]
    assert step_of(degrees).tolist() == nearest
    assert step_of(torch.tensor([0.0, 1.0])).tolist() == [0, 99]


def test_steps_are_spaced_as_published():
    assert steps_down(5) == [99, 79, 59, 39, 19]  # "trailing" in the authors' scheduler
    assert steps_down(1) == [99] and steps_down(100) == list(range(99, -1, -1))


def test_a_corruption_stays_in_the_brain_and_the_range():
    images, masks = brains()
    altered, degree = corrupted(images, masks, seeded())
    assert torch.equal(altered[~masks], images[~masks])
    assert altered.min() >= 0 and altered.max() <= 1
    assert degree.min() >= 0 and degree.max() <= 1
    changed = (altered != images).flatten(1).any(1)
    assert not changed[0] and changed[1:].float().mean() > 0.9


def test_a_slice_that_leaves_the_range_is_not_cut_where_nothing_is_altered():
    images, masks = brains()
    altered, _ = corrupted(images * 1.5 - 0.2, masks, seeded())
    untouched = altered == images * 1.5 - 0.2
    assert untouched[~masks].all() and (altered[untouched] > 1).any() and (altered[untouched] < 0).any()


def test_a_shape_lies_in_the_brain_about_its_middle():
    _, masks = brains()
    shapes, middle = smooth_shapes(masks, (0.05, 0.25), seeded())
    assert not shapes[~masks].any() and shapes.min() >= 0 and shapes.max() <= 1
    places = torch.arange(1, COUNT), 0, middle[1:, 0], middle[1:, 1]
    assert masks[places].all() and (shapes[places] > 0.5).float().mean() > 0.9


def test_degree_0_changes_nothing():
    images, masks = brains()
    assert torch.equal(with_foreign_patch(images, masks, everywhere(0.0), seeded()), images)
    assert torch.equal(with_other_intensity(images, masks, everywhere(0.0), seeded()), images)


def test_a_foreign_patch_brings_structure_at_the_local_mean():
    masks = torch.ones(2, 1, HEIGHT, WIDTH, dtype=torch.bool)
    waves = 0.1 * torch.cos(2 * np.pi * torch.arange(WIDTH) / WIDTH).expand(HEIGHT, WIDTH)  # mean 0
    flat = torch.full((HEIGHT, WIDTH), 0.5)
    images = torch.stack([flat, 0.3 + waves])[:, None]
    whole = with_foreign_patch(images, masks, everywhere(1.0, 2), seeded())
    # the flat slice gets the other's waves, moved, at its own mean; the other gets a flat patch at its own mean
    np.testing.assert_allclose(np.sort(whole[0].flatten()), np.sort((0.5 + waves).flatten()), atol=1e-5)
    torch.testing.assert_close(whole[1], torch.full_like(whole[1], 0.3))
    half = with_foreign_patch(images, masks, everywhere(0.5, 2), seeded())
    torch.testing.assert_close(half, (images + whole) / 2)


def test_another_intensity_is_a_change_of_some_classes_by_the_degree():
    images, masks = brains()
    images = 0.5 * images + 0.3 * masks  # far enough from 0 and 1
    change = with_other_intensity(images, masks, everywhere(0.2), seeded()) - images
    assert change.abs().max() <= 0.2 + 1e-6
    signs = (change.flatten(1).max(1).values > 1e-6).int() - (change.flatten(1).min(1).values < -1e-6).int()
    assert set(signs[1:].tolist()) == {-1, 1} and signs[0] == 0
    shares = [(intensity_classes(images, masks)[1:][masks[1:]] == k).float().mean().item() for k in range(5)]
    assert shares == pytest.approx([0.2] * 5, abs=0.01)


def test_a_cold_step_is_the_published_one():
    x, h = (torch.rand(3, 1, 8, 8, generator=seeded(seed)) for seed in (1, 2))
    now, then = torch.tensor(0.8), torch.tensor(0.3)
    z = (x - (1 - now) * h) / now
    published = x - ((1 - now) * h + now * z) + ((1 - then) * h + then * z)
    torch.testing.assert_close(less_corrupted(x, h, now, then), published)


class Answers(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer, self.told = answer, []

    def forward(self, x, t):
        self.told.append(t)
        return self.answer(x)


def test_the_map_of_a_perfect_network_is_known():
    # h is right at once, so x_t - h shrinks with a_t: the map is |x - h| times the mean of a_t / a_99
    healthy, masks = brains()
    healthy = 0.5 * healthy
    scan = healthy + 0.3 * (torch.rand(healthy.shape, generator=seeded(3)) < 0.1) * masks
    volume = Batch(scan, masks, torch.arange(COUNT), COUNT, "t2")
    network, method = Answers(lambda x: healthy), DISYRE(DISYREParams(steps=4))
    found = method.anomaly_map(network, volume, seeded())
    share = DEGREES[[99, 74, 49, 24]].mean() / DEGREES[99]
    torch.testing.assert_close(found, (scan - healthy).abs() * float(share), atol=1e-5, rtol=1e-4)
    assert [t.unique().tolist() for t in network.told] == [[99], [74], [49], [24]]
    assert not method.anomaly_map(Answers(lambda x: x), volume, seeded()).any()


def test_the_network_is_told_the_degree_and_asked_for_the_clean_slice():
    images, masks = brains()
    network, batch = Answers(lambda x: images + 0.1), Batch(images, masks, torch.arange(COUNT), COUNT, "t2")
    assert DISYRE(DISYREParams()).loss(network, batch, seeded()).item() == pytest.approx(0.01, rel=1e-4)
    assert torch.equal(network.told[0], step_of(corrupted(images, masks, seeded())[1]))

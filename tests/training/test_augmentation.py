"""Augmentation of drawn slices against TorchIO on whole volumes (docs/paper.md#augmentation)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torchio as tio

from uad.training.augmentation import Parameters, augment, draw_augmented, draw_parameters, draw_plain

SHAPE = (11, 20, 17)  # Z, Y, X: odd and even, all different
SPACING = 2.0


@pytest.fixture(scope="module")
def volumes() -> np.ndarray:
    rng = np.random.default_rng(0)
    data = rng.random((3, *SHAPE), dtype=np.float32)
    data[:, :3, :4] = 0
    return data


def neutral(batch: int) -> Parameters:
    return Parameters(
        gamma=torch.ones(batch),
        bias=torch.zeros(batch, 20),
        blur_mm=torch.zeros(batch, 3),
        ghosts=torch.full((batch,), 4),
        ghost_axis=torch.zeros(batch, dtype=torch.long),
        ghost_intensity=torch.zeros(batch),
    )


def torchio_slices(volume: np.ndarray, transform: tio.Transform) -> torch.Tensor:
    """All axial slices [Z, 1, Y, X] of the transformed volume; TorchIO's axes are x, y, z."""
    tensor = torch.from_numpy(volume.transpose(2, 1, 0).copy())[None]
    image = tio.ScalarImage(tensor=tensor, affine=np.diag([SPACING, SPACING, SPACING, 1]))
    return transform(tio.Subject(image=image)).image.data[0].permute(2, 1, 0)[:, None]


def our_slices(volumes: np.ndarray, row: int, parameters: Parameters) -> torch.Tensor:
    depth = SHAPE[0]
    repeated = Parameters(*(value.repeat_interleave(depth, dim=0) for value in parameters))
    return augment(volumes, torch.full((depth,), row), torch.arange(depth)[:, None], repeated, SPACING)


def test_gamma_equals_torchio(volumes):
    ours = our_slices(volumes, 0, neutral(1)._replace(gamma=torch.tensor([1.3])))
    torch.testing.assert_close(ours, torchio_slices(volumes[0], tio.Gamma(1.3)), atol=1e-6, rtol=0)


def test_gamma_of_negative_values_equals_torchio(volumes):
    shifted = volumes - 0.3
    ours = our_slices(shifted, 1, neutral(1)._replace(gamma=torch.tensor([0.8])))
    torch.testing.assert_close(ours, torchio_slices(shifted[1], tio.Gamma(0.8)), atol=1e-6, rtol=0)


def test_bias_field_equals_torchio(volumes):
    coefficients = np.random.default_rng(1).uniform(-0.5, 0.5, 20)
    ours = our_slices(volumes, 1, neutral(1)._replace(bias=torch.tensor(coefficients)[None].float()))
    theirs = torchio_slices(volumes[1], tio.BiasField(coefficients.tolist(), order=3))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


# The last one reaches 16 voxels, farther than the volume is deep: the mirrored border repeats.
@pytest.mark.parametrize("std_mm", [(0.4, 1.1, 1.9), (2.0, 0.1, 0.9), (1.0, 0.0, 8.0)])
def test_blur_equals_torchio(volumes, std_mm):
    ours = our_slices(volumes, 2, neutral(1)._replace(blur_mm=torch.tensor([std_mm])))
    theirs = torchio_slices(volumes[2], tio.Blur(std_mm))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("axis", "ghosts"), itertools.product((0, 1, 2), (4, 7, 10)))
def test_ghosting_equals_torchio(volumes, axis, ghosts):
    parameters = neutral(1)._replace(
        ghosts=torch.tensor([ghosts]), ghost_axis=torch.tensor([axis]), ghost_intensity=torch.tensor([0.7])
    )
    theirs = torchio_slices(volumes[0], tio.Ghosting(ghosts, axis, 0.7, None))
    assert (theirs[:, 0] - torch.from_numpy(volumes[0])).abs().max() > 0.01
    torch.testing.assert_close(our_slices(volumes, 0, parameters), theirs, atol=1e-5, rtol=1e-5)


def test_all_four_together_equal_torchio(volumes):
    coefficients = np.random.default_rng(2).uniform(-0.5, 0.5, 20)
    for axis in (0, 1, 2):
        parameters = Parameters(
            gamma=torch.tensor([0.8]),
            bias=torch.tensor(coefficients)[None].float(),
            blur_mm=torch.tensor([[0.5, 1.7, 1.2]]),
            ghosts=torch.tensor([5]),
            ghost_axis=torch.tensor([axis]),
            ghost_intensity=torch.tensor([0.9]),
        )
        chain = tio.Compose(
            [
                tio.Gamma(0.8),
                tio.BiasField(coefficients.tolist(), order=3),
                tio.Blur((0.5, 1.7, 1.2)),
                tio.Ghosting(5, axis, 0.9, None),
            ]
        )
        theirs = torchio_slices(volumes[1], chain)
        torch.testing.assert_close(our_slices(volumes, 1, parameters), theirs, atol=2e-5, rtol=1e-5)


def random_chain() -> tio.Compose:
    return tio.Compose(
        [
            tio.RandomGamma(p=0.5),
            tio.RandomBiasField(p=0.25),
            tio.RandomBlur(p=0.25),
            tio.RandomGhosting(p=0.5),
        ]
    )


@pytest.fixture(scope="module")
def torchio_sample() -> tuple[list[dict[str, tio.Transform]], torch.Tensor]:
    """600 draws of TorchIO on a volume of 8x8x8: transforms of each draw by name, slices z = 5."""
    histories, images = [], []
    volume = torch.from_numpy(np.random.default_rng(3).random((1, 8, 8, 8), dtype=np.float32))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(600):
            image = tio.ScalarImage(tensor=volume, affine=np.diag([SPACING, SPACING, SPACING, 1]))
            subject = random_chain()(tio.Subject(image=image))
            histories.append({transform.name: transform for transform in subject.history})
            images.append(subject.image.data[0, :, :, 5].T)
    return histories, torch.stack(images)


def assert_same_mean(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Both [N, ...]: means and mean squares differ by less than 5 standard errors, in every component."""
    for power in (1, 2):
        a, b = ours.double() ** power, theirs.double() ** power
        error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() <= 5 * error + 1e-6).all()


@pytest.mark.slow
def test_frequencies_and_parameters_agree_with_torchio(torchio_sample):
    histories, _ = torchio_sample
    drawn = draw_parameters(6000, torch.Generator().manual_seed(1))
    present = {
        "Gamma": drawn.gamma != 1,
        "BiasField": (drawn.bias != 0).any(1),
        "Blur": (drawn.blur_mm != 0).any(1),
        "Ghosting": drawn.ghost_intensity != 0,
    }
    theirs = {name: [history[name] for history in histories if name in history] for name in present}
    for name, expected in (("Gamma", 0.5), ("BiasField", 0.25), ("Blur", 0.25), ("Ghosting", 0.5)):
        assert present[name].float().mean() == pytest.approx(expected, abs=0.03)
        assert len(theirs[name]) / len(histories) == pytest.approx(expected, abs=0.09)

    def values(name: str, attribute: str) -> torch.Tensor:
        return torch.as_tensor(np.array([getattr(t, attribute)["image"] for t in theirs[name]])).squeeze(-1)

    assert_same_mean(drawn.gamma[present["Gamma"]], values("Gamma", "gamma"))
    assert_same_mean(drawn.bias[present["BiasField"]], values("BiasField", "coefficients"))
    assert_same_mean(drawn.blur_mm[present["Blur"]], values("Blur", "std"))
    ghosted = present["Ghosting"]
    assert_same_mean(drawn.ghost_intensity[ghosted], values("Ghosting", "intensity"))
    assert_same_mean(drawn.ghosts[ghosted], values("Ghosting", "num_ghosts"))
    assert_same_mean(drawn.ghost_axis[ghosted], values("Ghosting", "axis"))
    assert set(drawn.ghosts.tolist()) == set(range(4, 11))
    assert set(drawn.ghost_axis.tolist()) == {0, 1, 2}


def test_augmented_slices_agree_with_torchio_in_distribution(torchio_sample):
    _, theirs = torchio_sample
    volume = np.random.default_rng(3).random((1, 8, 8, 8), dtype=np.float32).transpose(0, 3, 2, 1)
    rows, slices = torch.zeros(3000, dtype=torch.long), torch.full((3000, 1), 5)
    ours = draw_augmented(volume, rows, slices, torch.Generator().manual_seed(2), SPACING)[:, 0]
    assert_same_mean(ours, theirs)


def test_probability_zero_is_the_plain_slice_and_draws_are_reproducible(volumes):
    rows, slices = torch.tensor([2, 0, 1, 2]), torch.tensor([[0], [10], [5], [7]])
    plain = draw_plain(volumes, rows, slices)
    np.testing.assert_array_equal(plain[:, 0].numpy(), volumes[[2, 0, 1, 2], [0, 10, 5, 7]])
    untouched = draw_augmented(volumes, rows, slices, torch.Generator().manual_seed(0), SPACING, 0, 0, 0, 0)
    assert torch.equal(untouched, plain)
    first, again, other = (
        draw_augmented(volumes, rows, slices, torch.Generator().manual_seed(seed), SPACING) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_reads_a_list_of_float16_memmaps_and_only_the_slices_it_needs(tmp_path, volumes):
    class Counting:
        def __init__(self, array: np.ndarray):
            self.array, self.shape, self.read = array, array.shape, set()

        def __getitem__(self, z: int) -> np.ndarray:
            self.read.add(z)
            return self.array[z]

    np.save(tmp_path / "volumes.npy", volumes.astype(np.float16))
    stored = [Counting(array) for array in np.load(tmp_path / "volumes.npy", mmap_mode="r")]
    # Standard deviation 1 mm at 2 mm spacing: 0.5 voxels, cut at 4 * 0.5 = 2 voxels.
    parameters = neutral(2)._replace(blur_mm=torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    images = augment(stored, torch.tensor([0, 2]), torch.tensor([[4], [6]]), parameters, SPACING)
    assert images.dtype == torch.float32
    assert [volume.read for volume in stored] == [{4}, set(), {4, 5, 6, 7, 8}]
    np.testing.assert_allclose(images[0, 0], volumes[0, 4], atol=1e-3)

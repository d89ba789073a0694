"""Training on slices with their neighbours: runs of slices, as the svae draws them, a window, the whole volume."""

import numpy as np
import pytest
import torch
from packed_arrays import batch_of, store_of

from uad.common.errors import InputError
from uad.common.packed import WHOLE_VOLUME, Batch
from uad.config.model import TrainSettings
from uad.methods import Method, load_method
from uad.training.augmentation import draw_augmented
from uad.training.loop import train_arm
from uad.training.slices import SliceSource

VOLUMES = np.random.default_rng(0).random((10, 6, 16, 16)).astype(np.float32)
VOLUMES[:, :, :3] = 0  # background


class Window(Method):
    """Asks for `n` slices; with `learns` its loss is of all of them."""

    def __init__(self, n, learns=False):
        super().__init__(None)
        self.context, self.learns_context = n, learns


def source(rows, method, volumes=VOLUMES, **changes):
    plain = {"max_steps": 4, "batch_size": 4, "precision": "32-true", "validate_every": 2, "validation_slices": 4}
    return SliceSource(store_of(volumes), rows, TrainSettings(**{**plain, **changes}), 2.0, method)


def place(image):
    """(volume, slice) of an image [Y, X]."""
    (found,) = np.argwhere((image.numpy() == VOLUMES).all((2, 3)))
    return tuple(found.tolist())


def runs(batch):
    """(volume, slice) of every slice of every sample."""
    return [[place(image) for image in sample] for sample in batch.context]


def test_a_batch_holds_runs_of_fewer_volumes_where_all_slices_count():
    drawn = source(list(range(10)), Window(2, learns=True), augment=False)
    rows = drawn.volumes_of_step(0, seed=1)
    assert len(rows) == 2
    firsts = []
    for seed in range(40):
        for row, (one, two) in zip(rows, runs(drawn.draw(rows, seed)), strict=True):
            assert one[0] == two[0] == row and two[1] == one[1] + 1
            firsts.append(one[1])
    assert sorted(set(firsts)) == [0, 1, 2, 3, 4]  # of 6 slices


@pytest.mark.parametrize("n", [3, 4, 11])
def test_a_window_lies_around_every_slice_and_is_0_beyond_the_volume(n):
    drawn = source(list(range(10)), Window(n), augment=False)
    rows = drawn.volumes_of_step(0, seed=1)
    assert len(rows) == 4  # a sample counts once
    seen = set()
    for seed in range(40):
        batch = drawn.draw(rows, seed)
        assert batch.context.shape == (4, n, 16, 16)
        for row, z, image, window in zip(rows, batch.positions.tolist(), batch.images, batch.context, strict=True):
            assert place(image[0]) == (row, z)
            seen.add(z)
            for k, slice_ in enumerate(window):
                at = z - n // 2 + k
                assert np.array_equal(slice_, VOLUMES[row, at] if 0 <= at < 6 else np.zeros((16, 16)))
    assert seen == set(range(6))


@pytest.mark.parametrize("augment", [False, True])
def test_the_whole_volume_comes_with_a_slice(augment):
    drawn = source(list(range(10)), Window(WHOLE_VOLUME), augment=augment)
    batch = drawn.draw(np.array([3, 7, 3, 1]), 5)
    assert batch.context.shape == (4, 6, 16, 16) and batch.depth == 6
    for z, image, volume in zip(batch.positions, batch.images, batch.context, strict=True):
        assert torch.equal(image[0], volume[z])
    if not augment:
        assert np.array_equal(batch.context, VOLUMES[[3, 7, 3, 1]])


def test_a_batch_says_where_it_comes_from():
    batch = source(list(range(10)), Window(1), augment=False).draw(np.array([3, 7, 3, 1]), 5)
    assert batch.modality == "t2" and batch.depth == 6 and batch.context is None and len(batch) == 4
    assert [place(image[0]) for image in batch.images] == list(zip([3, 7, 3, 1], batch.positions.tolist(), strict=True))
    assert batch.masks.dtype == torch.bool and torch.equal(batch.masks, batch.images > 0)


def test_a_volume_gives_every_slice_the_same_context_in_training_and_at_inference():
    images = torch.from_numpy(VOLUMES[2])[:, None]
    for n in (1, 3, 4, WHOLE_VOLUME):
        whole, drawn = batch_of(images, n), source([2], Window(n), augment=False)
        for seed in range(5):
            batch = drawn.draw(np.array([2]), seed)
            z = batch.positions.item()
            for name in ("images", "masks", *["context"] * (n != 1)):
                assert torch.equal(getattr(whole, name)[z], getattr(batch, name)[0]), name


def test_a_batch_moves_as_a_whole():
    batch = Batch.of_volume(torch.ones(4, 1, 5, 5), torch.ones(4, 1, 5, 5).bool(), "t1", 3).to("meta")
    tensors = (batch.images, batch.masks, batch.positions, batch.context)
    assert all(tensor.device.type == "meta" for tensor in tensors) and (batch.depth, batch.modality) == (4, "t1")


def test_an_epoch_of_runs_draws_each_volume_once():
    drawn = source(list(range(10)), Window(2, learns=True))
    seen = np.concatenate([drawn.volumes_of_step(step, seed=1) for step in range(5)])
    assert sorted(seen.tolist()) == list(range(10))


def test_single_slices_are_drawn_and_augmented_in_one_stream():
    rows = np.arange(4)
    generator = torch.Generator().manual_seed(5)
    slices = torch.randint(6, (4,), generator=generator)[:, None]
    expected = draw_augmented(VOLUMES, torch.from_numpy(rows), slices, generator, 2.0)
    assert torch.equal(source([0], Window(1)).draw(rows, 5).images, expected)


def test_the_slices_of_a_sample_share_their_augmentation():
    # every slice of a volume is the same and gamma acts pixel by pixel: one exponent gives one image
    alike = np.repeat(VOLUMES[:, :1], 6, axis=1)
    always = {"gamma": 1, "bias_field": 0, "blur": 0, "ghosting": 0}
    drawn = source([0], Window(4, learns=True), alike, batch_size=8, augmentation=always)
    one, other = drawn.draw(np.array([3, 3]), 1).context
    assert all(torch.equal(one[0], one[k]) and torch.equal(other[0], other[k]) for k in range(4))
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize(("chunk", "starts"), [(2, [1, 3]), (4, [1])])
def test_fixed_validation_takes_evenly_spaced_runs(chunk, starts):
    # 4 validation slices per volume of 6: two runs of 2, or one of 4
    batches = list(source([7, 8, 9], Window(chunk, learns=True)).validation_batches(1))
    expected = [[(row, start + k) for k in range(chunk)] for row in (7, 8, 9) for start in starts]
    assert [run for batch in batches for run in runs(batch)] == expected
    assert all(len(batch) <= 4 // chunk for batch in batches)


def test_runs_that_do_not_fit_are_refused():
    for chunk, batch_size in ((3, 4), (8, 8)):
        with pytest.raises(InputError, match=rf"params.chunk is {chunk}.*batch_size \({batch_size}\)"):
            source([0], Window(chunk, learns=True), batch_size=batch_size)


def test_the_svae_trains_and_reads_volumes_of_any_length(tmp_path):
    svae = load_method("svae")
    method = svae(svae.Params(z_dim=4, chunk=2))
    _, curve = train_arm(
        method, source(list(range(8)), method), source([8, 9], method),
        seed=0, checkpoints=tmp_path, threads=1, progress=lambda line: None,
    )  # fmt: skip
    assert [row["step"] for row in curve] == [2, 4]
    network = method.network((16, 16)).eval()
    with torch.inference_mode():
        for length in (1, 5, 6):
            volume = batch_of(torch.from_numpy(VOLUMES[0, :length])[:, None])
            assert method.reconstruct(network, volume, [500], torch.Generator()).shape == (1, length, 1, 16, 16)

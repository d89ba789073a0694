"""Training on chunks: consecutive slices of one volume, as the svae draws them.  docs/paper.md#svae"""

import numpy as np
import pytest
import torch

from uad.common.errors import InputError
from uad.config.model import TrainSettings
from uad.methods import load_method
from uad.training.augmentation import draw_augmented
from uad.training.loop import train_arm
from uad.training.slices import SliceSource

VOLUMES = np.random.default_rng(0).random((10, 6, 16, 16)).astype(np.float32)


def source(rows, chunk, volumes=VOLUMES, **changes):
    plain = {"max_steps": 4, "batch_size": 4, "precision": "32-true", "validate_every": 2, "validation_slices": 4}
    return SliceSource(volumes, rows, TrainSettings(**{**plain, **changes}), 2.0, chunk)


def places(images):
    """(volume, slice) of each image."""
    found = [np.argwhere((image.numpy() == VOLUMES).all((2, 3))) for image in images[:, 0]]
    return [tuple(int(n) for n in place[0]) for place in found]


def test_a_batch_holds_consecutive_slices_of_fewer_volumes():
    drawn = source(list(range(10)), 2, augment=False)
    rows = drawn.volumes_of_step(0, seed=1)
    assert len(rows) == 2
    firsts = []
    for seed in range(40):
        which = places(drawn.draw(rows, seed))
        assert [row for row, _ in which] == rows.repeat(2).tolist()
        assert which[1][1] == which[0][1] + 1 and which[3][1] == which[2][1] + 1
        firsts += [which[0][1], which[2][1]]
    assert sorted(set(firsts)) == [0, 1, 2, 3, 4]  # of 6 slices


def test_an_epoch_in_chunks_draws_each_volume_once():
    drawn = source(list(range(10)), 2)
    seen = np.concatenate([drawn.volumes_of_step(step, seed=1) for step in range(5)])
    assert sorted(seen.tolist()) == list(range(10))


def test_single_slices_are_drawn_and_augmented_as_before():
    rows = np.arange(4)
    generator = torch.Generator().manual_seed(5)
    slices = torch.randint(6, (4,), generator=generator)
    expected = draw_augmented(VOLUMES, torch.from_numpy(rows), slices, generator, 2.0)
    assert torch.equal(source([0], 1).draw(rows, 5), expected)


def test_the_slices_of_a_chunk_share_their_augmentation():
    # every slice of a volume is the same and gamma acts pixel by pixel: one exponent gives one image
    alike = np.repeat(VOLUMES[:, :1], 6, axis=1)
    always = {"gamma": 1, "bias_field": 0, "blur": 0, "ghosting": 0}
    images = source([0], 4, alike, batch_size=8, augmentation=always).draw(np.array([3, 3]), 1)
    assert all(torch.equal(images[0], images[k]) and torch.equal(images[4], images[4 + k]) for k in range(4))
    assert not torch.equal(images[0], images[4])


@pytest.mark.parametrize(("chunk", "starts"), [(2, [1, 3]), (4, [1])])
def test_fixed_validation_takes_evenly_spaced_chunks(chunk, starts):
    # 4 validation slices per volume of 6: two chunks of 2, or one of 4
    batches = source([7, 8, 9], chunk).validation_batches(1)
    expected = [(row, start + k) for row in (7, 8, 9) for start in starts for k in range(chunk)]
    assert [place for batch in batches for place in places(batch)] == expected
    assert all(len(batch) <= 4 and len(batch) % chunk == 0 for batch in batches)


def test_chunks_that_do_not_fit_are_refused():
    for chunk, batch_size in ((3, 4), (8, 8)):
        with pytest.raises(InputError, match=rf"params.chunk is {chunk}.*batch_size \({batch_size}\)"):
            source([0], chunk, batch_size=batch_size)


def test_the_svae_trains_and_reads_volumes_of_any_length(tmp_path):
    svae = load_method("svae")
    method = svae(svae.Params(z_dim=4, chunk=2))
    network, curve = train_arm(
        method, source(list(range(8)), 1), source([8, 9], 1),
        seed=0, checkpoints=tmp_path, threads=1, progress=lambda line: None,
    )  # fmt: skip
    assert [row["step"] for row in curve] == [2, 4]
    with torch.inference_mode():
        for length in (1, 5, 6):
            images = torch.from_numpy(VOLUMES[0, :length])[:, None]
            assert method.reconstruct(network, images, [500], torch.Generator()).shape == (1, length, 1, 16, 16)

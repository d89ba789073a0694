"""Training: which slices are drawn, and that a killed run ends where an uninterrupted one does."""

import numpy as np
import pytest
import torch

from uad.config.model import TrainSettings
from uad.errors import InputError
from uad.methods import load_method
from uad.training import SliceSource, train_arm

VOLUMES = np.random.default_rng(0).random((10, 6, 16, 16)).astype(np.float32)


def settings(**changes):
    plain = {
        "max_steps": 12,
        "batch_size": 4,
        "precision": "32-true",
        "validate_every": 4,
        "validation_slices": 2,
    }
    return TrainSettings(**{**plain, **changes})


def source(rows, **changes):
    return SliceSource(VOLUMES, rows, settings(**changes), 2.0)


def test_an_epoch_draws_each_volume_once_and_drops_the_incomplete_batch():
    # paper_spec 4: one slice per volume and epoch, drop_last: 10 volumes in batches of 4 are 2 steps
    drawn = source(list(range(10)))
    for epoch in range(3):
        seen = np.concatenate([drawn.volumes_of_step(2 * epoch + step, seed=1) for step in range(2)])
        assert len(seen) == len(set(seen.tolist())) == 8
    assert not np.array_equal(drawn.volumes_of_step(0, 1), drawn.volumes_of_step(2, 1))


def test_a_cohort_smaller_than_a_batch_still_trains():
    drawn = source([7, 8, 9]).volumes_of_step(0, seed=1)
    assert len(drawn) == 4 and set(drawn.tolist()) <= {7, 8, 9}
    many = np.concatenate([source([7, 8, 9]).volumes_of_step(step, seed=1) for step in range(30)])
    assert np.bincount(many, minlength=10)[7:].tolist() == [40, 40, 40]  # 120 draws of 3 volumes


def test_slices_follow_from_the_step_alone_and_are_uniform():
    drawn = source(list(range(10)), augment=False)
    rows = np.zeros(600, int)
    first, again = drawn.draw(rows, 5), drawn.draw(rows, 5)
    assert torch.equal(first, again)
    which = [int(np.argmin(((VOLUMES[0] - image.numpy()) ** 2).sum((1, 2)))) for image in first[:, 0]]
    counts = np.bincount(which, minlength=6)
    assert counts.min() > 60  # 100 expected, standard deviation 9


def test_fixed_validation_repeats_and_random_validation_does_not():
    fixed = source([0, 1], validation="fixed")
    assert all(torch.equal(a, b) for a, b in zip(fixed.validation_batches(1), fixed.validation_batches(2), strict=True))
    assert sum(len(batch) for batch in fixed.validation_batches(1)) == 4
    random = source([0, 1], validation="random")  # D14: one random, augmented slice per volume
    assert sum(len(batch) for batch in random.validation_batches(1)) == 2
    assert not torch.equal(random.validation_batches(1)[0], random.validation_batches(2)[0])


class _Killed(Exception):
    pass


def trained(folder, stop_at=None):
    """Train the smallest conditioned arm; `stop_at` kills the run at that validation."""
    method = load_method("cddpm")
    tiny = method(
        method.Params(
            unet={"base": 8, "multipliers": [1], "blocks": 1, "attention_heads": 1, "head_channels": 8},
            encoder={"depth": 10, "width": 8, "drop_path": 0.2},
            condition={"dim": 8},
            noise={"octaves": 2, "wavelength": 8},
        )
    )
    lines = []

    def progress(line):
        lines.append(line)
        if stop_at and line.startswith(f"step {stop_at}/"):
            raise _Killed

    network, curve = train_arm(
        tiny, source(list(range(8))), source([8, 9]), seed=3, checkpoints=folder, threads=1, progress=progress
    )
    return network.state_dict(), curve, lines


def test_a_killed_training_resumes_to_the_same_result(tmp_path):
    whole, curve, _ = trained(tmp_path / "whole")
    with pytest.raises(_Killed):
        trained(tmp_path / "killed", stop_at=8)
    resumed, resumed_curve, lines = trained(tmp_path / "killed")
    assert any("resuming at step" in line for line in lines)
    assert [row["step"] for row in curve] == [4, 8, 12]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert resumed_curve == curve


def test_the_best_checkpoint_by_validation_is_kept(tmp_path):
    _, curve, _ = trained(tmp_path)
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert kept["global_step"] == min(curve, key=lambda row: row["val_loss"])["step"]


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path):
    method = load_method("ae")(load_method("ae").Params(z_dim=4))
    broken = SliceSource(np.full_like(VOLUMES, np.nan), [0, 1], settings(augment=False), 2.0)
    with pytest.raises(InputError, match="nan at step 0"):
        train_arm(method, broken, source([8]), seed=0, checkpoints=tmp_path, threads=1, progress=print)

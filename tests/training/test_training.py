"""Training: which slices are drawn, and that a killed run ends where an uninterrupted one does."""

import numpy as np
import pytest
import torch
from packed_arrays import store_of
from tiny import TINY

from uad.common.errors import InputError
from uad.config.model import TrainSettings
from uad.methods import known_methods, load_method
from uad.networks.weights import recipe_of, save_model
from uad.training.checkpoints import write_curve
from uad.training.loop import narrow_in_float32, precision_here, train_arm
from uad.training.slices import SliceSource, Steps

VOLUMES = np.random.default_rng(0).random((10, 6, 16, 16)).astype(np.float32)
AE = load_method("ae")(load_method("ae").Params(z_dim=4))


def settings(**changes):
    plain = {
        "max_steps": 12,
        "batch_size": 4,
        "precision": "32-true",
        "validate_every": 4,
        "validation_slices": 2,
    }
    return TrainSettings(**{**plain, **changes})


def source(rows, method=AE, **changes):
    return SliceSource(store_of(VOLUMES), rows, settings(**changes), 2.0, method)


def test_an_epoch_draws_each_volume_once_and_drops_the_incomplete_batch():
    # docs/paper.md#slices: one slice per volume and epoch, drop_last: 10 volumes in batches of 4 are 2 steps
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
    assert torch.equal(first.images, again.images) and torch.equal(first.positions, again.positions)
    which = [int(np.argmin(((VOLUMES[0] - image.numpy()) ** 2).sum((1, 2)))) for image in first.images[:, 0]]
    assert which == first.positions.tolist()
    counts = np.bincount(which, minlength=6)
    assert counts.min() > 60  # 100 expected, standard deviation 9


def test_fixed_validation_repeats_and_random_validation_does_not():
    fixed = source([0, 1], validation="fixed")
    assert all(
        torch.equal(a.images, b.images)
        for a, b in zip(fixed.validation_batches(1), fixed.validation_batches(2), strict=True)
    )
    assert sum(len(batch) for batch in fixed.validation_batches(1)) == 4
    random = source([0, 1], validation="random")  # D14: one random, augmented slice per volume
    assert sum(len(batch) for batch in random.validation_batches(1)) == 2
    assert not torch.equal(next(random.validation_batches(1)).images, next(random.validation_batches(2)).images)


SITES = ["Guys", "HH", "IOP", "HH", "Guys", "HH", "Guys", "IOP", "HH", "Guys"]


def without(*sites, rows=range(10), **changes):
    """A source of volumes whose voxels all have the value row / 10, without these sites."""
    images = np.repeat(np.arange(1, 11) / 10, 6 * 16 * 16).reshape(10, 6, 16, 16).astype(np.float32)
    asked = settings(without_sites=list(sites), augment=False, **changes)
    return SliceSource(store_of(images, sites=SITES), list(rows), asked, 2.0, AE)


def rows_of(batch):
    """The rows that slices come from, read off their values."""
    return {round(10 * float(value)) - 1 for value in batch.images.amax((1, 2, 3))}


@pytest.mark.parametrize("validation", ["fixed", "random"])
def test_a_training_without_a_site_never_draws_a_slice_of_it(validation):
    source = without("HH", validation=validation)
    others = {0, 2, 4, 6, 7, 9}  # by SITES
    drawn = [source.draw(source.volumes_of_step(step, 1), step) for step in range(60)]
    assert set().union(*map(rows_of, drawn)) == others
    assert set().union(*map(rows_of, source.validation_batches(1))) == others
    # an epoch is one of the other sites' scans: 6 in batches of 4 are one step
    assert set(without("HH").volumes_of_step(0, 1)) < others
    two = without("HH", "Guys", validation=validation)
    assert set().union(*map(rows_of, two.validation_batches(1))) == {2, 7}


def test_without_a_site_the_loaders_steps_have_none_of_it():
    steps = [batch for _, batch in Steps(without("IOP", max_steps=40), 1, 0)]
    assert len(steps) == 40 and set().union(*map(rows_of, steps)) == {0, 1, 3, 4, 5, 6, 8, 9}


def test_a_site_to_go_without_has_to_be_there_and_leave_others():
    with pytest.raises(InputError, match=r"no site HHH; their sites are: Guys, HH, IOP"):
        without("HHH")
    with pytest.raises(InputError, match=r"without HH none of 2 scans of a split is left"):
        without("HH", rows=[1, 3])
    with pytest.raises(InputError, match="no site HH; their sites are: none"):
        source([0, 1], without_sites=["HH"])


class _Killed(Exception):
    pass


def trained(name, folder, stop_at=None, **options):
    """Train the smallest form of an arm; `stop_at` kills the run at that validation."""
    method = load_method(name)
    tiny = method(method.Params(**TINY[name]))
    lines = []

    def progress(line):
        lines.append(line)
        if stop_at and line.startswith(f"step {stop_at}/"):
            raise _Killed

    network, curve = train_arm(
        tiny,
        source(list(range(8)), tiny),
        source([8, 9], tiny),
        seed=3,
        checkpoints=folder,
        threads=1,
        progress=progress,
        **options,
    )
    return network.state_dict(), curve, lines


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stop_at"), [("cddpm", 4), ("cddpm", 8), ("fanogan", 4), ("fanogan", 8)])
def test_a_killed_training_resumes_to_the_same_result(name, stop_at, tmp_path):
    whole, curve, _ = trained(name, tmp_path / "whole")
    with pytest.raises(_Killed):
        trained(name, tmp_path / "killed", stop_at)
    resumed, resumed_curve, lines = trained(name, tmp_path / "killed")
    assert any("resuming at step" in line for line in lines) == (stop_at > 4)  # the first checkpoint follows step 4
    assert [row["step"] for row in curve] == [4, 8, 12]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert resumed_curve == curve


def test_a_job_killed_after_its_last_step_has_its_curve(tmp_path):
    whole, curve, _ = trained("cddpm", tmp_path)
    again, same_curve, _ = trained("cddpm", tmp_path)
    assert same_curve == curve and all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_training_that_no_validation_can_judge_is_refused(tmp_path):
    method = load_method("fanogan")
    tiny = method(method.Params(**(TINY["fanogan"] | {"gan_share": 0.9})))  # the encoder's turn comes after step 11
    with pytest.raises(InputError, match=r"max_steps 12 and train\.validate_every 5 leave no validation after step 11"):
        train_arm(
            tiny, source([0, 1, 2], validate_every=5), source([8]), seed=0, checkpoints=tmp_path, threads=1,
            progress=print,
        )  # fmt: skip


def test_parts_train_in_turns_and_are_judged_when_all_have(tmp_path):
    # 12 steps: two rounds of critic, critic, generator, then six of the encoder
    _, curve, _ = trained("fanogan", tmp_path)
    adversarial = {"train_loss_critic", "train_loss_generator", "critic_distance", "gradient_penalty"}
    assert adversarial <= set(curve[0]) and not adversarial & set(curve[2])
    assert "train_loss_encoder" in curve[2] and "train_loss_encoder" not in curve[0]
    assert ["val_loss" in row for row in curve] == [False, True, True]
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] > 6


def test_a_checkpoint_of_another_recipe_is_refused_early(tmp_path):
    with pytest.raises(_Killed):
        trained("cddpm", tmp_path, stop_at=8, recipe="old")
    with pytest.raises(InputError, match=r"made by the recipe 'old', this training's is 'new'.*delete"):
        trained("cddpm", tmp_path, recipe="new")
    (tmp_path / "last.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"last\.ckpt: cannot be read; delete"):
        trained("cddpm", tmp_path, recipe="old")


def test_the_best_checkpoint_by_validation_is_kept(tmp_path):
    _, curve, _ = trained("cddpm", tmp_path)
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert kept["global_step"] == min(curve, key=lambda row: row["val_loss"])["step"]


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_scans(tmp_path):
    method = load_method("ae")(load_method("ae").Params(z_dim=4))
    volumes = VOLUMES.copy()
    volumes[3] = np.nan
    names = [f"scan{row}" for row in range(10)]
    broken = SliceSource(store_of(volumes, names), list(range(10)), settings(augment=False), 2.0, AE)
    step = next(step for step in range(12) if 3 in broken.volumes_of_step(step, 0))
    with pytest.raises(InputError, match=f"nan at step {step}, batch of .*scan3"):
        train_arm(method, broken, source([8]), seed=0, checkpoints=tmp_path, threads=1, progress=print)


def test_the_learning_curve_shows_the_terms_of_the_loss(tmp_path):
    method = load_method("vae")(load_method("vae").Params(z_dim=4))
    _, rows = train_arm(method, source([0, 1]), source([8]), seed=0, checkpoints=tmp_path, threads=1, progress=print)
    write_curve(rows, tmp_path / "log.csv")
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "step,train_loss,val_loss,kl" and len(lines) == 4
    assert all(float(line.split(",")[3]) > 0 for line in lines[1:])


@pytest.mark.parametrize(
    "able, chosen",
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16-mixed"),
        ({"avx512_bf16": False, "avx2": True}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_auto_trains_in_bfloat16_only_where_the_processor_computes_it(monkeypatch, able, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert precision_here("auto") == chosen
    assert precision_here("32-true") == "32-true"


_SMALL = {
    **TINY,
    "vae": TINY["ae"],
    "svae": {**TINY["ae"], "chunk": 2},
    "dae": {"width": 4, "depth": 2},
    **{name: {key: TINY["cddpm"][key] for key in ("unet", "noise")} for name in ("ddpm", "pddpm", "mddpm")},
    **{name: {"unet": TINY["cddpm"]["unet"]} for name in ("disyre", "itermask")},
    "ra": {"channels": [4, 8], "z_dim": 4},
    "fae": {"width": 4, "size": 32, "channels": [4, 6], "spark": {"decoder_width": 32}},
}


def pretrained_for(method, folder):
    """A model file of the method's pre-training, as its network is made; None where it has none."""
    first = method.pretraining()
    if first is None:
        return None
    path = folder / "pretrained.safetensors"
    recipe = recipe_of("spark", first.params.model_dump(mode="json"))
    save_model(first.kept(first.network(VOLUMES.shape[2:])), path, recipe)
    return path


@pytest.mark.parametrize("name", sorted(_SMALL))
def test_every_method_learns_in_bfloat16(name, tmp_path):
    # a dtype that only float32 has would stop here, not on the first processor with bfloat16
    kind = load_method(name)
    method = kind(kind.Params.model_validate(_SMALL[name]))
    training, validation = (source(rows, method, precision="bf16-mixed") for rows in (range(8), [8, 9]))
    network, curve = train_arm(
        method,
        training,
        validation,
        seed=3,
        checkpoints=tmp_path,
        threads=1,
        progress=lambda _: None,
        start_from=pretrained_for(method, tmp_path),
    )
    assert all(weight.dtype == torch.float32 for weight in network.parameters())
    assert all(np.isfinite(row["val_loss"]) for row in curve if "val_loss" in row)


@pytest.mark.parametrize(("width", "dtype"), [(1, torch.float32), (2, torch.float32), (3, torch.bfloat16)])
def test_a_strided_convolution_to_one_column_is_computed_in_float32(width, dtype):
    # (width + 2 - 3) // 2 + 1 columns
    layer = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1)
    images = torch.rand(4, 4, 3, width)
    exact = torch.autograd.grad(layer(images).square().sum(), layer.weight)[0]
    narrow_in_float32(torch.nn.Sequential(layer))
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(images)
    assert found.dtype == dtype
    (gradient,) = torch.autograd.grad(found.float().square().sum(), layer.weight)
    if dtype == torch.float32:
        assert torch.equal(gradient, exact)


@pytest.mark.parametrize(("width", "dtype"), [(1, torch.float32), (2, torch.bfloat16)])
def test_so_is_a_transposed_one_from_one_column(width, dtype):
    layer = torch.nn.ConvTranspose2d(4, 8, 4, stride=2, padding=1)
    narrow_in_float32(torch.nn.Sequential(layer))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.rand(4, 4, 3, width)).dtype == dtype


def test_all_methods_that_train_were_asked():
    assert set(_SMALL) == {name for name in known_methods() if load_method(name).trains}

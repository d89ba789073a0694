"""Contract of a method: tested over the registry, so a new method is tested without writing a test."""

from functools import partial

import numpy as np
import pytest
import torch
from packed_arrays import batch_of

from uad.methods import ArrayMethod, Batch, Head, Scan, ScoringHead, TrainsInParts, known_methods, load_method

SHAPE = (8, 24, 20)  # Z, Y, X
# tiny networks for the tests, by configuration section
TINY = {
    "diffusion": {
        "unet": {"base": 8, "multipliers": [1, 2], "blocks": 1, "attention_heads": 1, "head_channels": 8},
        "noise": {"octaves": 3, "wavelength": 16},
        "encoder": {"depth": 10, "width": 8, "drop_path": 0.1},
        "condition": {"dim": 8},
    }
}

# keys without a default, and sizes that fit the tests' volume, by method
NEEDED = {
    "maps": {"folder": "{cohort}"},
    "dae": {"width": 8, "depth": 3},
    "svae": {"chunk": SHAPE[0]},
    "thor": {"steps": 3},
    "autoddpm": {"coarse_steps": 2, "fine_steps": 2, "rounds": 2},
    "fanogan": {"width": 4, "blocks": 2, "z_dim": 16},
    "disyre": {"unet": TINY["diffusion"]["unet"]},
    "itermask": {"unet": TINY["diffusion"]["unet"]},
    "ra": {"channels": [8, 8], "z_dim": 16},
    "fae": {"width": 8, "size": 32, "channels": [16, 16], "dropout": 0.0},
    "recondition": {"condition": "other"},
    "matched": {"how": "gain", "sigma": 2},
}


def built(name, source="cddpm"):
    method = load_method(name)
    section = TINY.get(method.section, {}) or NEEDED.get(name, {})
    method = method(method.Params(**{k: v for k, v in section.items() if k in method.Params.model_fields}))
    if isinstance(method, Head):
        method.attach(built(source))
    if method.asks_for_training:
        method.see_training([partial(scan, seed) for seed in (7, 8)])
    return method


def scan(seed=0):
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE)
    mask = ((y - 12) / 10) ** 2 + ((x - 10) / 8) ** 2 < 1
    label = ((z - 4) ** 2 + (y - 9) ** 2 + (x - 9) ** 2 < 9).astype(np.uint8)
    image = (rng.random(SHAPE) * 0.3 + 0.4 + 0.3 * label).astype(np.float32) * mask
    return Scan(f"scan{seed}", image, mask, label)


def test_the_controls_lie_apart():
    controls = {name for name in known_methods() if load_method(name).control}
    assert controls == {"oracle", "chance", "copy"}
    assert {load_method(name).__module__.split(".")[-2] for name in controls} == {"controls"}


def slices_of(volume, method, device="cpu"):
    """A scan as a method gets it."""
    images, masks = (torch.from_numpy(array)[:, None] for array in (volume.image, volume.mask))
    return Batch.of_volume(images, masks, "t2", method.context).to(device)


def output_of(method, network, volume, seed=1):
    """[T, Z, 1, Y, X] of a scan."""
    if isinstance(method, ArrayMethod):
        return torch.from_numpy(method.draw(volume, np.random.default_rng(seed)))[None, :, None]
    if isinstance(method, ScoringHead):
        blurred = 0.9 * volume.image.mean(axis=0, keepdims=True) * volume.mask
        return torch.from_numpy(method.rate(volume, blurred.astype(np.float32)))[None, :, None]
    device = next(network.parameters()).device if network is not None else "cpu"
    slices, generator = slices_of(volume, method, device), torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        if method.gives == "map":
            return method.anomaly_map(network, slices, generator)[None]
        return method.reconstruct(network, slices, [250, 500], generator)


@pytest.fixture(params=known_methods())
def method(request):
    return built(request.param)


def runs_network(method):
    return method.trains or method.starts_from == "weights"


def network_of(method, seed=0):
    if not runs_network(method):
        return None
    torch.manual_seed(seed)
    trained = method if method.trains else method.source
    return trained.network(SHAPE[1:]).eval()


def lively(network):
    """Layers that begin at zero would hide a difference."""
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return network


def test_output_is_finite_of_the_right_shape_and_repeatable(method, tmp_path):
    volume = scan()
    if type(method).__name__ == "Maps":
        np.save(tmp_path / "scan0.npy", volume.image)
        method.params = type(method.params)(folder=str(tmp_path))
        method.enter("mslub", "t2", 0)
    network = network_of(method)
    first, second = (output_of(method, network, volume) for _ in range(2))
    levels = 2 if method.reads_noise_levels else 1
    assert first.shape == (levels, SHAPE[0], 1, *SHAPE[1:]) and torch.isfinite(first).all()
    assert first.dtype == torch.float32
    if method.gives == "map":
        assert first.min() >= 0 and first.max() > 0
    assert torch.equal(first, second)


HEADS = [name for name in known_methods() if load_method(name).starts_from]
OF_A_CONDITION = "recondition"


@pytest.mark.parametrize("source", ["ddpm", "pddpm", "cddpm"])
@pytest.mark.parametrize("name", [name for name in HEADS if name != OF_A_CONDITION])
def test_a_head_starts_from_any_diffusion_arm(name, source):
    head = built(name, source)
    network = network_of(head)
    output = output_of(head, network and lively(network), scan())
    assert output.shape == (1, SHAPE[0], 1, *SHAPE[1:]) and torch.isfinite(output).all()
    assert output.min() >= 0 or head.gives == "reconstruction"


@pytest.mark.parametrize("source", ["ddpm", "pddpm"])
def test_a_condition_is_changed_only_where_there_is_one(source):
    with pytest.raises(ValueError, match="has no condition"):
        built(OF_A_CONDITION, source)


def trained(method, network, batch, steps, learning_rate, seed=5):
    """Losses of the first and last step of every part, each trained in turn on one batch."""
    losses = {}
    for part in method.parts if isinstance(method, TrainsInParts) else ("",):
        if part:
            optimizer = method.part_optimizer(part, getattr(network, part).parameters(), learning_rate)
        else:
            optimizer = method.optimizer(network.parameters(), learning_rate)
        for _ in range(steps):
            generator = torch.Generator(batch.images.device).manual_seed(seed)
            loss = method.part_loss(part, network, batch, generator) if part else method.loss(network, batch, generator)
            network.zero_grad()
            loss.backward()
            optimizer.step()
            losses.setdefault(part, []).append(loss.item())
            assert all(torch.isfinite(term).all() and not term.requires_grad for term in method.terms.values())
    return losses


def test_two_training_steps_lower_the_loss_of_one_batch(method):
    if not method.trains:
        pytest.skip("nothing to train")
    slices = slices_of(scan(), method)
    losses = trained(method, network_of(method).train(), slices, steps=3, learning_rate=1e-3)
    for part, values in losses.items():
        assert values[-1] < values[0], part


@pytest.mark.slow
def test_every_weight_is_trained(method):
    if not method.trains:
        pytest.skip("nothing to train")
    network = network_of(method).train()
    moved = network_of(method).state_dict()
    # zero-initialised layers let gradients through only after they have moved
    trained(method, network, slices_of(scan(), method), steps=4, learning_rate=1e-2)
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}  # not frozen
    idle = {name for name, weight in weights.items() if torch.equal(weight, moved[name])}
    # a constant added to all features of the critic cancels in every loss; its last block has two, as published
    constant = {f"critic.features.layers.2.{place}.bias" for place in ("branch.5", "shortcut.1")}
    assert idle <= (constant if type(method).__name__ == "FAnoGAN" else set())


def test_parts_take_turns_over_the_whole_training(method):
    if not isinstance(method, TrainsInParts):
        pytest.skip("trains as a whole")
    turns = [method.part_of_step(step, 100) for step in range(100)]
    assert set(turns) == set(method.parts)
    assert 0 <= method.judged_from(100) < 100


@pytest.mark.slow
def test_output_does_not_depend_on_the_slices_per_pass(method):
    if isinstance(method, (ArrayMethod, ScoringHead)):
        pytest.skip("works on arrays")
    network = network_of(method)
    if network:
        lively(network)
    whole = output_of(method, network, scan())
    method.slices_per_pass = 3
    if isinstance(method, Head):
        method.source.slices_per_pass = 3
    assert torch.allclose(output_of(method, network, scan()), whole, rtol=1e-4, atol=1e-5 * whole.abs().max())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_cpu_and_gpu_agree(method):
    if not runs_network(method):
        pytest.skip("no network")
    network = network_of(method)
    cpu = output_of(method, network, scan())
    gpu = output_of(method, network.cuda(), scan()).cpu()
    assert torch.allclose(cpu, gpu, rtol=1e-4, atol=1e-4 * cpu.abs().max())


def test_model_files_round_trip(method, tmp_path):
    if not method.trains:
        pytest.skip("nothing to train")
    from uad.common.errors import InputError
    from uad.networks.weights import load_model, save_model

    network, volume = network_of(method), scan()
    save_model(network, tmp_path / "model.safetensors", {"method": "this"})
    again = load_model(network_of(method, seed=9), tmp_path / "model.safetensors", {"method": "this"})
    assert torch.equal(output_of(method, network, volume), output_of(method, again, volume))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(InputError, match="not a model of this arm"):
        load_model(network_of(method), tmp_path / "cut.safetensors", {})
    with pytest.raises(InputError, match="trained with method this, the arm has other"):
        load_model(network_of(method), tmp_path / "model.safetensors", {"method": "other"})


def test_settings_are_plain_and_refuse_unknown_keys(method):
    import json

    json.dumps(method.params.model_dump(mode="json"))
    with pytest.raises(ValueError, match="extra"):
        type(method.params)(no_such_key=1)


def test_thresh_is_the_image_inside_the_brain():
    volume = scan()
    image = np.array(volume.image)
    image[0, 0, 0] = 0.9  # outside the brain
    thresh = load_method("thresh")
    plain = thresh(thresh.Params()).draw(volume._replace(image=image), np.random.default_rng(0))
    assert np.array_equal(plain, volume.image)
    inverted = thresh(thresh.Params(invert=True)).draw(volume, np.random.default_rng(0))
    assert np.allclose(inverted[volume.mask], 1 - volume.image[volume.mask])
    automatic = thresh(thresh.Params(invert="auto"))
    for modality, expected in (("t1", inverted), ("t2", volume.image)):
        assert np.array_equal(automatic.draw(volume._replace(modality=modality), np.random.default_rng(0)), expected)


def test_histogram_equalisation_keeps_the_ranking():
    # docs/paper.md#thresh: AUPRC depends on ranks only, and equalisation is monotone
    from sklearn.metrics import average_precision_score

    thresh, volume = load_method("thresh"), scan()
    truth = (volume.label == 1) & volume.mask
    scores = [
        average_precision_score(
            truth.ravel(),
            thresh(thresh.Params(equalise=e)).draw(volume, np.random.default_rng(0)).ravel(),
        )
        for e in (False, True)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)  # up to ties within a histogram bin


def test_condition_is_computed_once_per_volume():
    method = built("cddpm")
    network = network_of(method)
    calls = []
    network.encoder.register_forward_hook(lambda *_: calls.append(1))
    output_of(method, network, scan())
    assert len(calls) == 1  # for two noise levels


def test_ddpm_reads_each_level_with_new_noise():
    # docs/paper.md#inference: every forward pass of the ensemble draws its own field
    method = built("ddpm")
    network = network_of(method).train(False)
    lively(network)
    with torch.inference_mode():
        twice = method.reconstruct(
            network, batch_of(torch.zeros(2, 1, 24, 20)), [500, 500], torch.Generator().manual_seed(0)
        )
    assert not torch.equal(twice[0], twice[1])


def test_maps_of_another_program_are_checked(tmp_path):
    from uad.common.errors import InputError

    maps = load_method("maps")
    method = maps(maps.Params(folder=str(tmp_path / "{cohort}-{modality}-{fold}")))
    assert method.input_files(["wmh"], "t1", 2) == [str(tmp_path / "wmh-t1-2")] and method.per_fold
    folder = tmp_path / "wmh-t1-2"
    folder.mkdir()
    method.enter("wmh", "t1", 2)
    with pytest.raises(InputError, match="has neither scan0"):
        method.draw(scan(), np.random.default_rng(0))
    for values, message in ((np.zeros((2, 2, 2)), "has shape"), (np.full(SHAPE, -1.0), "at least 0")):
        np.save(folder / "scan0.npy", values)
        with pytest.raises(InputError, match=message):
            method.draw(scan(), np.random.default_rng(0))
    import nibabel

    (folder / "scan0.npy").unlink()
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), folder / "scan0.nii.gz")
    assert np.array_equal(method.draw(scan(), np.random.default_rng(0)), values)

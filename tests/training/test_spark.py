"""SparK pre-training: what is hidden stays hidden, and the encoder fits the arm.  docs/paper.md#spark"""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pydantic
import pytest
import torch
from places import ROOT, SCRIPTS
from torch.utils.flop_counter import FlopCounterMode

from uad.common.errors import InputError
from uad.config.model import TrainSettings
from uad.methods import load_method
from uad.methods.pretraining import PRETRAININGS, SparK, load_encoder
from uad.methods.settings import ConditionedDiffusionSettings, EncoderSettings, SparkSettings
from uad.networks.resnet import ResNetEncoder
from uad.networks.spark import (
    MaskedAutoencoder,
    SparseBatchNorm2d,
    Visibility,
    draw_cells,
    hidden_pixel_error,
    pad_to_cells,
)
from uad.networks.weights import recipe_of, save_model
from uad.training.loop import train_arm
from uad.training.slices import SliceSource

TINY = {"depth": 10, "width": 4, "drop_path": 0.0}
PAPER_CELLS = torch.tensor([[[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 1, 1], [0, 0, 0], [1, 0, 0]]], dtype=torch.bool)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=0):
    return torch.rand(shape, generator=generator(seed))


def randomised(network):
    """Weights and running statistics random: fresh residual branches and biases are silent."""
    drawn = generator(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "num_batches" not in name:
                values = torch.rand(tensor.shape, generator=drawn)
                tensor.copy_(values + 0.5 if "running_var" in name else 0.4 * values - 0.2)
    return network


def autoencoder(depth=10, width=4):
    torch.manual_seed(0)
    return randomised(MaskedAutoencoder(ResNetEncoder(depth, 8, width, drop_path=0.0), decoder_width=32))


def encoded(network, x, cells):
    with network.visibility.of(cells), torch.no_grad():
        return network.encoder.features(x)


def spark(**changes):
    return SparK(SparK.Params(**{"encoder": TINY, "decoder_width": 32} | changes))


def pixels(cells):
    """Dense [B, 1, H, W] form of a mask of cells, by numpy's Kronecker product."""
    return torch.from_numpy(np.stack([np.kron(c, np.ones((32, 32))) for c in cells.numpy()]))[:, None].bool()


# --- sparse layers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("depth", [10, 50])
def test_hidden_pixels_do_not_reach_the_maps(training, depth):
    x, cells = images(2, 1, 96, 96), PAPER_CELLS
    other = torch.where(pixels(cells), x, 100 * images(2, 1, 96, 96, seed=9))
    seen = [encoded(autoencoder(depth).train(training), version, cells) for version in (x, other)]
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    changed = x + 0.1 * pixels(cells)  # the seen pixels do
    assert not torch.equal(seen[0][-1], encoded(autoencoder(depth).train(training), changed, cells)[-1])


def test_maps_are_zero_in_the_hidden_cells_and_only_there():
    for features, stride in zip(encoded(autoencoder(), images(2, 1, 96, 96), PAPER_CELLS), (4, 8, 16, 32), strict=True):
        seen = pixels(PAPER_CELLS)[:, 0, ::stride, ::stride]
        assert features.shape[2:] == seen.shape[1:]
        assert not features.permute(0, 2, 3, 1)[~seen].any()
        assert features.permute(0, 2, 3, 1)[seen].any(dim=1).all()


def test_one_cell_is_encoded_as_an_image_of_its_own():
    # the rest is zero everywhere, exactly as the padding of a dense network's convolutions
    network = autoencoder().eval()
    cells = torch.zeros(1, 3, 3, dtype=torch.bool)
    cells[0, 1, 2] = True
    x = images(1, 1, 96, 96)
    dense = ResNetEncoder(10, 8, 4, drop_path=0.0).eval()
    dense.load_state_dict(network.encoder.state_dict(), strict=False)
    alone = dense.features(x[:, :, 32:64, 64:])
    for features, expected, size in zip(encoded(network, x, cells), alone, (8, 4, 2, 1), strict=True):
        torch.testing.assert_close(features[:, :, size : 2 * size, 2 * size :], expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", ["all", "none given"])
def test_with_everything_seen_it_is_the_plain_encoder(training, mask):
    network = autoencoder().train(training)
    plain = ResNetEncoder(10, 8, 4, drop_path=0.0).train(training)
    plain.load_state_dict(network.encoder.state_dict(), strict=False)
    x = images(3, 1, 64, 96)
    expected = plain.features(x)
    everything = torch.ones(3, 2, 3, dtype=torch.bool)
    found = encoded(network, x, everything) if mask == "all" else network.encoder.features(x)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    after, expected_after = network.encoder.state_dict(), plain.state_dict()  # with the running statistics
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, expected_after[name])


@pytest.mark.parametrize("depth", [10, 50])
def test_becoming_sparse_keeps_weights_and_names(depth):
    encoder = randomised(ResNetEncoder(depth, 8, 4))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items() if not name.startswith("fc.")}
    after = MaskedAutoencoder(encoder, decoder_width=32).encoder.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_sparse_batch_norm_is_the_norm_of_the_seen_pixels():
    visibility = Visibility()
    norm = SparseBatchNorm2d(5, visibility)
    randomised(norm)
    before = {name: tensor.double().numpy().copy() for name, tensor in norm.state_dict().items()}
    x = images(2, 5, 6, 6)
    with visibility.of(PAPER_CELLS), torch.no_grad():
        trained = norm.train()(x)
        after = {name: tensor.double().numpy().copy() for name, tensor in norm.state_dict().items()}
        evaluated = norm.eval()(x)
    mask = np.stack([np.kron(cells, np.ones((2, 2))) for cells in PAPER_CELLS.numpy()]).astype(bool)
    seen = x.double().numpy().transpose(0, 2, 3, 1)[mask]
    assert len(seen) == 6 * 4
    mean, variance = seen.mean(0), seen.var(0)
    running_mean = 0.9 * before["running_mean"] + 0.1 * mean
    running_var = 0.9 * before["running_var"] + 0.1 * seen.var(0, ddof=1)  # PyTorch keeps the unbiased one
    np.testing.assert_allclose(after["running_mean"], running_mean, rtol=1e-5)
    np.testing.assert_allclose(after["running_var"], running_var, rtol=1e-5)
    for result, centre, spread in ((trained, mean, variance), (evaluated, running_mean, running_var)):
        expected = (seen - centre) / np.sqrt(spread + 1e-5) * before["weight"] + before["bias"]
        np.testing.assert_allclose(result.numpy().transpose(0, 2, 3, 1)[mask], expected, rtol=1e-4, atol=1e-5)
        assert not result.numpy().transpose(0, 2, 3, 1)[~mask].any()


def test_hidden_cells_enter_the_decoder_as_the_token():
    network = autoencoder()
    densify = network.densify[0]
    with network.visibility.of(PAPER_CELLS), torch.no_grad():
        maps = densify(images(2, 32, 3, 3))
        expected = densify.project.weight[:, :, 0, 0] @ densify.token.flatten() + densify.project.bias
    hidden = maps.permute(0, 2, 3, 1)[~PAPER_CELLS]
    torch.testing.assert_close(hidden, expected.expand(12, 32))


# --- cells and loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "ratio", "shape", "seen"),
    [
        ((96, 96), 0.65, (3, 3), 3),  # D24: 6 of 9 hidden
        ((96, 96), 0.5, (3, 3), 4),  # round(4.5) is 4: half to even
        ((64, 64), 0.65, (2, 2), 1),
        ((96, 128), 0.65, (3, 4), 4),
        ((96, 96), 0.0, (3, 3), 8),  # something is always hidden
        ((96, 96), 1.0, (3, 3), 1),  # and something seen
    ],
)
def test_every_image_shows_the_same_number_of_cells(size, ratio, shape, seen):
    cells = draw_cells(images(50, 1, *size), ratio, generator())
    assert cells.shape == (50, *shape) and cells.dtype == torch.bool
    assert (cells.sum(dim=(1, 2)) == seen).all()


def test_cells_are_drawn_per_image_from_the_generator():
    x = images(3000, 1, 96, 96)
    cells = draw_cells(x, 0.65, generator(4))
    assert torch.equal(cells, draw_cells(x, 0.65, generator(4)))
    assert not torch.equal(cells, draw_cells(x, 0.65, generator(5)))
    assert len(cells.flatten(1).unique(dim=0)) == 84  # 9 over 3
    shares = cells.float().mean(dim=0)
    assert ((shares - 1 / 3).abs() < 0.04).all()  # standard deviation 0.009


@pytest.mark.parametrize(
    ("size", "padded", "corner"),
    [
        ((96, 96), (96, 96), (0, 0)),
        ((36, 45), (64, 64), (14, 9)),  # the demo's grid
        ((45, 36), (64, 64), (9, 14)),
        ((24, 20), (64, 64), (20, 22)),  # 2 x 2 cells at least
        ((97, 64), (128, 64), (15, 0)),
    ],
)
def test_images_are_padded_on_all_sides_to_whole_cells(size, padded, corner):
    x = images(2, 1, *size) + 1
    result, inside = pad_to_cells(x)
    assert result.shape == (2, 1, *padded) and inside.shape == (1, 1, *padded)
    (top, left), (height, width) = corner, size
    window = (..., slice(top, top + height), slice(left, left + width))
    assert torch.equal(result[window], x) and inside[window].all()
    assert result.sum() == pytest.approx(x.sum().item()) and inside.sum() == height * width


def test_the_loss_counts_hidden_pixels_of_the_image_only():
    # 36 x 45 in 64 x 64: the cell on the upper left has 18 x 23 pixels of the image, its right neighbour 18 x 22
    padded, inside = pad_to_cells(torch.ones(1, 1, 36, 45))
    upper, right = torch.tensor([[[False, True], [True, True]]]), torch.tensor([[[True, False], [True, True]]])
    counts = []
    for cells in (upper, right):
        prediction = torch.full_like(padded, 0.25)
        assert hidden_pixel_error(prediction, padded, cells, inside).item() == pytest.approx(0.75**2)
        free = pixels(cells) | ~inside
        assert hidden_pixel_error(torch.where(free, 1e6, prediction), padded, cells, inside).item() == 0.5625
        one = torch.where(free, prediction, padded)
        one[0, 0, 20, 20 if cells is upper else 40] += 1  # a single wrong pixel weighs 1 / count
        counts.append(1 / hidden_pixel_error(one, padded, cells, inside).item())
    assert counts == pytest.approx([18 * 23, 18 * 22])


def test_the_loss_of_a_constant_prediction_is_closed_form():
    method = spark()
    network = method.network((96, 96))
    with torch.no_grad():
        network.decoder.to_image.weight.zero_()
        network.decoder.to_image.bias.fill_(0.3)
    x = torch.linspace(0, 1, 96).expand(4, 1, 96, 96).contiguous()
    loss = method.loss(network, x, generator(2))
    cells = draw_cells(x, 0.65, generator(2))
    hidden = x.double().numpy()[~pixels(cells).numpy()]
    assert len(hidden) == 4 * 6 * 32 * 32
    assert loss.item() == pytest.approx(np.mean((hidden - 0.3) ** 2), rel=1e-5)


def test_the_target_is_not_seen():
    network = autoencoder().eval()
    x = images(2, 1, 96, 96)
    other = torch.where(pixels(PAPER_CELLS), x, 1 - x)
    with torch.no_grad():
        assert torch.equal(network(x, PAPER_CELLS), network(other, PAPER_CELLS))


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "size"), [(10, (36, 45)), (18, (96, 96)), (50, (64, 64))])
def test_every_weight_of_encoder_and_decoder_learns(depth, size):
    method = spark(encoder=TINY | {"depth": depth})
    network = randomised(method.network(size))
    method.loss(network, images(4, 1, *size), generator()).backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == [] and any(name.startswith("encoder.") for name, _ in network.named_parameters())
    assert not any("fc" in name for name, _ in network.named_parameters())


def test_two_steps_lower_the_loss():
    method = spark()
    torch.manual_seed(0)
    network = method.network((36, 45))
    optimizer = method.optimizer(network.parameters(), 1e-3)
    x = images(8, 1, 36, 45)
    losses = []
    for _ in range(3):
        losses.append(method.loss(network, x, generator(3)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize(
    ("choice", "kind", "expected"),
    [
        (None, torch.optim.AdamW, {"betas": (0.9, 0.95), "weight_decay": 0.05}),  # the authors' Spark_2D.py
        ("adamw", torch.optim.AdamW, {"betas": (0.9, 0.95), "weight_decay": 0.05}),
        ("adam", torch.optim.Adam, {"betas": (0.9, 0.999), "weight_decay": 0}),
    ],
)
def test_the_optimiser_is_the_one_asked_for(choice, kind, expected):
    """D28. What the arm asks for reaches the pre-training, and the first step is that of the formula."""
    arm = load_method("cddpm")
    chosen = {} if choice is None else {"spark_optimizer": choice}
    method = arm(arm.Params(encoder=TINY, spark={}, **chosen)).pretraining()
    weight = torch.nn.Parameter(torch.tensor([2.0, -3.0]))
    optimizer = method.optimizer([weight], 1e-2)
    assert type(optimizer) is kind
    assert {key: optimizer.defaults[key] for key in expected} == expected
    weight.grad = torch.tensor([0.5, -0.5])
    optimizer.step()
    # Adam's first step is the learning rate against the gradient's sign; decay takes rate x decay of the weight first
    shrunk = torch.tensor([2.0, -3.0]) * (1 - 1e-2 * expected["weight_decay"])
    torch.testing.assert_close(weight.data, shrunk - 1e-2 * torch.tensor([1.0, -1.0]))


def test_it_trains_as_an_arm_does_and_the_arm_starts_from_it(tmp_path):
    arm = load_method("cddpm")
    unet = {"base": 8, "multipliers": [1], "blocks": 1, "attention_heads": 1, "head_channels": 8}
    params = arm.Params(unet=unet, encoder=TINY, condition={"dim": 8}, spark={"decoder_width": 32})
    method = arm(params).pretraining()
    plain = {"max_steps": 4, "batch_size": 4, "precision": "32-true", "validate_every": 2, "augment": False}
    volumes = np.random.default_rng(0).random((5, 6, 20, 24)).astype(np.float32)
    sources = [SliceSource(volumes, rows, TrainSettings(**plain), 2.0) for rows in ([0, 1, 2, 3], [4])]
    network, curve = train_arm(method, *sources, seed=1, checkpoints=tmp_path / "c", threads=1, progress=print)
    assert [row["step"] for row in curve] == [2, 4] and all(np.isfinite(row["val_loss"]) for row in curve)
    path = tmp_path / "model.safetensors"
    save_model(method.kept(network), path, recipe_of("spark", method.params.model_dump(mode="json")))
    conditioned = arm(params).network((20, 24))
    arm(params).start_from(conditioned, path)
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(conditioned.encoder.state_dict()[name], tensor)


# --- transfer -----------------------------------------------------------------------------------------------


def saved(path, method):
    network = randomised(method.network((64, 64)))
    save_model(method.kept(network), path, recipe_of("spark", method.params.model_dump(mode="json")))
    return network


def test_the_encoder_is_transferred_as_it_is_and_fc_is_not_touched(tmp_path):
    network = saved(tmp_path / "model.safetensors", spark())
    encoder = ResNetEncoder(**TINY, output_dim=8)
    head = {name: tensor.clone() for name, tensor in encoder.fc.state_dict().items()}
    load_encoder(encoder, tmp_path / "model.safetensors", spark())
    kept = network.encoder.state_dict()
    assert set(encoder.state_dict()) - set(kept) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(encoder.state_dict()[name], tensor) for name, tensor in kept.items())
    assert all(torch.equal(encoder.fc.state_dict()[name], tensor) for name, tensor in head.items())
    assert all(module.training for module in encoder.modules())  # Lightning trains in the mode it finds


@pytest.mark.parametrize("change", [{"depth": 18}, {"width": 8}])
def test_the_encoder_of_another_size_is_refused(change, tmp_path):
    path = tmp_path / "model.safetensors"
    saved(path, spark())
    (key, value), *_ = change.items()
    with pytest.raises(InputError) as refusal:
        load_encoder(ResNetEncoder(**TINY | change), path, spark(encoder=TINY | change))
    message = str(refusal.value)
    assert message.startswith(str(path)) and "train it again" in message
    assert f'"{key}": {TINY[key]}' in message and f'"{key}": {value}' in message


def test_a_damaged_file_or_an_arms_model_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    saved(path, spark())
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"cut\.safetensors"):
        load_encoder(ResNetEncoder(**TINY), tmp_path / "cut.safetensors", spark())
    save_model(ResNetEncoder(**TINY), path, recipe_of("cddpm", {}))
    with pytest.raises(InputError, match=r"method cddpm.*spark"):
        load_encoder(ResNetEncoder(**TINY), path, spark())


def test_the_parameters_come_from_the_arm():
    params = ConditionedDiffusionSettings(encoder=TINY, spark={"mask_ratio": 0.5})
    method = SparK.of(params)
    assert method.params.encoder == EncoderSettings(**TINY)
    assert (method.params.mask_ratio, method.params.decoder_width) == (0.5, 512)
    assert PRETRAININGS["spark"] is SparK
    with pytest.raises(pydantic.ValidationError):
        SparK.Params(ratio=0.5)


def test_the_snakefile_can_read_it_without_torch():
    code = "import uad.config, uad.methods.pretraining, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=True)


# --- size and card ------------------------------------------------------------------------------------------


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_resnet_50_has_the_sizes_that_the_card_says():
    with torch.device("meta"):
        network = SparK(SparK.Params()).network((96, 96))
    # ResNet-50 without its head has 23,508,032 weights on RGB; one channel saves 2 * 64 * 7 * 7
    encoder = 23_508_032 - 2 * 64 * 49
    widths, maps = (512, 256, 128, 64, 32, 16), (2048, 1024, 512, 256)
    stages = sum(16 * a * a + a + 9 * a * a + 2 * a + 9 * a * b + 2 * b for a, b in pairwise(widths))
    decoder = stages + 16 + 1
    # norm, token and projection, of 1 x 1 for the deepest map and 3 x 3 for the others
    densify = sum(3 * a + a * b * (1 if a == 2048 else 9) + b for a, b in zip(maps, widths, strict=False))
    assert [count(network.encoder), count(network.decoder), count(network.densify)] == [encoder, decoder, densify]
    card = (ROOT / "docs" / "spark.md").read_text()
    for number in (encoder, decoder, densify, encoder + decoder + densify):
        assert f"{number:,}" in card


def test_one_completed_slice_costs_what_the_card_says():
    network = SparK(SparK.Params()).network((96, 96)).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images(1, 1, 96, 96), PAPER_CELLS[:1])
    assert f"| GFLOP per 96x96 slice | {counter.get_total_flops() / 1e9:.2f} |" in (ROOT / "docs/spark.md").read_text()


def test_the_card_lists_the_keys_with_their_defaults():
    card = (ROOT / "docs" / "spark.md").read_text()
    for key, value in SparkSettings().model_dump(mode="json").items():
        assert f"| `spark.{key}` | `{json.dumps(value)}` |" in card

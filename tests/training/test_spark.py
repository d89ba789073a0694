"""SparK pre-training: it learns, the encoder fits the arm, and the card says its size.  docs/paper.md#spark"""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pydantic
import pytest
import torch
from packed_arrays import batch_of, store_of
from places import ROOT, SCRIPTS
from small_spark import PAPER_CELLS, TINY, generator, images, randomised, spark
from torch.utils.flop_counter import FlopCounterMode

from uad.common.errors import InputError
from uad.config.model import TrainSettings
from uad.methods import load_method
from uad.methods.pretraining import PRETRAININGS, SparK, load_encoder
from uad.methods.settings import ConditionedDiffusionSettings, EncoderSettings, SparkSettings
from uad.networks.resnet import ResNetEncoder
from uad.networks.weights import recipe_of, save_model
from uad.training.loop import train_arm
from uad.training.slices import SliceSource

# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "size"), [(10, (36, 45)), (18, (96, 96)), (50, (64, 64))])
def test_every_weight_of_encoder_and_decoder_learns(depth, size):
    method = spark(encoder=TINY | {"depth": depth})
    network = randomised(method.network(size))
    method.loss(network, batch_of(images(4, 1, *size)), generator()).backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == [] and any(name.startswith("encoder.") for name, _ in network.named_parameters())
    assert not any("fc" in name for name, _ in network.named_parameters())


@pytest.mark.slow
def test_two_steps_lower_the_loss():
    method = spark()
    torch.manual_seed(0)
    network = method.network((36, 45))
    optimizer = method.optimizer(network.parameters(), 1e-3)
    x = images(8, 1, 36, 45)
    losses = []
    for _ in range(3):
        losses.append(method.loss(network, batch_of(x), generator(3)))
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
    sources = [
        SliceSource(store_of(volumes), rows, TrainSettings(**plain), 2.0, method) for rows in ([0, 1, 2, 3], [4])
    ]
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

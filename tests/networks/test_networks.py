"""Networks against published counts and sizes.

docs/paper.md#u-net, docs/paper.md#condition, docs/paper.md#spark, docs/paper.md#ae
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from uad.networks.autoencoder import Autoencoder, Decoder, Encoder
from uad.networks.resnet import DropPath, ResNetEncoder
from uad.networks.unet import ResBlock, UNet, group_norm, sinusoidal_embedding


def parameter_count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(constructor, *arguments, **options):
    with torch.device("meta"):
        return constructor(*arguments, **options)


def small_unet(**options) -> UNet:
    torch.manual_seed(0)
    return UNet(base=16, multipliers=(1, 2, 2), blocks=1, head_channels=16, **options).eval()


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Every parameter random, so that no branch is silent because of its zero initialisation."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize(("condition_dim", "expected"), [(0, 37_513_857), (512, 44_068_481), (128, 43_871_873)])
def test_unet_parameters(condition_dim, expected):
    assert parameter_count(on_meta(UNet, condition_dim=condition_dim)) == expected


def test_unet_of_the_papers_text_has_an_embedding_of_256():
    # D6: time and condition of 128 each, concatenated without an MLP for the condition.
    network = on_meta(UNet, condition_dim=128, condition_mlp=False, time_dim=128)
    blocks = [module for module in network.modules() if isinstance(module, ResBlock)]
    assert {block.to_scale_shift.in_features for block in blocks} == {256}


def test_unet_has_27_blocks_and_costs_149_gflop():
    network = on_meta(UNet)
    assert sum(isinstance(module, ResBlock) for module in network.modules()) == 27
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, 96, 96), torch.zeros(1, dtype=torch.long))
    assert counter.get_total_flops() / 1e9 == pytest.approx(149, abs=0.5)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (37, 51), (30, 20), (5, 7)])
def test_unet_takes_any_size_and_starts_at_zero(height, width):
    x = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    output = small_unet()(x, torch.tensor([0, 999]))
    assert output.shape == x.shape
    assert torch.equal(output, torch.zeros_like(x))


def test_unet_output_depends_on_time_and_condition_of_its_own_sample_only():
    network = randomised(small_unet(condition_dim=8))
    generator = torch.Generator().manual_seed(2)
    x, t = torch.rand(2, 1, 16, 16, generator=generator), torch.tensor([100, 500])
    condition = torch.randn(2, 8, generator=generator)
    output = network(x, t, condition)
    for changed in (
        network(x, torch.tensor([100, 900]), condition),
        network(x, t, torch.stack([condition[0], condition[1] + 1])),
    ):
        torch.testing.assert_close(changed[0], output[0])
        assert (changed[1] - output[1]).abs().max() > 1e-3


def test_unet_attention_is_the_softmax_formula():
    network = randomised(small_unet())
    attention = network.attention
    x = torch.randn(1, 32, 3, 4, generator=torch.Generator().manual_seed(3))
    tokens = attention.norm(x).flatten(2).transpose(1, 2)[0]
    q, k, v = attention.qkv(tokens).reshape(12, 3, 4, 16).unbind(1)
    heads = [(q[:, h] @ k[:, h].T / 16**0.5).softmax(dim=1) @ v[:, h] for h in range(4)]
    expected = x + attention.out(torch.cat(heads, dim=1)).T.reshape(1, 32, 3, 4)
    torch.testing.assert_close(attention(x), expected)


def test_unet_refuses_a_missing_or_superfluous_condition():
    x, t = torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match="condition"):
        small_unet(condition_dim=4)(x, t)
    with pytest.raises(ValueError, match="condition"):
        small_unet()(x, t, torch.zeros(1, 4))


def test_group_norm_keeps_four_channels_per_group():
    assert [group_norm(32, channels).num_groups for channels in (128, 256, 384, 512)] == [32] * 4
    assert [group_norm(32, channels).num_groups for channels in (16, 32, 18, 3)] == [4, 8, 2, 1]


def test_sinusoidal_embedding_closed_form():
    embedding = sinusoidal_embedding(torch.tensor([0, 7]), 4)
    angles = torch.tensor([7.0, 7.0 / 100])  # frequencies 10000^(-0/2), 10000^(-1/2)
    torch.testing.assert_close(embedding[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(embedding[1], torch.cat([angles.cos(), angles.sin()]))


def test_resnet50_parameters():
    # The standard ResNet-50 has 25,557,032 with 3 input channels and 1000 classes.
    body = 25_557_032 - 2 * 64 * 49 - (2048 * 1000 + 1000)
    assert parameter_count(on_meta(ResNetEncoder)) == body + 2048 * 512 + 512
    assert parameter_count(on_meta(ResNetEncoder)) / 1e6 == pytest.approx(24.55, abs=0.005)


# The standard networks with 3 input channels and 1000 classes
@pytest.mark.parametrize(
    ("depth", "count", "channels"), [(18, 11_689_512, 512), (34, 21_797_672, 512), (101, 44_549_160, 2048)]
)
def test_other_resnets_parameters(depth, count, channels):
    body = count - 2 * 64 * 49 - (channels * 1000 + 1000)
    assert parameter_count(on_meta(ResNetEncoder, depth=depth)) == body + channels * 512 + 512


def test_resnet_pyramid():
    network = on_meta(ResNetEncoder)
    maps = network.features(torch.zeros(2, 1, 96, 96, device="meta"))
    assert network.pyramid == (256, 512, 1024, 2048)
    assert [tuple(m.shape[1:]) for m in maps] == [(256, 24, 24), (512, 12, 12), (1024, 6, 6), (2048, 3, 3)]


def test_small_resnet_and_its_drop_path_rates():
    network = ResNetEncoder(depth=10, output_dim=16, width=8, drop_path=0.06)
    assert network(torch.rand(3, 1, 37, 51)).shape == (3, 16)
    rates = [module.rate for module in network.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0, 0.02, 0.04, 0.06])
    with pytest.raises(ValueError, match="depth"):
        ResNetEncoder(depth=20)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    layer, x = DropPath(0.25), torch.ones(4000, 2, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropped = layer(x)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0, 1 / 0.75])
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert layer.eval()(x) is x


def test_autoencoder_bottleneck_and_size_at_96_pixels():
    network = on_meta(Autoencoder, 96, 96)
    assert network.encoder.map_shape == (16, 12, 12)
    channels = [1, 32, 64, 128]
    encoder = sum(25 * a * b + 3 * b for a, b in pairwise(channels)) + 128 * 16 + 16
    dense = 2304 * 128 + 128 + 128 * 2304 + 2304
    widths = [128, 128, 64, 32]
    decoder = sum(25 * a * b + 3 * b for a, b in pairwise(widths))
    decoder += 16 * 128 + 3 * 128 + 32 + 1
    assert parameter_count(network) == encoder + dense + decoder
    assert parameter_count(network) / 1e6 == pytest.approx(1.5, abs=0.05)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, 96, 96))
    assert counter.get_total_flops() / 1e9 == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize(
    ("height", "width", "bottleneck"),
    [
        (96, 96, (12, 12)),
        (48, 48, (12, 12)),
        (48, 60, (12, 15)),
        (37, 51, (10, 13)),
        (128, 128, (8, 8)),
        (16, 20, (8, 10)),
    ],
)
@pytest.mark.parametrize("spatial", [False, True])
def test_autoencoder_restores_any_size(height, width, bottleneck, spatial):
    network = Autoencoder(height, width, z_dim=24, spatial=spatial)
    x = torch.rand(2, 1, height, width)
    assert network.encode(x).shape == ((2, 24, *bottleneck) if spatial else (2, 24))
    assert network(x).shape == x.shape


def test_autoencoder_parts_stand_alone_and_small_images_are_refused():
    encoder, decoder = Encoder(48, 60), Decoder(48, 60)
    assert encoder.map_shape == decoder.map_shape
    assert decoder(encoder(torch.rand(1, 1, 48, 60))).shape == (1, 1, 48, 60)
    with pytest.raises(ValueError, match="15x40"):
        Encoder(15, 40)


def test_autoencoder_dropout_acts_in_training_only():
    torch.manual_seed(0)
    network = Autoencoder(16, 16, dropout=0.5).eval()
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(network(x), network(x))
    network.dropout.train()
    assert not torch.equal(network(x), network(x))

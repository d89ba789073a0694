"""What the encoder of cDDPM sees, and how the condition enters the U-Net; the published way is the default."""

import pytest
import torch
from packed_arrays import batch_of

from uad.common.packed import WHOLE_VOLUME, Batch
from uad.inference.arm import ready_to_run
from uad.methods import load_method
from uad.networks.conditioned import SlicePosition, different_volumes
from uad.networks.resnet import ResNetEncoder
from uad.networks.unet import ResBlock, UNet

CDDPM = load_method("cddpm")
UNET = {"base": 8, "multipliers": [1, 2], "blocks": 1, "attention_heads": 1, "head_channels": 8}
DIM = 8
MODES = ["scale_shift", "scale", "shift", "add", "concat"]
NEWER = [{"mode": mode} for mode in MODES[1:]] + [{"slices": 3}, {"slices": "volume"}]


def built(unet=UNET, encoder=(), **condition):
    noise, encoder = {"octaves": 2, "wavelength": 8}, {"depth": 10, "width": 8, "drop_path": 0, **dict(encoder)}
    return CDDPM(CDDPM.Params(unet=unet, encoder=encoder, noise=noise, condition={"dim": DIM, **condition}))


def network_of(method, seed=0):
    torch.manual_seed(seed)
    return method.network((24, 20)).eval()


def lively(network):
    """Layers that begin at zero would hide a difference."""
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=generator)
    return network


def volume_of(method, depth=8, seed=0):
    images = torch.rand(depth, 1, 24, 20, generator=torch.Generator().manual_seed(seed))
    return batch_of(images, method.context)


def together(first, second):
    """One batch of the slices of two volumes."""
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in ("images", "masks", "positions")}
    if first.context is not None:
        pairs["context"] = (first.context, second.context)
    return Batch(**{name: torch.cat(pair) for name, pair in pairs.items()}, depth=first.depth, modality="t2")


def reconstructed(method, network, volume):
    with torch.inference_mode():
        return method.reconstruct(network, volume, [250, 500], torch.Generator().manual_seed(2))


def test_the_published_way_is_the_default_and_models_trained_before_stay_valid():
    # their recipes know neither key (uad/networks/weights.py)
    published = CDDPM.Params(condition={"slices": 1, "mode": "scale_shift"})
    assert published == CDDPM.Params()
    assert published.model_dump(mode="json")["condition"] == {"dim": 512, "mlp": True}
    other = CDDPM.Params(condition={"slices": 5, "mode": "add"}).model_dump(mode="json")
    assert other["condition"] == {"dim": 512, "mlp": True, "slices": 5, "mode": "add"}
    assert CDDPM.Params.model_validate(other).condition.slices == 5
    names = set(network_of(built()).state_dict())
    assert not any("position" in name or "from_condition" in name for name in names)


@pytest.mark.parametrize("slices", [0, 2, -1, "all"])
def test_slices_that_have_no_middle_are_refused(slices):
    with pytest.raises(ValueError, match=r"slices"):
        CDDPM.Params(condition={"slices": slices})


def test_spark_goes_with_single_slices_alone():
    assert CDDPM.Params(spark={}).spark
    with pytest.raises(ValueError, match="single slices"):
        CDDPM.Params(spark={}, condition={"slices": 3})


@pytest.mark.parametrize("mlp", [True, False])
@pytest.mark.parametrize("condition", [{"mode": "scale_shift"}, *NEWER], ids=str)
def test_every_way_trains_all_weights_and_tells_volumes_apart(condition, mlp):
    method = built(mlp=mlp, **condition)
    network = network_of(method).train()
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    # two volumes, since a norm over one value has no spread
    batch = together(volume_of(method), volume_of(method, seed=1))
    optimizer, losses = method.optimizer(network.parameters(), 1e-2), []
    for _ in range(4):  # zero-initialised layers let gradients through only after they have moved
        loss = method.loss(network, batch, torch.Generator().manual_seed(0))
        network.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not [name for name, weight in network.named_parameters() if torch.equal(weight, before[name])]
    network = lively(network).eval()
    volume = volume_of(method)
    output = reconstructed(method, network, volume)
    assert output.shape == (2, 8, 1, 24, 20) and output.dtype == torch.float32
    told = method.condition
    method.condition = lambda network, batch: told(network, batch) + 1
    assert not torch.allclose(reconstructed(method, network, volume), output)


@pytest.mark.parametrize("condition", NEWER, ids=str)
def test_the_output_does_not_depend_on_the_slices_per_pass(condition):
    method = built(**condition)
    network = lively(network_of(method))
    whole = reconstructed(method, network, volume_of(method))
    method.slices_per_pass = 3
    torch.testing.assert_close(reconstructed(method, network, volume_of(method)), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("condition", NEWER, ids=str)
def test_heads_run_on_any_of_them(condition):
    for name in ("andi", "thor"):
        kind = load_method(name)
        head = kind(kind.Params(**({"steps": 2} if name == "thor" else {"t_tests": [100, 200]})))
        source = built(**condition)
        head.attach(source)
        assert head.context == source.context
        with torch.inference_mode():
            found = head.anomaly_map(network_of(source), volume_of(head), torch.Generator().manual_seed(0))
        assert found.shape == (8, 1, 24, 20) and torch.isfinite(found).all()


# --- how the condition enters ---------------------------------------------------------------------------------


def small_unet(**changes):
    torch.manual_seed(0)
    return lively(UNet(**UNET, **changes)).eval()


@pytest.mark.parametrize("mode", ["scale", "shift"])
def test_without_its_projections_the_condition_does_nothing(mode):
    plain, conditioned = small_unet(), small_unet(condition_dim=DIM, condition_mode=mode)
    missing, superfluous = conditioned.load_state_dict(plain.state_dict(), strict=False)
    assert not superfluous and all("label_emb" in name or "from_condition" in name for name in missing)
    x, t = torch.rand(3, 1, 16, 12), torch.tensor([10, 500, 900])
    told = torch.randn(3, DIM)
    assert not torch.allclose(conditioned(x, t, told), plain(x, t))
    for block in conditioned.modules():
        if isinstance(block, ResBlock):
            torch.nn.init.zeros_(block.from_condition.weight)
            torch.nn.init.zeros_(block.from_condition.bias)
    assert torch.equal(conditioned(x, t, told), plain(x, t))


def test_a_block_is_scaled_or_shifted_after_its_second_norm():
    h = {}
    for part in ("scale", "shift"):
        torch.manual_seed(3)
        block = ResBlock(8, 8, 4, 32, condition=2, part=part)
        torch.nn.init.zeros_(block.to_scale_shift.weight)
        torch.nn.init.zeros_(block.to_scale_shift.bias)
        block.conv2, block.skip = torch.nn.Identity(), torch.nn.Conv2d(8, 8, 1)
        torch.nn.init.zeros_(block.skip.weight)
        torch.nn.init.zeros_(block.skip.bias)
        x, told = torch.rand(1, 8, 5, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([[0.3, -1.2]])
        silu = torch.nn.functional.silu
        normed = block.norm2(block.conv1(silu(block.norm1(x))))
        more = block.from_condition(silu(told))[:, :, None, None]
        h[part] = block(x, torch.zeros(1, 4), told)
        torch.testing.assert_close(h[part], silu(normed * (1 + more) if part == "scale" else normed + more))
    assert not torch.allclose(h["scale"], h["shift"])


def test_added_conditions_move_the_time_embedding():
    network = small_unet(condition_dim=DIM, condition_mode="add")
    plain = small_unet()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if "label_emb" not in k})
    x, t, told = torch.rand(1, 1, 16, 12), torch.tensor([500]), torch.randn(1, DIM)
    last = plain.time_emb[-1]
    last.bias.data += network.label_emb(told)[0].detach()
    torch.testing.assert_close(network(x, t, told), plain(x, t))


def test_concatenated_conditions_are_constant_maps_at_the_input():
    network = small_unet(condition_dim=DIM, condition_mode="concat", condition_mlp=False)
    assert network.conv_in.weight.shape == (8, 1 + DIM, 3, 3)
    plain = small_unet()
    weights = {k: v for k, v in network.state_dict().items() if k != "conv_in.weight"}
    plain.load_state_dict(weights | {"conv_in.weight": network.conv_in.weight[:, :1]})
    x, t, told = torch.rand(1, 1, 16, 12), torch.tensor([500]), torch.randn(1, DIM)
    torch.testing.assert_close(network(x, t, torch.zeros(1, DIM)), plain(x, t))
    # away from the rim, where maps are padded with 0, a constant map adds a constant
    seen = []
    network.conv_in.register_forward_hook(lambda *args: seen.append(args[-1]))
    plain.conv_in.register_forward_hook(lambda *args: seen.append(args[-1]))
    network(x, t, told), plain(x, t)
    added = torch.einsum("oiyx,i->o", network.conv_in.weight[:, 1:], told[0])
    inner = (seen[0] - seen[1])[0, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, added[:, None, None].expand_as(inner), rtol=1e-4, atol=1e-5)


def test_parameters_of_the_modes_at_the_papers_size():
    def count(**changes):
        with torch.device("meta"):
            return sum(p.numel() for p in UNet(condition_dim=512, **changes).parameters())

    widths = [block.norm2.num_channels for block in UNet(base=8).modules() if isinstance(block, ResBlock)]
    channels = 16 * sum(widths)  # of all 27 blocks at base 128
    plain, mlp = 37_513_857, 2 * (512 * 512 + 512)  # docs/paper.md#u-net
    assert count() == plain + mlp + 512 * 2 * channels == 44_068_481
    assert count(condition_mode="scale") == count(condition_mode="shift") == plain + mlp + 513 * channels
    assert count(condition_mode="add") == plain + mlp
    assert count(condition_mode="concat") == plain + mlp + 512 * 128 * 9


# --- what the encoder sees ------------------------------------------------------------------------------------


def test_the_encoder_sees_neighbours_and_nothing_beyond_the_volume():
    method = built(slices=5)
    seen = []
    network = network_of(method)
    network.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    volume = volume_of(method)
    conditions = method.condition(network, volume)
    (window,) = seen
    assert conditions.shape == (8, DIM) and window.shape == (8, 5, 24, 20)
    assert torch.equal(window[:, 2], volume.images[:, 0])
    assert torch.equal(window[4], volume.images[2:7, 0])
    assert (window[0, :2] == 0).all() and torch.equal(window[0, 2:], volume.images[:3, 0])
    assert (window[-1, 3:] == 0).all() and torch.equal(window[-1, :3], volume.images[-3:, 0])


def test_a_changed_neighbour_changes_the_condition_of_the_slices_around_it():
    changed = {}
    for slices in (1, 3, "volume"):
        method = built(slices=slices)
        network, volume = lively(network_of(method)), volume_of(method)
        images = volume.images.clone()
        images[4] = 1 - images[4]
        before, after = (method.condition(network, batch) for batch in (volume, batch_of(images, method.context)))
        changed[slices] = (before != after).any(dim=1).nonzero()[:, 0].tolist()
    assert changed == {1: [4], 3: [3, 4, 5], "volume": list(range(8))}


def test_a_volume_is_encoded_once_and_its_slices_differ_by_their_place():
    method = built(slices="volume")
    assert method.context == WHOLE_VOLUME
    network, seen = lively(network_of(method)), []
    network.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    volume = volume_of(method)
    reconstructed(method, network, volume)
    (given,) = seen  # for two noise levels
    assert torch.equal(given, volume.images[None, None, :, 0])
    conditions = method.condition(network, volume)
    apart = (conditions[:, None] - conditions).abs().amax(dim=2) + torch.eye(8)
    assert conditions.shape == (8, DIM) and apart.min() > 1e-4
    plain = network.encoder(given)
    places = network.position(volume.positions, 8)
    torch.testing.assert_close(conditions, plain + places)


def test_slices_that_follow_each_other_share_their_volume():
    one, two = torch.rand(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    volumes, which = different_volumes(torch.stack([one, one, two, one]))
    assert torch.equal(volumes, torch.stack([one, two, one])) and which.tolist() == [0, 0, 1, 2]
    volumes, which = different_volumes(one.expand(3, -1, -1, -1))
    assert torch.equal(volumes, one[None]) and which.tolist() == [0, 0, 0]


def test_a_batch_of_several_volumes_gives_each_its_own_conditions():
    method = built(slices="volume")
    network = lively(network_of(method))
    first, second = volume_of(method), volume_of(method, seed=1)
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    both = method.condition(network, together(first, second))
    assert seen == [2]
    torch.testing.assert_close(both[:8], method.condition(network, first))
    torch.testing.assert_close(both[8:], method.condition(network, second))


def test_a_place_counts_as_a_share_of_the_volume():
    place = SlicePosition(6)
    ends = place(torch.tensor([0, 9]), 10), place(torch.tensor([0, 49]), 50)
    torch.testing.assert_close(*ends)
    middle = place(torch.tensor([2]), 5)
    # 500 of 1000: cosines, then sines, at frequencies 1, 10000^(-1/3), 10000^(-2/3)
    angles = 500 * torch.tensor([1.0, 10000 ** (-1 / 3), 10000 ** (-2 / 3)])
    expected = place.mlp(torch.cat([angles.cos(), angles.sin()])[None])
    torch.testing.assert_close(middle, expected, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(place(torch.tensor([0]), 1)).all()


@pytest.mark.parametrize("depth", [10, 50])
def test_an_encoder_of_volumes_has_windows_of_three_dimensions(depth):
    flat, deep = (ResNetEncoder(depth, DIM, 8, dims=dims) for dims in (2, 3))
    assert list(flat.state_dict()) == list(deep.state_dict())
    for (name, one), (_, other) in zip(flat.named_parameters(), deep.named_parameters(), strict=True):
        assert other.numel() == one.numel() * (one.shape[-1] if one.dim() == 4 else 1), name
    maps = deep.eval().features(torch.rand(1, 1, 50, 96, 64))
    assert [tuple(m.shape[2:]) for m in maps] == [(13, 24, 16), (7, 12, 8), (4, 6, 4), (2, 3, 2)]


def test_a_network_of_volumes_runs_in_the_memory_layout_of_inference():
    method = built(slices="volume")
    network = lively(network_of(method))
    before = reconstructed(method, network, volume_of(method))
    ready = ready_to_run(network)
    assert ready.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    device = next(ready.parameters()).device
    after = reconstructed(method, ready, volume_of(method).to(device)).cpu()
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)

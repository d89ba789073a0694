"""FAE: its features, their similarity, and where the frozen weights come from.  docs/methods/fae.md"""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from packed_arrays import batch_of, store_of
from safetensors.torch import save_file
from scipy import ndimage

from uad.common.errors import InputError
from uad.config.model import TrainSettings
from uad.methods.fae import FAE, FAEParams, similarity
from uad.networks.features import FeatureAutoencoder, load_resnet18
from uad.networks.weights import recipe_of, save_model
from uad.training.loop import train_arm
from uad.training.slices import SliceSource

TINY = {"width": 4, "size": 32, "channels": [6, 8], "spark": {"decoder_width": 32}}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def slices(count=4, shape=(24, 20)):
    return torch.rand(count, 1, *shape, generator=seeded(1))


def published():
    """Random weights under torchvision's names for a ResNet-18, 122 tensors."""
    drawn, weights = seeded(2), {}

    def add_conv(name, n_in, n_out, size):
        weights[f"{name}.weight"] = torch.randn(n_out, n_in, size, size, generator=drawn) / (n_in * size**2) ** 0.5

    def add_norm(name, count):
        for part in ("weight", "bias", "running_mean"):
            weights[f"{name}.{part}"] = torch.rand(count, generator=drawn)
        weights[f"{name}.running_var"] = torch.rand(count, generator=drawn) + 0.5
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    add_conv("conv1", 3, 64, 7)
    add_norm("bn1", 64)
    n_in = 64
    for layer, n_out in enumerate((64, 128, 256, 512), 1):
        for block in (0, 1):
            name = f"layer{layer}.{block}"
            for place in (1, 2):
                add_conv(f"{name}.conv{place}", n_in if place == 1 else n_out, n_out, 3)
                add_norm(f"{name}.bn{place}", n_out)
            if n_in != n_out:
                add_conv(f"{name}.downsample.0", n_in, n_out, 1)
                add_norm(f"{name}.downsample.1", n_out)
            n_in = n_out
    weights |= {"fc.weight": torch.randn(1000, 512, generator=drawn), "fc.bias": torch.zeros(1000)}
    return weights


def layers_of(weights, x):
    """The first three maps of the published network, written out."""

    def norm(x, name):
        values = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *values)

    x = F.relu(norm(F.conv2d(x, weights["conv1.weight"], stride=2, padding=3), "bn1"))
    maps = [F.max_pool2d(x, 3, 2, 1)]
    for layer, stride in ((1, 1), (2, 2)):
        x = maps[-1]
        for block in (0, 1):
            name, step = f"layer{layer}.{block}", stride if block == 0 else 1
            branch = F.relu(norm(F.conv2d(x, weights[f"{name}.conv1.weight"], stride=step, padding=1), f"{name}.bn1"))
            branch = norm(F.conv2d(branch, weights[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in weights:
                x = norm(F.conv2d(x, weights[f"{name}.downsample.0.weight"], stride=step), f"{name}.downsample.1")
            x = F.relu(x + branch)
        maps.append(x)
    return maps


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same weights as a PyTorch file, without counts of batches as older ones, and as safetensors; their hashes."""
    folder, weights = tmp_path_factory.mktemp("resnet18"), published()
    torch.save({key: value for key, value in weights.items() if "num_batches" not in key}, folder / "weights.pth")
    save_file(weights, folder / "weights.safetensors")
    paths = [folder / "weights.pth", folder / "weights.safetensors"]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_features_are_the_published_networks_on_one_grid(files):
    images = slices(2, (64, 64))
    maps = layers_of(published(), images.repeat(1, 3, 1, 1))
    expected = [F.interpolate(m, (16, 16), mode="bilinear", align_corners=True) for m in maps]
    for path, digest in files.items():
        network = FeatureAutoencoder(64, 64, [8, 8], 0.0)
        network.features.take(load_resnet18(path, digest.upper()))
        found = network.features(images)
        assert found.shape == (2, 64 + 64 + 128, 16, 16)
        torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)


def test_weights_that_are_not_the_named_ones_are_refused(files, tmp_path):
    path, digest = next(iter(files.items()))
    with pytest.raises(InputError, match="no such file"):
        load_resnet18(tmp_path / "none.pth", digest)
    with pytest.raises(InputError, match=f"sha256 is {digest}, not 00"):
        load_resnet18(path, "0" * 64)
    others = {"short": {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "odd": {"block.weight": torch.zeros(2)}}
    for name, weights in others.items():
        torch.save(weights, tmp_path / f"{name}.pth")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pth")  # a pickled object
    (tmp_path / "text.safetensors").write_text("no weights")
    for other in ("short.pth", "odd.pth", "code.pth", "text.safetensors"):
        digest = hashlib.sha256((tmp_path / other).read_bytes()).hexdigest()
        with pytest.raises(InputError, match="not the weights of torchvision's ResNet-18"):
            load_resnet18(tmp_path / other, digest)
    with pytest.raises(ValueError, match="and their `sha256`"):
        FAEParams(weights="weights.pth")
    with pytest.raises(ValueError, match="width must be 64"):
        FAEParams(weights="weights.pth", sha256="0" * 64, width=32)
    with pytest.raises(ValueError, match="multiple of 64"):
        FAEParams(size=96)


def test_similarity_is_that_of_the_formula():
    x, y = (torch.randn(2, 3, 9, 8, generator=seeded(seed)) for seed in (1, 2))
    window = np.exp(-0.5 * (np.arange(-2, 3) / 1.5) ** 2)
    window /= window.sum()

    def smooth(maps):
        along = ndimage.correlate1d(maps, window, 2, mode="constant")
        return ndimage.correlate1d(along, window, 3, mode="constant")

    a, b = x.double().numpy(), y.double().numpy()
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b, cov = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2, smooth(a * b) - mean_a * mean_b
    expected = (
        (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4) / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
    )
    np.testing.assert_allclose(similarity(x, y).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_equal_features_give_a_map_of_0():
    method, features = FAE(FAEParams(**TINY)), torch.randn(4, 5, 8, 8, generator=seeded())
    batch = batch_of(slices())
    assert method.anomaly_map(lambda images: (features, features), batch, seeded()).max().item() < 1e-5
    assert method.loss(lambda images: (features, features), batch, seeded()).item() == pytest.approx(0, abs=1e-5)
    opposite = method.anomaly_map(lambda images: (features, -features), batch, seeded())
    assert opposite.shape == (4, 1, 24, 20) and opposite.min() >= 0 and 0.5 < opposite.max() <= 2


def test_the_grid_of_the_published_size_is_halved_four_times():
    with torch.device("meta"):
        network = FeatureAutoencoder(64, 128, FAEParams().channels, 0.1)
        features, restored = network(torch.zeros(2, 1, 96, 96))
        sizes = []
        for layer in network.autoencoder:
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                layer.register_forward_hook(lambda _layer, _given, out: sizes.append(tuple(out.shape[1:3])))
        network(torch.zeros(2, 1, 96, 96))
    assert features.shape == restored.shape == (2, 256, 32, 32)
    down, up = [(100, 16), (150, 8), (200, 4), (300, 2)], [(200, 4), (150, 8), (100, 16), (256, 32)]
    assert sizes == [*down, *up, (256, 32)]


def trained(method, folder, start_from):
    volumes = np.random.default_rng(0).random((5, 6, 20, 24)).astype(np.float32)
    settings = TrainSettings(max_steps=2, batch_size=4, precision="32-true", validate_every=2, augment=False)
    sources = [SliceSource(store_of(volumes), rows, settings, 2.0, method) for rows in ([0, 1, 2, 3], [4])]
    return train_arm(
        method, *sources, seed=1, checkpoints=folder, threads=1, progress=print, start_from=start_from
    )[0]  # fmt: skip


def test_a_training_keeps_the_weights_that_it_starts_from_and_needs_them(files, tmp_path):
    path, digest = next(iter(files.items()))
    method = FAE(FAEParams(weights=str(path), sha256=digest, size=32, channels=[6, 8]))
    assert method.pretraining() is None and method.weights_file() == str(path)
    with pytest.raises(ValueError, match="start_from is missing"):
        trained(method, tmp_path / "a", None)
    network, given = trained(method, tmp_path / "b", path), load_resnet18(path, digest)
    for ours, theirs in ((network.features.stem, given.stem), (network.features.stages, given.stages[:2])):
        kept = theirs.state_dict()
        assert all(torch.equal(value, kept[name]) for name, value in ours.state_dict().items())
    assert network.autoencoder[1].running_mean.any()  # those of the autoencoder move


def test_without_a_file_the_features_are_pre_trained(tmp_path):
    method = FAE(FAEParams(**TINY))
    spark = method.pretraining()
    assert method.weights_file() is None and spark.params.encoder.depth == 18 and spark.params.encoder.width == 4
    torch.manual_seed(3)
    encoder = spark.kept(spark.network((20, 24)))
    path = tmp_path / "model.safetensors"
    save_model(encoder, path, recipe_of("spark", spark.params.model_dump(mode="json")))
    network = method.network((20, 24))
    method.start_from(network, path)
    kept = encoder.state_dict()
    for part in ("stem", "stages"):
        found = getattr(network.features, part).state_dict()
        assert all(torch.equal(value, kept[f"{part}.{name}"]) for name, value in found.items())
    assert not any(p.requires_grad for p in network.features.parameters())
    with pytest.raises(InputError, match="train it again"):
        other = FAE(FAEParams(**TINY | {"width": 8}))
        other.start_from(other.network((20, 24)), path)

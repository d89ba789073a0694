"""MedicalNet's ResNet-10, its weights on disk, the distance in its features, and the trained stand-in."""

import hashlib

import numpy as np
import pytest
import torch
from scipy import ndimage

from uad.common.errors import InputError
from uad.metrics.perceptual import (
    MedicalNetResNet10,
    load_backbone,
    perceptual_distance,
    save_backbone,
    train_tissue_backbone,
    z_score,
)


def _phantom(seed, shape=(16, 32, 32)):
    """A brain-like volume in [0, 1] of nested, warped shells, and its tissues 0 to 3."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    warped = [axis + 3 * ndimage.gaussian_filter(rng.standard_normal(shape), 5) for axis in axes]
    radius = np.sqrt(sum(axis**2 for axis in warped)) * rng.uniform(0.95, 1.15)
    tissues = np.digitize(-radius, [-1.0, -0.85, -0.6])
    contrast = np.array([0, 0.95, 0.65, 0.4])
    image = contrast[tissues] + 0.03 * rng.standard_normal(shape) * (tissues > 0)
    return np.clip(image, 0, 1).astype(np.float32), tissues


@pytest.fixture(scope="module")
def phantoms():
    return [_phantom(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def trained(phantoms):
    """Backbone of 60 steps on six phantoms, and its losses."""
    losses = []
    images, tissues = (np.stack(part) for part in zip(*phantoms[:6], strict=True))
    network = train_tissue_backbone(images, tissues, 8, 60, 1, lambda step, loss: losses.append(loss))
    return network, losses


# --- form -----------------------------------------------------------------------------------------


def test_network_has_the_size_and_names_of_medicalnet():
    network = MedicalNetResNet10()
    assert sum(weights.numel() for weights in network.parameters()) == 14_355_520
    names = set(network.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv2.weight", "layer4.0.downsample.1.bias"} <= names
    assert not any(name.startswith("layer1.0.downsample") for name in names)
    assert network.conv1.weight.shape == (64, 1, 7, 7, 7)
    assert network.layer3[0].downsample[0].weight.shape == (256, 128, 1, 1, 1)


def test_layers_3_and_4_are_dilated_not_strided():
    """The output shape measured on MedicalNet for 64 x 72 x 56; a strided network gives (2, 3, 2)."""
    network = MedicalNetResNet10(width=4).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 64, 72, 56)).shape == (1, 32, 8, 9, 7)
    dilations = [(layer[0].conv1.dilation[0], layer[0].conv2.dilation[0]) for layer in (network.layer3, network.layer4)]
    assert dilations == [(2, 2), (4, 4)]


# --- distance -------------------------------------------------------------------------------------


def test_distance_is_the_formula_on_known_features():
    """With features (z, z^2 + 1) of the z-scored volume the distance can be written down in NumPy."""

    class Known(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x, x**2 + 1], dim=1)

    rng = np.random.default_rng(2)
    image, other = rng.random((4, 5, 6)), rng.random((4, 5, 6))

    def unit(volume):
        z = (volume - volume.mean()) / volume.std()
        features = np.stack([z, z**2 + 1])
        return features / np.linalg.norm(features, axis=0)

    expected = np.mean(np.sum((unit(image) - unit(other)) ** 2, axis=0))
    assert perceptual_distance(Known(), image, other) == pytest.approx(expected, rel=1e-4)


def test_z_score_of_varying_and_constant_volumes():
    volumes = torch.stack([torch.arange(24.0).reshape(1, 2, 3, 4), torch.full((1, 2, 3, 4), 0.7)])
    scored = z_score(volumes)
    assert scored[0].mean() == pytest.approx(0, abs=1e-6) and scored[0].std(correction=0) == pytest.approx(1)
    assert not scored[1].any()


def test_distance_of_equal_and_constant_volumes(trained, phantoms):
    network, image = trained[0], phantoms[0][0]
    empty = np.zeros_like(image)
    assert perceptual_distance(network, image, image) == 0
    assert perceptual_distance(network, empty, empty + 0.5) == 0
    assert np.isfinite(perceptual_distance(network, image, empty))
    assert perceptual_distance(network, image, 0.5 * image + 0.1) == pytest.approx(0, abs=1e-5)


# --- training -------------------------------------------------------------------------------------


def test_training_learns_tissues(trained, phantoms):
    """Its loss ends well below the entropy of the tissue shares, the best that ignoring the image can do."""
    shares = np.bincount(np.concatenate([tissues.ravel() for _, tissues in phantoms[:6]])) / (6 * 16 * 32 * 32)
    entropy = -np.sum(shares * np.log(shares))
    _, losses = trained
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.6 * entropy


def test_trained_distance_orders_damage(trained, phantoms):
    network, (image, _) = trained[0], phantoms[7]  # unseen in training
    distances = [perceptual_distance(network, image, ndimage.gaussian_filter(image, s)) for s in (0.5, 1, 2)]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert distances[0] < perceptual_distance(network, image, phantoms[6][0])


def test_training_depends_on_its_seed_only(phantoms):
    images, tissues = (np.stack(part) for part in zip(*phantoms[:2], strict=True))
    before = torch.random.get_rng_state()
    first, second, other = (train_tissue_backbone(images, tissues, 4, 2, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    assert not first.training and not any(weights.requires_grad for weights in first.parameters())


# --- files ----------------------------------------------------------------------------------------


def test_own_weights_survive_the_disk(trained, phantoms, tmp_path):
    network = trained[0]
    path = tmp_path / "backbone.safetensors"
    save_backbone(network, path)
    loaded = load_backbone(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert (loaded.width, loaded.name) == (8, "tissue-resnet10-w8")
    pair = phantoms[0][0], phantoms[1][0]
    assert perceptual_distance(loaded, *pair) == perceptual_distance(network, *pair)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights in MedicalNet's form: under `state_dict`, keys with `module.`, a segmentation head."""
    network = MedicalNetResNet10()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    state["module.conv_seg.0.weight"] = torch.zeros(3)
    path = tmp_path_factory.mktemp("medicalnet") / "resnet_10_23dataset.pth"
    torch.save({"state_dict": state}, path)
    return path, network


def test_medicalnet_checkpoint_loads(checkpoint):
    path, network = checkpoint
    loaded = load_backbone(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert loaded.name == "medicalnet-resnet_10_23dataset" and not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())


def test_hash_is_checked_before_the_file_is_read(checkpoint, monkeypatch):
    path, _ = checkpoint

    def never(*args, **kwargs):
        raise AssertionError("the file was read before its hash was checked")

    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(InputError, match=r"resnet_10_23dataset\.pth: sha256 is [0-9a-f]{64}, not 0000"):
        load_backbone(path, "0" * 64)
    with pytest.raises(InputError, match="only read with its sha256"):
        load_backbone(path)


def test_files_that_are_no_backbone_are_refused(tmp_path):
    from safetensors.torch import save_file

    def refused(path, message):
        with pytest.raises(InputError, match=message):
            load_backbone(path, hashlib.sha256(path.read_bytes()).hexdigest())

    with pytest.raises(InputError, match="no such file"):
        load_backbone(tmp_path / "absent.pth", "0" * 64)
    text = tmp_path / "text.pth"
    text.write_text("<html>not found</html>")
    refused(text, "not a checkpoint")
    tensors = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2)}, tensors)
    refused(tensors, "not the weights")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"123")
    refused(broken, "not a readable safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    refused(foreign, "width")

"""Frozen features of a ResNet-18 and the autoencoder that learns them (docs/methods/fae.md)."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.networks.resnet import ResNetEncoder

STAGES = 2  # of the ResNet, behind its stem
REDUCTION = 4  # of the grid of features against the image
BRANCH = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}  # torchvision's names -> places in a residual branch


class FrozenFeatures(nn.Module):
    """Stem and two stages of a ResNet-18 on one grid: images [B, 1, H, W] in [0, 1] -> [B, 4 width, grid, grid].

    Images are resized to size x size pixels; the grid has a quarter of them per side.  Nothing of it trains: its batch
    norms keep their statistics.
    """

    def __init__(self, width: int, size: int):
        super().__init__()
        self.size = size
        self.channels = 4 * width
        self.take(ResNetEncoder(depth=18, width=width, drop_path=0.0))

    def take(self, encoder: ResNetEncoder) -> None:
        """Use the stem and the first stages of this encoder."""
        self.stem, self.stages = encoder.stem, encoder.stages[:STAGES]
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FrozenFeatures:
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        h = self.stem(F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False))
        maps = [h]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        grid = (self.size // REDUCTION, self.size // REDUCTION)
        return torch.cat([F.interpolate(m, grid, mode="bilinear", align_corners=True) for m in maps], dim=1)


class FeatureAutoencoder(nn.Module):
    """Features of a slice and what the autoencoder makes of them: [B, 1, H, W] -> twice [B, C, grid, grid].

    Convolutions of 5x5 and stride 2 down, transposed ones of 6x6 up, with batch norm, leaky ReLU and dropout.
    """

    def __init__(self, width: int, size: int, channels: Sequence[int], dropout: float):
        super().__init__()
        self.features = FrozenFeatures(width, size)
        widths = [self.features.channels, *channels]

        def level(layer: nn.Module, n_out: int) -> list[nn.Module]:
            return [layer, nn.BatchNorm2d(n_out), nn.LeakyReLU(), nn.Dropout2d(dropout)]

        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += level(nn.Conv2d(n_in, n_out, 5, 2, padding=2, bias=False), n_out)
        for n_in, n_out in pairwise(reversed(widths)):
            layers += level(nn.ConvTranspose2d(n_in, n_out, 6, 2, padding=2, bias=False), n_out)
        self.autoencoder = nn.Sequential(*layers, nn.Conv2d(widths[0], widths[0], 1, bias=False))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return features, self.autoencoder(features)


def load_resnet18(path: str | Path, sha256: str) -> ResNetEncoder:
    """A ResNet-18 with the weights of torchvision's file, for images of one channel.

    The published network sees the image in all three channels, which is one channel with the sum of the filters.

    Args:
        path: `.safetensors`, or a PyTorch file of plain tensors, with torchvision's names.
        sha256: 64 hex digits, checked before the file is read.

    Raises:
        InputError: the file is missing, has another hash, or holds other weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; correct params.weights or leave it out")
    if (found := sha256_of(path)) != sha256.lower():
        raise InputError(f"{path}: sha256 is {found}, not {sha256}; download the file again or correct params.sha256")
    try:
        if path.suffix == ".safetensors":
            given = load_file(path)
        else:
            given = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: value for key, value in given.items() if (name := _our_name(key)) is not None}
        weights["stem.0.weight"] = weights["stem.0.weight"].sum(dim=1, keepdim=True)
        encoder = ResNetEncoder(depth=18, drop_path=0.0)
        encoder.fc = nn.Identity()
        encoder.load_state_dict(weights)
    except (
        pickle.UnpicklingError,
        SafetensorError,
        RuntimeError,
        EOFError,
        AttributeError,
        LookupError,
        ValueError,
    ) as error:
        raise InputError(f"{path}: these are not the weights of torchvision's ResNet-18; give another file") from error
    return encoder


def _our_name(key: str) -> str | None:
    """`layer1.0.bn2.weight` -> `stages.0.0.branch.4.weight`; None for the classifier."""
    module, *rest = key.split(".")
    if module == "fc":
        return None
    if module in ("conv1", "bn1"):
        return ".".join(["stem", str(BRANCH[module]), *rest])
    block, layer, *rest = rest
    place = ["shortcut", rest.pop(0)] if layer == "downsample" else ["branch", str(BRANCH[layer])]
    return ".".join(["stages", str(int(module.removeprefix("layer")) - 1), block, *place, *rest])

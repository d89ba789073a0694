"""LPIPS of the paper: distance in the features of a medical 3-D ResNet-10.  docs/paper.md#medicalnet, D21

The network has the form of MedicalNet's ResNet-10 (layers 3 and 4 dilated instead of strided), so that its
published weights load; where they cannot be had, a narrow network of the same form, trained to segment
tissues, stands in.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from uad.common.errors import InputError
from uad.common.files import atomic_path, sha256_of

MEDICALNET_WIDTH = 64
TISSUES = 4  # background, CSF, grey matter, white matter
BATCH, LEARNING_RATE, HEAD_WIDTH = 2, 3e-3, 16


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, a 1x1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        around: dict[str, Any] = {"padding": dilation, "dilation": dilation, "bias": False}
        self.conv1 = nn.Conv3d(channels_in, channels, 3, stride=stride, **around)
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, **around)
        self.bn2 = nn.BatchNorm3d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            shortcut = nn.Conv3d(channels_in, channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, Z, Y, X] -> [B, channels, Z / stride, Y / stride, X / stride], rounded up."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class MedicalNetResNet10(nn.Module):
    """Feature part of MedicalNet's 3-D ResNet-10; its parameter names are MedicalNet's without `module.`.

    Args:
        width: channels of the first layer; 64 is MedicalNet's (14,355,520 parameters).
        name: what results call this network (column `lpips_backbone`).
    """

    def __init__(self, width: int = MEDICALNET_WIDTH, name: str = "untrained") -> None:
        super().__init__()
        self.width, self.name = width, name
        self.conv1 = nn.Conv3d(1, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(ResidualBlock(width, width, stride=1, dilation=1))
        self.layer2 = nn.Sequential(ResidualBlock(width, 2 * width, stride=2, dilation=1))
        self.layer3 = nn.Sequential(ResidualBlock(2 * width, 4 * width, stride=1, dilation=2))
        self.layer4 = nn.Sequential(ResidualBlock(4 * width, 8 * width, stride=1, dilation=4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 1, Z, Y, X], z-scored -> [B, 8 width, Z / 8, Y / 8, X / 8], rounded up."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def load_backbone(path: str | Path, sha256: str | None = None) -> MedicalNetResNet10:
    """Read a backbone, ready for `perceptual_distance`.

    Args:
        path: a `.safetensors` file of `save_backbone`, or a MedicalNet checkpoint such as
            `resnet_10_23dataset.pth`.
        sha256: 64 hex digits the file must have; required for a checkpoint, because it is pickled. Checked
            before the file is read.

    Raises:
        InputError: the file is missing, has another hash, or holds other weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; correct the path of the perceptual weights or leave them out")
    own_format = path.suffix == ".safetensors"
    if sha256 is None and not own_format:
        raise InputError(f"{path}: a pickled checkpoint is only read with its sha256; give the expected hash")
    if sha256 is not None and (found := sha256_of(path)) != sha256.lower():
        raise InputError(f"{path}: sha256 is {found}, not {sha256}; download the file again or correct the hash")
    network, weights = _read_own(path) if own_format else _read_medicalnet(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path}: these are not the weights of a 3-D ResNet-10; give another file") from error
    return network.eval().requires_grad_(False)


def _read_own(path: Path) -> tuple[MedicalNetResNet10, dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            about = stream.metadata() or {}
            weights = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise InputError(f"{path}: not a readable safetensors file; make it again") from error
    if not about.get("width", "").isdigit():
        raise InputError(f"{path}: its metadata has no `width`; give a file written by this program")
    return MedicalNetResNet10(int(about["width"]), about.get("name", path.stem)), weights


def _read_medicalnet(path: Path) -> tuple[MedicalNetResNet10, dict[str, torch.Tensor]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
        weights = {key.removeprefix("module."): value for key, value in state.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise InputError(f"{path}: not a checkpoint of plain tensors; give a MedicalNet .pth file") from error
    weights = {key: value for key, value in weights.items() if not key.startswith("conv_seg.")}
    return MedicalNetResNet10(name=f"medicalnet-{path.stem}"), weights


def save_backbone(network: MedicalNetResNet10, path: str | Path) -> None:
    """Write a backbone as safetensors with its width and name as metadata, atomically."""
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file(network.state_dict(), temporary, metadata={"width": str(network.width), "name": network.name})


def z_score(volumes: torch.Tensor) -> torch.Tensor:
    """Mean 0 and standard deviation 1 for each volume of [N, 1, Z, Y, X]; a constant volume becomes 0."""
    centred = volumes - volumes.mean(dim=(1, 2, 3, 4), keepdim=True)
    spread = centred.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt()
    return torch.where(spread > 1e-6, centred / spread.clamp(min=1e-6), 0.0)


@torch.no_grad()
def perceptual_distance(backbone: nn.Module, image: np.ndarray, reconstruction: np.ndarray) -> float:
    """LPIPS without learned weights in the features of a 3-D network (docs/paper.md#metrics).

    Both volumes are z-scored, the last feature maps scaled to unit length over the channels; the squared
    difference is summed over the channels and averaged over positions.

    Args:
        backbone: maps [B, 1, Z, Y, X] to [B, C, z, y, x]; in evaluation mode.
        image, reconstruction: [Z, Y, X].

    Returns:
        Distance in [0, 4]; 0 for equal volumes, and for volumes that differ in brightness or contrast alone.
    """
    pair = torch.from_numpy(np.stack([image, reconstruction]).astype(np.float32))[:, None]
    features = functional.normalize(backbone(z_score(pair)), dim=1, eps=1e-10)
    return float((features[0] - features[1]).square().sum(dim=0).mean())


def train_tissue_backbone(
    images: np.ndarray,
    tissues: np.ndarray,
    width: int,
    steps: int,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> MedicalNetResNet10:
    """Train a narrow backbone to segment tissues, as MedicalNet was trained to segment organs (D21).

    Needs no download: a stand-in with which the LPIPS column can be computed; its values are not the paper's.

    Args:
        images: [N, Z, Y, X] in [0, 1].
        tissues: [N, Z, Y, X], 0 background, 1 CSF, 2 grey matter, 3 white matter.
        width: channels of the first layer (MedicalNet: 64).
        steps: optimiser steps of two volumes each, mirrored at random and with random contrast.
        seed: of the initial weights and of all draws.
        progress: called with (step, cross-entropy) after each step.

    Returns:
        The feature part, in evaluation mode, without gradients.
    """
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from torch's global generator
        torch.manual_seed(seed)
        network, head = MedicalNetResNet10(width, f"tissue-resnet10-w{width}"), _segmentation_head(width)
    generator = torch.Generator().manual_seed(seed)
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        batch, target = _draw_batch(images, tissues, generator)
        loss = functional.cross_entropy(_segment(network, head, batch), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step, loss.item())
    return network.eval().requires_grad_(False)


def _segmentation_head(width: int) -> nn.Sequential:
    upsample = nn.ConvTranspose3d(8 * width, HEAD_WIDTH, 2, stride=2)
    return nn.Sequential(upsample, nn.ReLU(), nn.Conv3d(HEAD_WIDTH, TISSUES, 1))


def _segment(network: nn.Module, head: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Tissue logits [B, 4, Z, Y, X] of z-scored volumes [B, 1, Z, Y, X]."""
    return functional.interpolate(head(network(batch)), size=batch.shape[2:], mode="trilinear")


def _draw_batch(
    images: np.ndarray, tissues: np.ndarray, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random volumes, z-scored [B, 1, Z, Y, X], and their tissues [B, Z, Y, X]."""
    chosen = torch.randint(len(images), (BATCH,), generator=generator).tolist()
    batch = torch.from_numpy(np.stack([images[row] for row in chosen]).astype(np.float32))[:, None]
    target = torch.from_numpy(np.stack([tissues[row] for row in chosen]).astype(np.int64))
    exponent = 2 ** (torch.rand((BATCH, 1, 1, 1, 1), generator=generator) * 2 - 1)
    batch = z_score(batch.clamp(0, 1) ** exponent)
    if torch.rand((), generator=generator) < 0.5:
        batch, target = batch.flip(-1), target.flip(-1)
    return batch, target

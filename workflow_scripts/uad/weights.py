"""Model files: a network's weights as safetensors, which hold no code and need no unpickling."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from uad.errors import InputError
from uad.files import atomic_path


def save_model(network: nn.Module, path: str | Path, metadata: dict[str, str]) -> None:
    """Write a network's weights with its recipe in the metadata."""
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata)


def load_model(network: nn.Module, path: str | Path) -> nn.Module:
    """Fill a network with the weights of `save_model`, in evaluation mode.

    Raises:
        InputError: the file is damaged or does not hold this network.
    """
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{path}: not a model of this arm ({str(error).splitlines()[0]}); train it again") from error
    return network.eval()

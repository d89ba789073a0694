"""Model files: a network's weights as safetensors, which hold no code and need no unpickling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from uad.common.errors import InputError
from uad.common.files import atomic_path


def recipe_of(method: str, params: dict[str, Any]) -> dict[str, str]:
    """What a model file says about itself: the method and its hyper-parameters."""
    return {"method": method, "params": json.dumps(params, sort_keys=True)}


def save_model(network: nn.Module, path: str | Path, metadata: dict[str, str]) -> None:
    """Write a network's weights with its recipe in the metadata."""
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        # one entry: the order of several is not fixed, and equal trainings should give equal bytes
        save_file(weights, temporary, {"made_by": json.dumps(metadata, sort_keys=True)})


def load_model(network: nn.Module, path: str | Path, recipe: dict[str, str]) -> nn.Module:
    """Fill a network with the weights of `save_model`, in evaluation mode.

    Args:
        recipe: metadata that the file must have.

    Raises:
        InputError: the file is damaged, was made by another recipe, or does not hold this network.
    """
    try:
        with safe_open(path, "pt") as file:
            written = json.loads((file.metadata() or {}).get("made_by", "{}"))
        for key, value in recipe.items():
            if written.get(key) != value:
                raise InputError(
                    f"{path}: was trained with {key} {written.get(key)}, the arm has {value}; train it again"
                )
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{path}: not a model of this arm ({str(error).splitlines()[0]}); train it again") from error
    return network.eval()

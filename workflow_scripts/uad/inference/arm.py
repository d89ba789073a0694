"""A trained arm, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from uad.common.memory import keep_freed_memory
from uad.methods import Head, Method, method_of

if TYPE_CHECKING:
    from torch import nn


class Arm(NamedTuple):
    """A method with its trained network, of the class that it makes; a head has that of the arm it starts from.

    The network is None where no network runs.
    """

    method: Method
    network: Any


def load_arm(
    settings: Mapping[str, Any], model: Path | None, shape: tuple[int, int], slices_per_pass: int, threads: int
) -> Arm:
    """An arm as its settings (`method`, `params`, `source`) and model file say.

    Args:
        model: of the arm, or of the one that it starts from; None where no network runs: then torch, which takes long
            to import, stays out.
        shape: height and width of the slices.
        slices_per_pass: bounds the memory; 0: a whole volume at once.
        threads: CPU threads of torch.

    Raises:
        InputError: the model file is not of this arm.
    """
    method = method_of(settings)
    trained, made_by = (method.source, settings["source"]) if isinstance(method, Head) else (method, settings)
    method.slices_per_pass = trained.slices_per_pass = slices_per_pass or None
    if model is None:
        return Arm(method, None)
    import torch

    from uad.networks.weights import load_model, recipe_of

    torch.set_num_threads(threads)
    recipe = recipe_of(made_by["method"], made_by["params"])
    return Arm(method, ready_to_run(load_model(trained.network(shape), model, recipe)))


def ready_to_run(network: nn.Module) -> nn.Module:
    """Move the network to the GPU if there is one, in the memory layout in which it runs fastest.

    That is `channels_last`: the channels of a pixel lie side by side.  Training on a CPU does not gain by it.  Layers
    of volumes stay as they are.
    """
    import torch

    gpu = torch.cuda.is_available()
    if not gpu:
        keep_freed_memory()
    network = network.to("cuda" if gpu else "cpu")
    return torch.nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)

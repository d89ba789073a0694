"""Training and inference of a narrow cDDPM at the paper's image size, each side in a process of its own.

How memory is handed out is a property of the process, so ours and the usual way cannot share one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

BATCH, SLICES, SIZE = 32, 50, (96, 96)
T_TEST = 500


def _method_and_network() -> tuple[Any, torch.nn.Module]:
    """A cDDPM of an eighth of the width; every process draws the same weights."""
    from uad.methods import load_method

    method_class = load_method("cddpm")
    unet = {"base": 16, "head_channels": 16}
    method = method_class(method_class.Params(unet=unet, encoder={"depth": 18, "width": 16}))
    torch.manual_seed(0)
    return method, method.network(SIZE)


def _training(method: Any, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], float]:
    from uad.methods import Batch

    images = torch.rand(BATCH, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    batch = Batch.of_volume(images, images > 0, "t2")

    def step() -> float:
        torch.manual_seed(1)
        loss = method.loss(network, batch, torch.Generator().manual_seed(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    step()  # the losses compared follow an update, so that they depend on the optimiser
    return step


def our_training() -> Callable[[], float]:
    from uad.common.memory import keep_freed_memory

    keep_freed_memory()
    method, network = _method_and_network()
    return _training(method, network, method.optimizer(network.parameters(), 1e-4))


def their_training() -> Callable[[], float]:
    method, network = _method_and_network()
    return _training(method, network, torch.optim.Adam(network.parameters(), 1e-4))


def _inference(read: Callable[[Any, torch.Generator], torch.Tensor]) -> Callable[[], Any]:
    from uad.methods import Batch

    images = torch.rand(SLICES, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    volume = Batch.of_volume(images, images > 0, "t2")
    return lambda: read(volume, torch.Generator().manual_seed(1)).numpy()


def _lively(network: torch.nn.Module) -> torch.nn.Module:
    """Layers that begin at zero would let any U-Net give the same."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) and not layer.weight.any():
            torch.nn.init.normal_(layer.weight, std=0.02)
    return network.eval()


def our_inference() -> Callable[[], Any]:
    from uad.inference.arm import ready_to_run

    method, network = _method_and_network()
    network = ready_to_run(_lively(network))

    def read(volume: Any, generator: torch.Generator) -> torch.Tensor:
        with torch.inference_mode():
            return method.reconstruct(network, volume, [T_TEST], generator)[0]

    return _inference(read)


def their_inference() -> Callable[[], Any]:
    method, network = _method_and_network()
    _lively(network)

    def read(volume: Any, generator: torch.Generator) -> torch.Tensor:
        with torch.no_grad():
            return method.reconstruct(network, volume, [T_TEST], generator)[0]

    return _inference(read)

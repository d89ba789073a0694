"""One training on several devices: every process draws the whole batch and sends its share through the network.

Noise, noise levels, conditions and the loss are those of the whole batch in every process, so that they are the same
as on one device; only the network's pass, which is nearly all of the work, is divided.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, distributed, nn


def is_first_process() -> bool:
    """Whether this is the process that writes results; the others are started by Lightning."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process; all of them must ask."""
    flags = torch.tensor(int(flag), device=device)
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    return bool(flags)


class SharedPass:
    """Replaces a network whose samples do not influence each other.

    Called with tensors of the whole batch ([B, ...], or None), it passes this process's B / n rows through the network
    and returns the output of all rows.  Only the own rows carry a gradient: with a loss over the whole batch, the sum
    of the processes' gradients is that of one process.  Other attributes are the network's own.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, *batch: Tensor | None) -> Tensor:
        rank, processes = distributed.get_rank(), distributed.get_world_size()
        own = self._network(*(None if rows is None else rows.chunk(processes)[rank] for rows in batch))
        shares = [torch.empty_like(own) for _ in range(processes)]
        distributed.all_gather(shares, own.detach().contiguous())
        shares[rank] = own
        return torch.cat(shares)

"""Template of a method (docs/add-a-baseline.md): copy it to `<name>.py` beside this file and change what differs.

As it stands it is a small convolutional autoencoder, complete and tested.  The file's name is the method's name in
`config.yaml`; a name that starts with an underscore, as this one, is not registered.  Every hook and attribute is
described in base.py; what is not written here keeps the default from there.  Networks whose parts train in turns have a
subclass of `Method` there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from uad.methods.base import Batch, Method

# The Snakefile imports this module at every start: torch and other heavy packages are imported inside the hooks.
if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class MyParams(pydantic.BaseModel):
    """The keys of an arm's `params`, with bounds.  They are checked before anything runs."""

    model_config = pydantic.ConfigDict(extra="forbid")  # a misspelt key is refused, not ignored

    width: int = pydantic.Field(32, gt=0)


class MyMethod(Method):
    """One line: what the method holds to be healthy."""

    Params = MyParams
    params: MyParams
    gives = "reconstruction"  # the map is then |image - reconstruction|; "map": the hook anomaly_map draws it
    gpu_hours = 0.5  # time limit of one training at the paper's size, which a cluster is asked for
    RECIPE_VERSION = 1  # raise it when you change the numbers, and the arm's jobs run again

    def network(self, shape: tuple[int, int]) -> nn.Module:
        """A fresh network for slices of `shape` (rows, columns): any size of 16 or more, odd ones too.

        Weights may be random: the caller has seeded torch.
        """
        from torch import nn

        width = self.params.width
        return nn.Sequential(
            nn.Conv2d(1, width, 5, stride=4, padding=2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 5, stride=2, padding=2),
            nn.LeakyReLU(0.2),
            nn.Upsample(size=shape),
            nn.Conv2d(width, 1, 5, padding=2),
        )

    def loss(self, network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
        """Loss of healthy slices, a single number.

        batch.images is [B, 1, rows, columns] in [0, 1], background 0; batch.masks is the brain, batch.positions which
        slice of the volume each is.  `context` asks for neighbouring slices too (Batch.context).

        Draw random numbers from `generator` only (torch.rand(..., generator=generator)), so that a resumed training
        equals an uninterrupted one.  Parts of the loss that the learning curve should show go to
        self.terms["name"] = value.detach().
        """
        return (network(batch.images) - batch.images).abs().mean()

    def reconstruct(self, network: nn.Module, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        """A whole volume, volume.images [Z, 1, rows, columns], as healthy: [1, Z, 1, rows, columns].

        by_slices keeps to the memory that `execution.slices_per_pass` allows.  A diffusion method sets
        reads_noise_levels = True and returns one reconstruction per level of `t_tests` along the first axis.
        """
        return self.by_slices(network, volume.images)[None]


# The registry looks for this name.
METHOD = MyMethod

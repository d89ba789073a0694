"""AE (Baur et al. 2021): an autoencoder with a narrow bottleneck.  docs/paper.md#ae"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from uad.methods.base import Batch, Method

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class AEParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    z_dim: int = pydantic.Field(128, gt=0)
    dropout: float = pydantic.Field(0.0, ge=0, lt=1)  # Baur: 0.2 on z
    spatial: bool = False  # no dense layer: a spatial bottleneck


class AE(Method):
    """Compress and decompress; what the bottleneck cannot carry differs."""

    Params = AEParams
    params: AEParams
    gpu_hours = 0.5

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.autoencoder import Autoencoder

        return Autoencoder(*shape, **self.params.model_dump())

    def loss(self, network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
        return (network(batch.images) - batch.images).abs().mean()

    def reconstruct(self, network: nn.Module, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        return self.by_slices(network, volume.images)[None]


METHOD = AE

"""SVAE (Behrendt et al. 2022): a VAE whose latents also see the neighbouring slices.  docs/paper.md#svae"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pydantic

from uad.methods.base import Batch
from uad.methods.vae import VAE, VAEParams

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from uad.networks.variational import VariationalAutoencoder


class SVAEParams(VAEParams):
    z_dim: int = pydantic.Field(128, gt=0, multiple_of=4)
    mixer: Literal["transformer", "gru"] = "transformer"
    layers: int = pydantic.Field(2, gt=0)
    chunk: int = pydantic.Field(16, gt=0)  # consecutive slices of one volume; divides train.batch_size


class SVAE(VAE):
    """A VAE over short sequences of slices."""

    Params = SVAEParams
    params: SVAEParams
    learns_context = True

    def __init__(self, params: SVAEParams) -> None:
        super().__init__(params)
        self.context = params.chunk

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.variational import SequenceVariationalAutoencoder

        return SequenceVariationalAutoencoder(*shape, **self.params.model_dump(include={"z_dim", "mixer", "layers"}))

    def loss(self, network: VariationalAutoencoder, batch: Batch, generator: Generator) -> Tensor:
        assert batch.context is not None
        return self.evidence_bound(network, batch.context[:, :, None], generator)

    def reconstruct(self, network: nn.Module, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        return network(volume.images[None])


METHOD = SVAE

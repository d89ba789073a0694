"""Pre-training of a part of an arm's network, in a job of its own.  docs/paper.md#spark

A pre-training is a `Method` that only trains, and says which part of its network the model file keeps.  It is no arm,
so it stays out of the registry of `uad.methods`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from uad.methods.base import Batch, Method
from uad.methods.settings import ConditionedDiffusionSettings, EncoderSettings, SparkSettings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer

    from uad.networks.resnet import ResNetEncoder
    from uad.networks.spark import MaskedAutoencoder


class SparKParams(SparkSettings):
    """What to pre-train, and how."""

    encoder: EncoderSettings = EncoderSettings()
    optimizer: Literal["adam", "adamw"] = "adamw"


class SparK(Method):
    """Hide two thirds of a slice and let encoder and decoder complete it; the encoder is kept."""

    Params = SparKParams
    params: SparKParams
    gpu_hours = 0.5

    @classmethod
    def of(cls, params: ConditionedDiffusionSettings) -> SparK:
        """The pre-training that an arm's parameters ask for in `spark`, of the encoder in `encoder`."""
        assert params.spark is not None
        chosen = params.spark.model_dump()
        return cls(SparKParams(encoder=params.encoder, optimizer=params.spark_optimizer, **chosen))

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.resnet import ResNetEncoder
        from uad.networks.spark import MaskedAutoencoder

        return MaskedAutoencoder(ResNetEncoder(**self.params.encoder.model_dump()), self.params.decoder_width)

    def optimizer(self, weights: Iterable[nn.Parameter], learning_rate: float) -> Optimizer:
        if self.params.optimizer == "adam":
            return super().optimizer(weights, learning_rate)
        import torch

        return torch.optim.AdamW(weights, learning_rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True)

    def loss(self, network: nn.Module, batch: Batch, generator: Generator) -> Tensor:
        from uad.networks.spark import draw_cells, hidden_pixel_error, pad_to_cells

        padded, inside = pad_to_cells(batch.images)
        cells = draw_cells(padded, self.params.mask_ratio, generator)
        return hidden_pixel_error(network(padded, cells), padded, cells, inside)

    def kept(self, network: MaskedAutoencoder) -> nn.Module:
        """The part of the trained network that arms start from."""
        return network.encoder


PRETRAININGS: dict[str, type[SparK]] = {"spark": SparK}


def load_encoder(encoder: ResNetEncoder, path: str | Path, spark: SparK) -> None:
    """Fill an arm's encoder with the model file of its pre-training; `fc` keeps its random weights.

    Raises:
        InputError: the file was made with other parameters (it names both), is damaged, or holds no such encoder.
    """
    from torch import nn

    from uad.networks.weights import load_model, recipe_of

    body = nn.ModuleDict({"stem": encoder.stem, "stages": encoder.stages})  # shares the encoder's weights
    load_model(body, path, recipe_of("spark", spark.params.model_dump(mode="json")))
    body.train(encoder.training)  # `load_model` leaves evaluation mode behind

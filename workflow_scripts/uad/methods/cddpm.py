"""cDDPM: the U-Net is conditioned on an encoding of the noise-free input.  docs/paper.md#condition"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uad.methods.ddpm import DDPM
from uad.methods.settings import ConditionedDiffusionSettings

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from uad.methods.base import Batch, Method
    from uad.networks.conditioned import ConditionedUNet


class ConditionedDDPM(DDPM):
    """An encoder turns the noise-free slice into a vector that scales and shifts every residual block."""

    Params = ConditionedDiffusionSettings
    params: ConditionedDiffusionSettings
    gpu_hours = 4.0

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.conditioned import ConditionedUNet
        from uad.networks.resnet import ResNetEncoder
        from uad.networks.unet import UNet

        condition, encoder = self.params.condition, self.params.encoder
        return ConditionedUNet(
            UNet(**self.params.unet.model_dump(), condition_dim=condition.dim, condition_mlp=condition.mlp),
            ResNetEncoder(**encoder.model_dump(), output_dim=condition.dim),
        )

    def pretraining(self) -> Method | None:
        from uad.methods.pretraining import SparK

        return SparK.of(self.params) if self.params.spark else None

    def start_from(self, network: Any, weights: str | Path) -> None:
        from uad.methods.pretraining import SparK, load_encoder

        load_encoder(network.encoder, weights, SparK.of(self.params))

    def condition(self, network: ConditionedUNet, batch: Batch) -> Tensor:
        return self.by_slices(network.encoder, batch.images)


METHOD = ConditionedDDPM

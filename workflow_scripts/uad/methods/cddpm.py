"""cDDPM: the U-Net is conditioned on an encoding of the noise-free input.  docs/paper.md#condition"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uad.methods.base import WHOLE_VOLUME
from uad.methods.ddpm import DDPM
from uad.methods.settings import ConditionedDiffusionSettings

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from uad.methods.base import Batch, Method
    from uad.networks.conditioned import ConditionedUNet


class ConditionedDDPM(DDPM):
    """An encoder turns the noise-free slice into a vector that scales and shifts every residual block.

    It may see neighbouring slices or the whole volume too, and the vector may enter otherwise (`ConditionSettings`).
    """

    Params = ConditionedDiffusionSettings
    params: ConditionedDiffusionSettings
    gpu_hours = 4.0

    def __init__(self, params: ConditionedDiffusionSettings) -> None:
        super().__init__(params)
        slices = params.condition.slices
        self.context = WHOLE_VOLUME if slices == "volume" else slices

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.conditioned import ConditionedUNet, SlicePosition
        from uad.networks.resnet import ResNetEncoder
        from uad.networks.unet import UNet

        condition, encoder, unet = self.params.condition, self.params.encoder, self.params.unet.model_dump()
        sees = {"dims": 3} if self.context == WHOLE_VOLUME else {"in_channels": self.context}
        return ConditionedUNet(
            UNet(**unet, condition_dim=condition.dim, condition_mlp=condition.mlp, condition_mode=condition.mode),
            ResNetEncoder(**encoder.model_dump(), output_dim=condition.dim, **sees),
            SlicePosition(condition.dim) if self.context == WHOLE_VOLUME else None,
        )

    def pretraining(self) -> Method | None:
        from uad.methods.pretraining import SparK

        return SparK.of(self.params) if self.params.spark else None

    def start_from(self, network: Any, weights: str | Path) -> None:
        from uad.methods.pretraining import SparK, load_encoder

        load_encoder(network.encoder, weights, SparK.of(self.params))

    def condition(self, network: ConditionedUNet, batch: Batch) -> Tensor:
        from uad.networks.conditioned import different_volumes

        if self.context == 1:
            return self.by_slices(network.encoder, batch.images)
        assert batch.context is not None
        if self.context != WHOLE_VOLUME:
            return self.by_slices(network.encoder, batch.context)
        assert network.position is not None
        volumes, which = different_volumes(batch.context)  # slices of one volume share its encoding
        encoded = self.by_slices(network.encoder, volumes[:, None])
        return encoded[which] + network.position(batch.positions, batch.depth)


METHOD = ConditionedDDPM

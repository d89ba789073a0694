"""FAE (Meissen et al. 2022): an autoencoder of frozen features, compared by SSIM.  docs/methods/fae.md"""

from __future__ import annotations

from functools import reduce
from math import exp
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from uad.common.settings import RulePath
from uad.methods.base import Batch, Method
from uad.methods.settings import EncoderSettings, SparkSettings

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Generator, Tensor, nn

    from uad.methods.pretraining import SparK
    from uad.networks.features import FeatureAutoencoder

SIGMA, RADIUS = 1.5, 2  # of the SSIM's window, 5 x 5
C1, C2 = 0.01**2, 0.03**2


class FAEParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    weights: RulePath | None = None  # torchvision's ResNet-18; None: pre-trained here, with SparK
    sha256: str | None = pydantic.Field(None, pattern="^[0-9a-fA-F]{64}$")
    spark: SparkSettings = SparkSettings()
    width: int = pydantic.Field(64, gt=0)  # channels of the ResNet's first stage
    size: int = pydantic.Field(128, gt=0, multiple_of=4)  # pixels that slices are resized to
    channels: list[Annotated[int, pydantic.Field(gt=0)]] = pydantic.Field([100, 150, 200, 300], min_length=1)
    dropout: float = pydantic.Field(0.1, ge=0, lt=1)

    @pydantic.model_validator(mode="after")
    def _the_grid_halves(self) -> FAEParams:
        if self.size % (4 * 2 ** len(self.channels)):
            raise ValueError(
                f"size must be a multiple of {4 * 2 ** len(self.channels)}, for {len(self.channels)} levels"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _weights_have_a_hash(self) -> FAEParams:
        if (self.weights is None) != (self.sha256 is None):
            raise ValueError("name `weights` and their `sha256`, or neither")
        if self.weights is not None and self.width != 64:
            raise ValueError("width must be 64 with `weights`")
        return self


class FAE(Method):
    """Where the autoencoder misses the structure of the features, the slice is anomalous."""

    Params = FAEParams
    params: FAEParams
    gives = "map"
    gpu_hours = 1.0

    def network(self, shape: tuple[int, int]) -> nn.Module:
        from uad.networks.features import FeatureAutoencoder

        return FeatureAutoencoder(self.params.width, self.params.size, self.params.channels, self.params.dropout)

    def weights_file(self) -> str | None:
        return self.params.weights

    def pretraining(self) -> Method | None:
        return self._spark() if self.params.weights is None else None

    def _spark(self) -> SparK:
        from uad.methods.pretraining import SparK, SparKParams

        encoder = EncoderSettings(depth=18, width=self.params.width)
        return SparK(SparKParams(encoder=encoder, **self.params.spark.model_dump()))

    def start_from(self, network: FeatureAutoencoder, weights: str | Path) -> None:
        from uad.methods.pretraining import load_encoder
        from uad.networks.features import load_resnet18
        from uad.networks.resnet import ResNetEncoder

        if self.params.sha256 is not None:
            encoder = load_resnet18(weights, self.params.sha256)
        else:
            encoder = ResNetEncoder(depth=18, width=self.params.width, drop_path=0.0)
            load_encoder(encoder, weights, self._spark())
        network.features.take(encoder)

    def loss(self, network: Any, batch: Batch, generator: Generator) -> Tensor:
        return 1 - similarity(*network(batch.images)).mean()

    def anomaly_map(self, network: Any, volume: Batch, generator: Generator) -> Tensor:
        import torch.nn.functional as F

        def dissimilarity(images: Tensor) -> Tensor:
            return 1 - similarity(*network(images)).mean(dim=1, keepdim=True)

        coarse = self.by_slices(dissimilarity, volume.images)
        fine = F.interpolate(coarse, volume.images.shape[2:], mode="bilinear", align_corners=True)
        return fine.clamp(min=0) * volume.masks  # rounding may leave SSIM above 1


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM at every position and channel of two tensors [B, C, H, W], float32: a 5x5 Gaussian window, sigma 1.5.

    The constants are those of a data range of 1; outside the grid is 0.
    """
    # autocast would take a convolution to half precision, which the small differences below do not survive
    x, y = first.float(), second.float()
    mean_x, mean_y = _smooth(x), _smooth(y)
    product = mean_x * mean_y
    squares = mean_x.square() + mean_y.square()
    covariance = _smooth(x * y) - product
    variance = _smooth(x.square() + y.square()) - squares
    return (2 * product + C1) * (2 * covariance + C2) / ((squares + C1) * (variance + C2))


def _smooth(maps: Tensor) -> Tensor:
    import torch
    import torch.nn.functional as F

    weights = [exp(-0.5 * (step / SIGMA) ** 2) for step in range(-RADIUS, RADIUS + 1)]
    padded = F.pad(maps, (RADIUS, RADIUS, RADIUS, RADIUS))
    for axis in (-1, -2):
        size = maps.shape[axis]
        shifted = (w * padded.narrow(axis, k, size) for k, w in enumerate(weights))
        padded = reduce(torch.add, shifted) / sum(weights)
    return padded


METHOD = FAE

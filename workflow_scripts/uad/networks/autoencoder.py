"""Convolutional autoencoder of Baur et al. 2021 in its "unified" form (docs/paper.md#ae).

Encoder and decoder stand alone, so that the variational arms put their own latent between them.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

SLOPE = 0.3
MAX_WIDTH = 128
MIN_WIDTH = 32
BOTTLENECK_SHRINK = 8


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes from the input down to the bottleneck: halved (rounding up) while the shorter side stays >= 8.

    96x96 -> [(96, 96), (48, 48), (24, 24), (12, 12)]
    """
    sizes = [(height, width)]
    while min(height, width) >= 16:
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    if len(sizes) == 1:
        raise ValueError(f"images of {height}x{width} are too small, the shorter side must be 16 or more")
    return sizes


def encoder_widths(levels: int) -> list[int]:
    return [min(MAX_WIDTH, MIN_WIDTH * 2**level) for level in range(levels)]


class Encoder(nn.Module):
    """Images [B, 1, H, W] -> map [B, *map_shape]: 5x5 convolutions of stride 2, then 1x1 to `map_channels`.

    map_channels: None means an eighth of the deepest width. map_shape: (channels, rows, columns),
    (16, 12, 12) at 96x96.
    """

    def __init__(self, height: int, width: int, map_channels: int | None = None):
        super().__init__()
        sizes = level_sizes(height, width)
        widths = [1, *encoder_widths(len(sizes) - 1)]
        self.map_shape = (map_channels or widths[-1] // BOTTLENECK_SHRINK, *sizes[-1])
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Conv2d(n_in, n_out, 5, 2, padding=2), nn.BatchNorm2d(n_out), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], self.map_shape[0], 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Decoder(nn.Module):
    """Map [B, *map_shape] -> images [B, 1, H, W], linear output: the mirror of `Encoder`."""

    def __init__(self, height: int, width: int, map_channels: int | None = None):
        super().__init__()
        sizes = level_sizes(height, width)
        deepest = encoder_widths(len(sizes) - 1)[-1]
        self.map_shape = (map_channels or deepest // BOTTLENECK_SHRINK, *sizes[-1])
        expand = nn.Conv2d(self.map_shape[0], deepest, 1)
        layers: list[nn.Module] = [expand, nn.BatchNorm2d(deepest), nn.ReLU()]
        n_in = deepest
        for level, ((rows, columns), target) in enumerate(pairwise(reversed(sizes))):
            n_out = max(MIN_WIDTH, deepest // 2**level)
            # A transposed 5x5 convolution of stride 2 and padding 2 gives 2n - 1 pixels; `extra` adds 0 or 1.
            extra = (target[0] - (2 * rows - 1), target[1] - (2 * columns - 1))
            layers += [
                nn.ConvTranspose2d(n_in, n_out, 5, 2, padding=2, output_padding=extra),
                nn.BatchNorm2d(n_out),
                nn.LeakyReLU(SLOPE),
            ]
            n_in = n_out
        self.layers = nn.Sequential(*layers, nn.Conv2d(n_in, 1, 1))

    def forward(self, latent_map: Tensor) -> Tensor:
        return self.layers(latent_map)


class Autoencoder(nn.Module):
    """Dense or spatial autoencoder: the latent is a vector of `z_dim` or a map of `z_dim` channels.

    height, width: image size in pixels, shorter side >= 16 (ValueError otherwise).
    dropout: rate on the latent (0.2 in Baur et al., 0 in the paper's row). Source: docs/paper.md#ae
    """

    def __init__(self, height: int, width: int, z_dim: int = 128, spatial: bool = False, dropout: float = 0.0):
        super().__init__()
        map_channels = z_dim if spatial else None
        self.encoder = Encoder(height, width, map_channels)
        self.decoder = Decoder(height, width, map_channels)
        self.to_latent: nn.Module = nn.Identity()
        self.from_latent: nn.Module = nn.Identity()
        if not spatial:
            channels, rows, columns = self.encoder.map_shape
            flat = channels * rows * columns
            self.to_latent = nn.Sequential(nn.Flatten(), nn.Linear(flat, z_dim))
            self.from_latent = nn.Sequential(nn.Linear(z_dim, flat), nn.Unflatten(1, self.encoder.map_shape))
        self.dropout = nn.Dropout(dropout)

    def encode(self, x: Tensor) -> Tensor:
        """Images [B, 1, H, W] in [0, 1] -> latent [B, z_dim], or [B, z_dim, h, w] where spatial."""
        return self.to_latent(self.encoder(x))

    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(self.from_latent(latent))

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 1, H, W] in [0, 1] -> reconstructions of the same shape, not clamped."""
        return self.decode(self.dropout(self.encode(x)))

"""Variational autoencoders on the encoder and decoder of Baur et al. 2021 (docs/paper.md#vae, docs/paper.md#svae)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from uad.networks.autoencoder import Decoder, Encoder
from uad.networks.unet import sinusoidal_embedding

MIXERS = ("transformer", "gru")
HEADS = 4


class VariationalAutoencoder(nn.Module):
    """Dense variational autoencoder: each slice becomes the mean and log-variance of `z_dim` latents.

    height, width: image size in pixels, shorter side >= 16 (ValueError otherwise).
    Calling it reconstructs from the mean, as at test (docs/paper.md#vae).
    """

    def __init__(self, height: int, width: int, z_dim: int = 128):
        super().__init__()
        self.encoder = Encoder(height, width)
        self.decoder = Decoder(height, width)
        flat = math.prod(self.encoder.map_shape)
        self._make_heads(flat, z_dim)
        self.from_latent = nn.Sequential(nn.Linear(z_dim, flat), nn.Unflatten(1, self.encoder.map_shape))

    def _make_heads(self, flat: int, z_dim: int) -> None:
        self.to_mu = nn.Linear(flat, z_dim)
        self.to_logvar = nn.Linear(flat, z_dim)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 1, H, W] in [0, 1] -> mean and log-variance, each [B, z_dim]."""
        features = self.encoder(x).flatten(1)
        return self.to_mu(features), self.to_logvar(features)

    def decode(self, latent: Tensor) -> Tensor:
        """Latents [B, z_dim] -> images [B, 1, H, W], not clamped."""
        return self.decoder(self.from_latent(latent))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


class SequenceVariationalAutoencoder(VariationalAutoencoder):
    """The same for sequences of slices [V, S, 1, H, W], whose features see their neighbours (docs/paper.md#svae).

    Features h of each slice (`z_dim` of them) become h + mixer(h); mean and log-variance are linear in the sum.
    Without the mixer the two linear layers in a row are one, and the network is the plain one.

    z_dim: a multiple of 4 (attention heads). mixer, layers: see `Mixer`.
    """

    def __init__(self, height: int, width: int, z_dim: int = 128, mixer: str = "transformer", layers: int = 2):
        super().__init__(height, width, z_dim)
        self.mixer = Mixer(z_dim, mixer, layers)

    def _make_heads(self, flat: int, z_dim: int) -> None:
        self.to_features = nn.Linear(flat, z_dim)
        super()._make_heads(z_dim, z_dim)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sequences [V, S, 1, H, W] in [0, 1] -> mean and log-variance, each [V, S, z_dim]."""
        features = self.to_features(self.encoder(x.flatten(0, 1)).flatten(1)).unflatten(0, x.shape[:2])
        features = features + self.mixer(features)
        return self.to_mu(features), self.to_logvar(features)

    def decode(self, latent: Tensor) -> Tensor:
        """Latents [V, S, z_dim] -> sequences [V, S, 1, H, W], not clamped."""
        return super().decode(latent.flatten(0, 1)).unflatten(0, latent.shape[:2])


class Mixer(nn.Module):
    """Exchange between the slices of a sequence: [V, S, width] -> [V, S, width].

    kind "transformer": pre-norm layers of 4 heads with a feed-forward part of twice the width, then a norm;
    "gru": bidirectional, half the width in each direction. The place in the sequence is added to its input.
    """

    def __init__(self, width: int, kind: str, layers: int):
        super().__init__()
        self.layers: nn.Module
        if kind == "transformer":
            # built one by one: nn.TransformerEncoder would start all layers from the same weights
            stack = (
                nn.TransformerEncoderLayer(width, HEADS, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
                for _ in range(layers)
            )
            self.layers = nn.Sequential(*stack, nn.LayerNorm(width))
        elif kind == "gru":
            self.layers = nn.GRU(width, width // 2, layers, batch_first=True, bidirectional=True)
        else:
            raise ValueError(f"mixer is {kind!r}, it must be one of {MIXERS}")

    def forward(self, features: Tensor) -> Tensor:
        place = torch.arange(features.shape[1], device=features.device)
        mixed = self.layers(features + sinusoidal_embedding(place, features.shape[2]))
        return mixed[0] if isinstance(self.layers, nn.GRU) else mixed

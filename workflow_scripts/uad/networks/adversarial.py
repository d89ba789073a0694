"""Generator, critic and encoder of f-AnoGAN: the residual networks of WGAN-GP.  docs/paper.md#f-anogan

All three work on a canvas of seed x 2^blocks pixels: images are padded to it with background on all sides, and
the generator's canvas is cropped back.  At 96x96 with five blocks the seed is 3x3 and nothing is padded.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BACKGROUND = -1.0
# channels of the maps from the seed up to the canvas, in units of `width`; fewer blocks leave out the deepest
LADDER = (8, 8, 4, 4, 2, 1)


def conv(n_in: int, n_out: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, padding=size // 2)


class UpBlock(nn.Module):
    """Twice the size: shortcut and branch are enlarged by repeating pixels, then convolved."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(n_in), nn.ReLU(), nn.Upsample(scale_factor=2), conv(n_in, n_out),
            nn.BatchNorm2d(n_out), nn.ReLU(), conv(n_out, n_out),
        )  # fmt: skip
        # the 1x1 convolution gives the same before and after pixels are repeated, and costs a quarter before
        self.shortcut = nn.Sequential(conv(n_in, n_out, 1), nn.Upsample(scale_factor=2))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)


class DownBlock(nn.Module):
    """Half the size by averaging 2x2 pixels.

    Layer norms, with a weight per position: batch norm would tie the samples of a batch together, and the gradient
    penalty is about each of them.
    """

    def __init__(self, n_in: int, n_out: int, size: tuple[int, int]):
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm([n_in, *size]), nn.ReLU(), conv(n_in, n_in),
            nn.LayerNorm([n_in, *size]), nn.ReLU(), conv(n_in, n_out, 1), nn.AvgPool2d(2),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), conv(n_in, n_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)


class Canvas:
    """Sizes of the networks for images of height x width pixels."""

    def __init__(self, height: int, width: int, blocks: int, channels: int):
        self.image = (height, width)
        self.seed = (-(-height // 2**blocks), -(-width // 2**blocks))
        self.sizes = [(self.seed[0] * 2**level, self.seed[1] * 2**level) for level in range(blocks + 1)]
        self.channels = [share * channels for share in LADDER[-(blocks + 1) :]]

    def _margins(self) -> tuple[int, int, int, int]:
        """Left, right, top and bottom."""
        rest_y, rest_x = (canvas - image for canvas, image in zip(self.sizes[-1], self.image, strict=True))
        return rest_x // 2, rest_x - rest_x // 2, rest_y // 2, rest_y - rest_y // 2

    def pad(self, images: Tensor) -> Tensor:
        return F.pad(images, self._margins(), value=BACKGROUND)

    def crop(self, canvas: Tensor) -> Tensor:
        left, _, top, _ = self._margins()
        return canvas[..., top : top + self.image[0], left : left + self.image[1]]


class Generator(nn.Module):
    """Latents [B, z_dim] -> images [B, 1, H, W] in [-1, 1]."""

    def __init__(self, canvas: Canvas, z_dim: int):
        super().__init__()
        self.canvas = canvas
        deepest = canvas.channels[0]
        self.seed = nn.Linear(z_dim, deepest * canvas.seed[0] * canvas.seed[1])
        blocks = (UpBlock(n_in, n_out) for n_in, n_out in pairwise(canvas.channels))
        last = canvas.channels[-1]
        self.layers = nn.Sequential(*blocks, nn.BatchNorm2d(last), nn.ReLU(), conv(last, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        seed = self.seed(z).unflatten(1, (self.canvas.channels[0], *self.canvas.seed))
        return self.canvas.crop(self.layers(seed))


class Features(nn.Module):
    """Images [B, 1, H, W] in [-1, 1] -> the map at the seed's size, flattened: [B, features]."""

    def __init__(self, canvas: Canvas):
        super().__init__()
        self.canvas = canvas
        channels, sizes = canvas.channels[::-1], canvas.sizes[::-1]
        blocks = (DownBlock(n_in, n_out, size) for (n_in, n_out), size in zip(pairwise(channels), sizes, strict=False))
        self.layers = nn.Sequential(conv(1, channels[0]), *blocks, nn.Flatten())
        self.count = channels[-1] * canvas.seed[0] * canvas.seed[1]

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.canvas.pad(images))


class Critic(nn.Module):
    """Images [B, 1, H, W] in [-1, 1] -> how real they look [B], without bounds."""

    def __init__(self, canvas: Canvas):
        super().__init__()
        self.features = Features(canvas)
        self.judge = nn.Linear(self.features.count, 1, bias=False)  # only differences of its output count

    def forward(self, images: Tensor) -> Tensor:
        return self.judge(self.features(images))[:, 0]


class Encoder(nn.Module):
    """Images [B, 1, H, W] in [-1, 1] -> latents [B, z_dim] in [-1, 1]."""

    def __init__(self, canvas: Canvas, z_dim: int):
        super().__init__()
        features = Features(canvas)
        self.layers = nn.Sequential(features, nn.Linear(features.count, z_dim), nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class AdversarialAutoencoder(nn.Module):
    """The three networks; calling it gives G(E(x)) for images [B, 1, H, W] in [-1, 1].

    height, width: image size in pixels. blocks: 1 to 5 halvings. width: channels of the largest maps.
    """

    def __init__(self, height: int, width: int, z_dim: int = 128, channels: int = 64, blocks: int = 5):
        super().__init__()
        canvas = Canvas(height, width, blocks, channels)
        self.generator = Generator(canvas, z_dim)
        self.critic = Critic(canvas)
        self.encoder = Encoder(canvas, z_dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.generator(self.encoder(images))


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean over the batch of (|gradient of the critic| - 1)^2 between real and fake images.

    share [B, 1, 1, 1] in [0, 1]: how far each point lies from `real` to `fake`.  Its gradient goes to the critic.
    """
    between = torch.lerp(real, fake, share).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

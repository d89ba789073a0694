"""SparK: masked image modelling with a convolutional encoder (Tian et al., ICLR 2023).  docs/paper.md#spark

An image is cut into cells of 32 x 32 pixels, one per position of the encoder's deepest map.  The encoder sees some
of them, the decoder draws the others.  A dense convolution would leak: after a few layers hidden positions hold
what their neighbours told them, and batch statistics would count them.  So every layer keeps them at zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from uad.networks.resnet import ResNetEncoder

CELL = 32  # pixels: the stride of the encoder's deepest map
MIN_CELLS = 2  # per axis, so that something can be hidden and something seen
STAGES = 5  # of the decoder, each doubling the size: 2**5 = CELL


class Visibility:
    """Which cells of the current batch may be seen; all sparse layers of one network share it.

    Outside `of` there is no mask, and the layers work as their dense kind.
    """

    def __init__(self) -> None:
        self.cells: Tensor | None = None
        self._masks: dict[torch.Size, tuple[Tensor, Tensor]] = {}  # one per resolution

    @contextmanager
    def of(self, cells: Tensor) -> Iterator[None]:
        """Within the block only these cells, bool [B, rows, columns], are seen."""
        self.cells = cells
        try:
            yield
        finally:
            self.cells = None
            self._masks = {}

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """For a map [B, C, h, w]: what is seen, bool [B, 1, h, w], and its places among the B * h * w pixels."""
        size = x.shape[2:]
        if size not in self._masks:
            assert self.cells is not None
            rows, columns = (length // count for length, count in zip(size, self.cells.shape[1:], strict=True))
            seen = self.cells.repeat_interleave(rows, 1).repeat_interleave(columns, 2)
            self._masks[size] = seen[:, None], seen.flatten().nonzero()[:, 0]
        return self._masks[size]

    def only_seen(self, x: Tensor) -> Tensor:
        """The map with 0 in its hidden positions."""
        return x if self.cells is None else x.masked_fill(~self.at(x)[0], 0)


class SparseBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics are those of the seen pixels; hidden ones come out as 0."""

    def __init__(self, channels: int, visibility: Visibility) -> None:
        super().__init__(channels)
        self.visibility = visibility

    def forward(self, x: Tensor) -> Tensor:
        if self.visibility.cells is None:
            return super().forward(x)
        _, places = self.visibility.at(x)
        batch, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        seen = super().forward(pixels.index_select(0, places)[:, :, None, None])[:, :, 0, 0]
        filled = seen.new_zeros(len(pixels), channels).index_copy(0, places, seen)
        return filled.view(batch, height, width, channels).permute(0, 3, 1, 2)


def make_sparse(encoder: ResNetEncoder, visibility: Visibility) -> None:
    """Let an encoder see only the cells of `visibility`; its weights keep names and values.

    A sparse operation is the dense one whose hidden outputs are set to 0.  A batch norm follows every convolution, so
    it does this for both.  In the pooling, which follows a ReLU, zeros are neutral as inputs.
    """
    encoder.stem.register_forward_pre_hook(lambda module, inputs: visibility.only_seen(inputs[0]))
    encoder.stem[-1].register_forward_hook(lambda module, inputs, output: visibility.only_seen(output))  # pooling
    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                sparse = SparseBatchNorm2d(child.num_features, visibility)
                sparse.load_state_dict(child.state_dict())
                setattr(parent, name, sparse)


class Densify(nn.Module):
    """Complete a sparse map for the decoder: normalise, put a learned token in the hidden cells, project."""

    def __init__(self, in_channels: int, out_channels: int, size: int, visibility: Visibility) -> None:
        super().__init__()
        self.visibility = visibility
        self.norm = SparseBatchNorm2d(in_channels, visibility)
        self.token = nn.Parameter(torch.zeros(1, in_channels, 1, 1))
        nn.init.trunc_normal_(self.token, std=0.02)
        self.project = nn.Conv2d(in_channels, out_channels, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        seen, _ = self.visibility.at(x)
        normed = self.norm(x)
        return self.project(torch.where(seen, normed, self.token.to(normed.dtype)))


def decoder_stage(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, in_channels, 4, stride=2, padding=1),
        nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU6(inplace=True),
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class LightDecoder(nn.Module):
    """Maps of 1/32, 1/16, 1/8 and 1/4 of the size -> image [B, 1, H, W]; a narrow U-Net's way up.

    width: channels of the first stage, 32 or more; each of the five stages halves them.  The maps have `inputs`
    channels; all but the deepest are added to what the stage before gives.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width // 2**stage for stage in range(STAGES + 1)]
        self.inputs = widths[:4]
        self.stages = nn.ModuleList(decoder_stage(*channels) for channels in pairwise(widths))
        self.to_image = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        h = self.stages[0](maps[0])
        for stage, skip in zip(self.stages[1:4], maps[1:], strict=True):
            h = stage(h + skip)
        return self.to_image(self.stages[4](h))


class MaskedAutoencoder(nn.Module):
    """A ResNet encoder that sees some cells of an image, and a decoder that completes the image.

    encoder: is made sparse in place and loses its `fc`, which has no part in this; the other weights keep their names.
    decoder_width: channels of the decoder's first stage, 32 or more (512 beside a ResNet-50).
    """

    def __init__(self, encoder: ResNetEncoder, decoder_width: int) -> None:
        super().__init__()
        self.visibility = Visibility()
        make_sparse(encoder, self.visibility)
        encoder.fc = nn.Identity()
        self.encoder = encoder
        self.decoder = LightDecoder(decoder_width)
        channels = zip(reversed(encoder.pyramid), self.decoder.inputs, strict=True)
        self.densify = nn.ModuleList(
            Densify(n_in, n_out, 3 if level else 1, self.visibility) for level, (n_in, n_out) in enumerate(channels)
        )

    def forward(self, images: Tensor, cells: Tensor) -> Tensor:
        """Complete images [B, 1, H, W] in [0, 1] of which only `cells`, bool [B, H / 32, W / 32], are seen.

        Returns images of the same shape, not clamped.
        """
        with self.visibility.of(cells):
            maps = reversed(self.encoder.features(images))
            return self.decoder([densify(x) for densify, x in zip(self.densify, maps, strict=True)])


def pad_to_cells(images: Tensor) -> tuple[Tensor, Tensor]:
    """Pad images [B, 1, H, W] with 0 on all sides to whole cells, at least 2 x 2 of them.

    Returns the padded images and which of their pixels are not padding, bool [1, 1, H', W'].
    """
    height, width = images.shape[2:]
    padding = []  # left, right, top, bottom
    for length in (width, height):
        missing = CELL * max(-(-length // CELL), MIN_CELLS) - length
        padding += [missing // 2, missing - missing // 2]
    inside = torch.ones(1, 1, height, width, dtype=torch.bool, device=images.device)
    return functional.pad(images, padding), functional.pad(inside, padding)


def draw_cells(images: Tensor, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """Which cells of each padded image [B, 1, H, W] are seen, bool [B, H / 32, W / 32]: the same number in each.

    round(cells * (1 - mask_ratio)) are seen (D24: 3 of 9 at 0.65), at least one, and at least one is hidden.
    """
    batch, _, height, width = images.shape
    rows, columns = height // CELL, width // CELL
    count = rows * columns
    n_seen = min(max(round(count * (1 - mask_ratio)), 1), count - 1)
    order = torch.rand(batch, count, generator=generator, device=generator.device).argsort(dim=1)
    return (order < n_seen).view(batch, rows, columns).to(images.device)


def hidden_pixel_error(completed: Tensor, images: Tensor, cells: Tensor, inside: Tensor) -> Tensor:
    """Mean squared error over the pixels of hidden cells that are not padding.

    completed, images: [B, 1, H, W]; cells: what was seen, bool [B, H / 32, W / 32]; inside: as of `pad_to_cells`.
    """
    hidden = ~cells.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)[:, None] & inside
    return ((completed.float() - images) ** 2 * hidden).sum() / hidden.sum()

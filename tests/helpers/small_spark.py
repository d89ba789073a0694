"""SparK of a size for tests."""

import numpy as np
import torch

from uad.methods.pretraining import SparK
from uad.networks.resnet import ResNetEncoder
from uad.networks.spark import (
    MaskedAutoencoder,
)

TINY = {"depth": 10, "width": 4, "drop_path": 0.0}
PAPER_CELLS = torch.tensor([[[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 1, 1], [0, 0, 0], [1, 0, 0]]], dtype=torch.bool)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=0):
    return torch.rand(shape, generator=generator(seed))


def randomised(network):
    """Weights and running statistics random: fresh residual branches and biases are silent."""
    drawn = generator(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "num_batches" not in name:
                values = torch.rand(tensor.shape, generator=drawn)
                tensor.copy_(values + 0.5 if "running_var" in name else 0.4 * values - 0.2)
    return network


def autoencoder(depth=10, width=4):
    torch.manual_seed(0)
    return randomised(MaskedAutoencoder(ResNetEncoder(depth, 8, width, drop_path=0.0), decoder_width=32))


def encoded(network, x, cells):
    with network.visibility.of(cells), torch.no_grad():
        return network.encoder.features(x)


def spark(**changes):
    return SparK(SparK.Params(**{"encoder": TINY, "decoder_width": 32} | changes))


def pixels(cells):
    """Dense [B, 1, H, W] form of a mask of cells, by numpy's Kronecker product."""
    return torch.from_numpy(np.stack([np.kron(c, np.ones((32, 32))) for c in cells.numpy()]))[:, None].bool()

"""SparK's network: what is hidden stays hidden, cells are drawn and the loss counts them.  docs/paper.md#spark"""

import numpy as np
import pytest
import torch
from packed_arrays import batch_of
from small_spark import PAPER_CELLS, autoencoder, encoded, generator, images, pixels, randomised, spark

from uad.networks.resnet import ResNetEncoder
from uad.networks.spark import (
    MaskedAutoencoder,
    SparseBatchNorm2d,
    Visibility,
    draw_cells,
    hidden_pixel_error,
    pad_to_cells,
)

# --- sparse layers ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("depth", [10, 50])
def test_hidden_pixels_do_not_reach_the_maps(training, depth):
    x, cells = images(2, 1, 96, 96), PAPER_CELLS
    other = torch.where(pixels(cells), x, 100 * images(2, 1, 96, 96, seed=9))
    seen = [encoded(autoencoder(depth).train(training), version, cells) for version in (x, other)]
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    changed = x + 0.1 * pixels(cells)  # the seen pixels do
    assert not torch.equal(seen[0][-1], encoded(autoencoder(depth).train(training), changed, cells)[-1])


def test_maps_are_zero_in_the_hidden_cells_and_only_there():
    for features, stride in zip(encoded(autoencoder(), images(2, 1, 96, 96), PAPER_CELLS), (4, 8, 16, 32), strict=True):
        seen = pixels(PAPER_CELLS)[:, 0, ::stride, ::stride]
        assert features.shape[2:] == seen.shape[1:]
        assert not features.permute(0, 2, 3, 1)[~seen].any()
        assert features.permute(0, 2, 3, 1)[seen].any(dim=1).all()


def test_one_cell_is_encoded_as_an_image_of_its_own():
    # the rest is zero everywhere, exactly as the padding of a dense network's convolutions
    network = autoencoder().eval()
    cells = torch.zeros(1, 3, 3, dtype=torch.bool)
    cells[0, 1, 2] = True
    x = images(1, 1, 96, 96)
    dense = ResNetEncoder(10, 8, 4, drop_path=0.0).eval()
    dense.load_state_dict(network.encoder.state_dict(), strict=False)
    alone = dense.features(x[:, :, 32:64, 64:])
    for features, expected, size in zip(encoded(network, x, cells), alone, (8, 4, 2, 1), strict=True):
        torch.testing.assert_close(features[:, :, size : 2 * size, 2 * size :], expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", ["all", "none given"])
def test_with_everything_seen_it_is_the_plain_encoder(training, mask):
    network = autoencoder().train(training)
    plain = ResNetEncoder(10, 8, 4, drop_path=0.0).train(training)
    plain.load_state_dict(network.encoder.state_dict(), strict=False)
    x = images(3, 1, 64, 96)
    expected = plain.features(x)
    everything = torch.ones(3, 2, 3, dtype=torch.bool)
    found = encoded(network, x, everything) if mask == "all" else network.encoder.features(x)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    after, expected_after = network.encoder.state_dict(), plain.state_dict()  # with the running statistics
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, expected_after[name])


@pytest.mark.parametrize("depth", [10, 50])
def test_becoming_sparse_keeps_weights_and_names(depth):
    encoder = randomised(ResNetEncoder(depth, 8, 4))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items() if not name.startswith("fc.")}
    after = MaskedAutoencoder(encoder, decoder_width=32).encoder.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_sparse_batch_norm_is_the_norm_of_the_seen_pixels():
    visibility = Visibility()
    norm = SparseBatchNorm2d(5, visibility)
    randomised(norm)
    before = {name: tensor.double().numpy().copy() for name, tensor in norm.state_dict().items()}
    x = images(2, 5, 6, 6)
    with visibility.of(PAPER_CELLS), torch.no_grad():
        trained = norm.train()(x)
        after = {name: tensor.double().numpy().copy() for name, tensor in norm.state_dict().items()}
        evaluated = norm.eval()(x)
    mask = np.stack([np.kron(cells, np.ones((2, 2))) for cells in PAPER_CELLS.numpy()]).astype(bool)
    seen = x.double().numpy().transpose(0, 2, 3, 1)[mask]
    assert len(seen) == 6 * 4
    mean, variance = seen.mean(0), seen.var(0)
    running_mean = 0.9 * before["running_mean"] + 0.1 * mean
    running_var = 0.9 * before["running_var"] + 0.1 * seen.var(0, ddof=1)  # PyTorch keeps the unbiased one
    np.testing.assert_allclose(after["running_mean"], running_mean, rtol=1e-5)
    np.testing.assert_allclose(after["running_var"], running_var, rtol=1e-5)
    for result, centre, spread in ((trained, mean, variance), (evaluated, running_mean, running_var)):
        expected = (seen - centre) / np.sqrt(spread + 1e-5) * before["weight"] + before["bias"]
        np.testing.assert_allclose(result.numpy().transpose(0, 2, 3, 1)[mask], expected, rtol=1e-4, atol=1e-5)
        assert not result.numpy().transpose(0, 2, 3, 1)[~mask].any()


def test_hidden_cells_enter_the_decoder_as_the_token():
    network = autoencoder()
    densify = network.densify[0]
    with network.visibility.of(PAPER_CELLS), torch.no_grad():
        maps = densify(images(2, 32, 3, 3))
        expected = densify.project.weight[:, :, 0, 0] @ densify.token.flatten() + densify.project.bias
    hidden = maps.permute(0, 2, 3, 1)[~PAPER_CELLS]
    torch.testing.assert_close(hidden, expected.expand(12, 32))


# --- cells and loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "ratio", "shape", "seen"),
    [
        ((96, 96), 0.65, (3, 3), 3),  # D24: 6 of 9 hidden
        ((96, 96), 0.5, (3, 3), 4),  # round(4.5) is 4: half to even
        ((64, 64), 0.65, (2, 2), 1),
        ((96, 128), 0.65, (3, 4), 4),
        ((96, 96), 0.0, (3, 3), 8),  # something is always hidden
        ((96, 96), 1.0, (3, 3), 1),  # and something seen
    ],
)
def test_every_image_shows_the_same_number_of_cells(size, ratio, shape, seen):
    cells = draw_cells(images(50, 1, *size), ratio, generator())
    assert cells.shape == (50, *shape) and cells.dtype == torch.bool
    assert (cells.sum(dim=(1, 2)) == seen).all()


def test_cells_are_drawn_per_image_from_the_generator():
    x = images(3000, 1, 96, 96)
    cells = draw_cells(x, 0.65, generator(4))
    assert torch.equal(cells, draw_cells(x, 0.65, generator(4)))
    assert not torch.equal(cells, draw_cells(x, 0.65, generator(5)))
    assert len(cells.flatten(1).unique(dim=0)) == 84  # 9 over 3
    shares = cells.float().mean(dim=0)
    assert ((shares - 1 / 3).abs() < 0.04).all()  # standard deviation 0.009


@pytest.mark.parametrize(
    ("size", "padded", "corner"),
    [
        ((96, 96), (96, 96), (0, 0)),
        ((36, 45), (64, 64), (14, 9)),  # the demo's grid
        ((45, 36), (64, 64), (9, 14)),
        ((24, 20), (64, 64), (20, 22)),  # 2 x 2 cells at least
        ((97, 64), (128, 64), (15, 0)),
    ],
)
def test_images_are_padded_on_all_sides_to_whole_cells(size, padded, corner):
    x = images(2, 1, *size) + 1
    result, inside = pad_to_cells(x)
    assert result.shape == (2, 1, *padded) and inside.shape == (1, 1, *padded)
    (top, left), (height, width) = corner, size
    window = (..., slice(top, top + height), slice(left, left + width))
    assert torch.equal(result[window], x) and inside[window].all()
    assert result.sum() == pytest.approx(x.sum().item()) and inside.sum() == height * width


def test_the_loss_counts_hidden_pixels_of_the_image_only():
    # 36 x 45 in 64 x 64: the cell on the upper left has 18 x 23 pixels of the image, its right neighbour 18 x 22
    padded, inside = pad_to_cells(torch.ones(1, 1, 36, 45))
    upper, right = torch.tensor([[[False, True], [True, True]]]), torch.tensor([[[True, False], [True, True]]])
    counts = []
    for cells in (upper, right):
        prediction = torch.full_like(padded, 0.25)
        assert hidden_pixel_error(prediction, padded, cells, inside).item() == pytest.approx(0.75**2)
        free = pixels(cells) | ~inside
        assert hidden_pixel_error(torch.where(free, 1e6, prediction), padded, cells, inside).item() == 0.5625
        one = torch.where(free, prediction, padded)
        one[0, 0, 20, 20 if cells is upper else 40] += 1  # a single wrong pixel weighs 1 / count
        counts.append(1 / hidden_pixel_error(one, padded, cells, inside).item())
    assert counts == pytest.approx([18 * 23, 18 * 22])


def test_the_loss_of_a_constant_prediction_is_closed_form():
    method = spark()
    network = method.network((96, 96))
    with torch.no_grad():
        network.decoder.to_image.weight.zero_()
        network.decoder.to_image.bias.fill_(0.3)
    x = torch.linspace(0, 1, 96).expand(4, 1, 96, 96).contiguous()
    loss = method.loss(network, batch_of(x), generator(2))
    cells = draw_cells(x, 0.65, generator(2))
    hidden = x.double().numpy()[~pixels(cells).numpy()]
    assert len(hidden) == 4 * 6 * 32 * 32
    assert loss.item() == pytest.approx(np.mean((hidden - 0.3) ** 2), rel=1e-5)


def test_the_target_is_not_seen():
    network = autoencoder().eval()
    x = images(2, 1, 96, 96)
    other = torch.where(pixels(PAPER_CELLS), x, 1 - x)
    with torch.no_grad():
        assert torch.equal(network(x, PAPER_CELLS), network(other, PAPER_CELLS))

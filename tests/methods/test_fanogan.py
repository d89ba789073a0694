"""f-AnoGAN: sizes, losses in closed form, whose turn it is, and what stays frozen.  docs/paper.md#f-anogan"""

import numpy as np
import pytest
import torch
from packed_arrays import batch_of
from torch.utils.flop_counter import FlopCounterMode

from uad.methods import load_method
from uad.networks.adversarial import AdversarialAutoencoder, gradient_penalty

FAnoGAN = load_method("fanogan")


def tiny(**changes):
    return FAnoGAN(FAnoGAN.Params(**{"width": 4, "blocks": 2, "z_dim": 8, **changes}))


def slices(count=6, shape=(24, 20), seed=0):
    return torch.rand(count, 1, *shape, generator=torch.Generator().manual_seed(seed))


def built(method, shape=(24, 20)):
    torch.manual_seed(0)
    return method.network(shape)


def test_the_generator_grows_a_seed_of_3_to_96():
    with torch.device("meta"):
        network = AdversarialAutoencoder(96, 96)
    sizes = []
    for block in network.generator.layers[:5]:
        block.register_forward_hook(
            lambda _module, inputs, output: sizes.append((*inputs[0].shape[1:], output.shape[2]))
        )
    network.generator(torch.zeros(1, 128, device="meta"))
    # docs/paper.md#f-anogan: five blocks 8d, 4d, 4d, 2d, d after a seed of 8d, d = 64
    assert [(channels, height) for channels, height, *_ in sizes] == [
        (512, 3),
        (512, 6),
        (256, 12),
        (256, 24),
        (128, 48),
    ]
    assert sizes[-1][-1] == 96


def test_sizes_and_cost_are_those_of_the_specification():
    with torch.device("meta"):
        network = AdversarialAutoencoder(96, 96)
    million = {part: sum(p.numel() for p in getattr(network, part).parameters()) / 1e6 for part in FAnoGAN.parts}
    # docs/paper.md#f-anogan: 9.3, 9.1, 9.7 M parameters; 6.3, 2.8, 2.8 GFLOP, which leave out the 1x1 shortcuts
    assert million == pytest.approx({"generator": 9.3, "critic": 9.1, "encoder": 9.7}, abs=0.05)
    steps = [(512, 512, 3), (512, 256, 6), (256, 256, 12), (256, 128, 24), (128, 64, 48)]  # channels, smaller side
    shortcuts = sum(2 * n_in * n_out * side**2 for n_in, n_out, side in steps) / 1e9
    inputs = {"generator": (1, 128), "critic": (1, 1, 96, 96), "encoder": (1, 1, 96, 96)}
    for part, expected in {"generator": 6.3, "critic": 2.8, "encoder": 2.8}.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            getattr(network, part)(torch.zeros(inputs[part], device="meta"))
        assert counter.get_total_flops() / 1e9 - shortcuts == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("part", ["critic", "encoder"])
def test_the_last_linear_layer_reads_values_of_both_signs(part):
    """As published: the last block's output is flattened, nothing cuts it at 0."""
    network = built(tiny())
    features = network.critic.features if part == "critic" else network.encoder.layers[0]
    blocks = [layer for layer in features.layers if type(layer).__name__ == "DownBlock"]
    given = []
    blocks[-1].register_forward_hook(lambda _module, _inputs, output: given.append(output))
    with torch.no_grad():
        found = features(2 * slices() - 1)
    assert torch.equal(found, given[0].flatten(1))
    assert found.min() < 0 < found.max()


def test_the_gradient_penalty_of_a_linear_critic_is_known():
    # D(x) = <w, x> has the gradient w everywhere: penalty (|w| - 1)^2, gradient of the penalty 2 (|w| - 1) w / |w|
    weight = torch.randn(1 * 5 * 4, generator=torch.Generator().manual_seed(1)).requires_grad_(True)

    def critic(images):
        return images.flatten(1) @ weight

    share = torch.rand(3, 1, 1, 1, generator=torch.Generator().manual_seed(2))
    penalty = gradient_penalty(critic, slices(3, (5, 4)), slices(3, (5, 4), 1), share)
    norm = weight.norm().item()
    assert penalty.item() == pytest.approx((norm - 1) ** 2, rel=1e-5)
    penalty.backward()
    assert torch.allclose(weight.grad, 2 * (norm - 1) * weight.detach() / norm, rtol=1e-4)


def test_turns_follow_the_share_and_the_number_of_critic_steps():
    method = tiny(n_critic=5, gan_share=0.75)
    turns = [method.part_of_step(step, 48) for step in range(48)]
    assert turns == (["critic"] * 5 + ["generator"]) * 6 + ["encoder"] * 12
    assert method.judged_from(48) == 36
    assert tiny(gan_share=0.99).judged_from(2) == 1  # one step of the encoder at least


def test_only_the_encoder_moves_in_its_turn():
    method = tiny()
    network = built(method).train()
    method.part_loss(
        "critic", network, batch_of(slices()), torch.Generator().manual_seed(0)
    ).backward()  # fills batch statistics
    network.zero_grad()
    statistics = {name: value.clone() for name, value in network.generator.named_buffers()}
    for part in ("generator", "critic"):
        getattr(network, part).requires_grad_(False)
    method.part_loss("encoder", network.train(), batch_of(slices()), torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.encoder.parameters())
    assert all(p.grad is None or not p.grad.any() for p in network.generator.parameters())
    assert all(p.grad is None or not p.grad.any() for p in network.critic.parameters())
    assert all(torch.equal(value, statistics[name]) for name, value in network.generator.named_buffers())


def test_the_loss_of_the_encoder_is_a_sum_of_two_errors():
    plain, weighted = tiny(kappa=0.0), tiny(kappa=3.0)
    network, images = built(plain).eval(), slices()
    with torch.no_grad():
        signed = 2 * images.numpy() - 1
        pixels = np.square(network(2 * images - 1).numpy() - signed).mean()
        of_input, of_output = (network.critic.features(x).numpy() for x in (2 * images - 1, network(2 * images - 1)))
        features = np.square(of_output - of_input).mean()
        assert plain.loss(network, batch_of(images), torch.Generator()).item() == pytest.approx(pixels, rel=1e-5)
        assert weighted.loss(network, batch_of(images), torch.Generator()).item() == pytest.approx(
            pixels + 3 * features, rel=1e-5
        )
    assert weighted.terms["feature_error"].item() == pytest.approx(features, rel=1e-5)


def test_the_loss_of_the_critic_is_penalty_less_distance():
    method = tiny(gradient_penalty=7.0)
    network = built(method)
    loss = method.part_loss("critic", network, batch_of(slices()), torch.Generator().manual_seed(4))
    terms = method.terms
    assert set(terms) == {"critic_distance", "gradient_penalty"}
    assert loss.item() == pytest.approx(
        7 * terms["gradient_penalty"].item() - terms["critic_distance"].item(), rel=1e-5
    )
    assert terms["gradient_penalty"].item() > 0


def over_steps(method, network, images, part, steps=30):
    """Loss and terms before each step of one part; the other parts are frozen, as in training."""
    for other in method.parts:
        getattr(network, other).requires_grad_(other == part)
    optimizer = method.part_optimizer(part, getattr(network, part).parameters(), 1e-3)
    values = []
    for step in range(steps):
        loss = method.part_loss(part, network.train(), batch_of(images), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append({"loss": loss.item(), **{name: term.item() for name, term in method.terms.items()}})
    return values


@pytest.mark.slow
def test_the_critic_learns_to_tell_real_from_drawn():
    method = tiny()
    values = over_steps(method, built(method), slices(), "critic")
    assert values[-1]["critic_distance"] > values[0]["critic_distance"] + 0.1


@pytest.mark.slow
def test_the_steps_of_the_encoder_lower_its_loss():
    method = tiny()
    network = built(method)
    latents = torch.rand(6, 8, generator=torch.Generator().manual_seed(3)) * 1.6 - 0.8
    with torch.no_grad():
        images = (network.generator.eval()(latents) + 1) / 2  # slices that it can draw: the least loss is 0
    values = over_steps(method, network, images, "encoder")
    assert values[-1]["loss"] < values[0]["loss"] / 2
    assert set(values[-1]) == {"loss", "pixel_error", "feature_error"}


@pytest.mark.parametrize("part", FAnoGAN.parts)
def test_losses_draw_from_the_given_generator_only(part):
    method = tiny()

    def loss(seed):
        return method.part_loss(part, network, batch_of(slices()), torch.Generator().manual_seed(seed)).item()

    network = built(method)
    state = torch.get_rng_state()
    assert loss(1) == loss(1)
    assert (loss(1) != loss(2)) == (part != "encoder")  # the encoder draws nothing
    assert torch.equal(state, torch.get_rng_state())


def test_differences_and_second_derivatives_keep_full_precision_under_autocast():
    method = tiny()
    network = built(method)
    with torch.no_grad():
        network.critic.judge.weight += 1.0  # scores far from 0, as they get in training
    dtypes = []
    network.critic.features.layers[0].register_forward_hook(lambda *call: dtypes.append(call[-1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.part_loss("critic", network, batch_of(slices()), torch.Generator().manual_seed(0))
        drawn = method.part_loss("generator", network, batch_of(slices()), torch.Generator().manual_seed(0))
        encoded = method.part_loss("encoder", network, batch_of(slices()), torch.Generator().manual_seed(0))
    assert dtypes[:3] == [torch.bfloat16, torch.bfloat16, torch.float32]  # real, drawn, in between
    assert {value.dtype for value in (loss, drawn, encoded, *method.terms.values())} == {torch.float32}


@pytest.mark.parametrize(("shape", "blocks"), [((36, 45), 2), ((33, 20), 3), ((96, 96), 5)])
def test_images_that_do_not_divide_are_padded_and_cropped(shape, blocks):
    method = tiny(blocks=blocks)
    network, images = built(method, shape).eval(), slices(2, shape)
    with torch.inference_mode():
        output = method.reconstruct(network, batch_of(images), [0], torch.Generator())
    assert output.shape == (1, 2, 1, *shape)
    assert output.min() >= 0 and output.max() <= 1
    canvas = network.generator.canvas
    assert torch.equal(canvas.crop(canvas.pad(images)), images)
    padded = canvas.pad(images)
    assert padded.shape[2] % 2**blocks == padded.shape[3] % 2**blocks == 0
    assert padded.sum().item() == pytest.approx(images.sum().item() - (padded.numel() - images.numel()), rel=1e-4)

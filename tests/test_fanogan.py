"""f-AnoGAN: sizes, losses in closed form, whose turn it is, and what stays frozen.  baseline_specs 6 and 12."""

import numpy as np
import pytest
import torch
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
    # spec: five blocks 8d, 4d, 4d, 2d, d after a seed of 8d, d = 64
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
    # baseline_specs 0: 9.3, 9.1, 9.7 M parameters; 6.3, 2.8, 2.8 GFLOP, counted without the first and last layers
    assert million == pytest.approx({"generator": 9.3, "critic": 9.1, "encoder": 9.7}, abs=0.05)
    inputs = {"generator": (1, 128), "critic": (1, 1, 96, 96), "encoder": (1, 1, 96, 96)}
    for part, expected in {"generator": 6.3, "critic": 2.8, "encoder": 2.8}.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            getattr(network, part)(torch.zeros(inputs[part], device="meta"))
        assert counter.get_total_flops() / 1e9 == pytest.approx(expected, rel=0.05)


def test_the_gradient_penalty_of_a_linear_critic_is_known():
    # D(x) = <w, x> has the gradient w everywhere: penalty (|w| - 1)^2, gradient of the penalty 2 (|w| - 1) w / |w|
    weight = torch.randn(1 * 5 * 4, generator=torch.Generator().manual_seed(1)).requires_grad_(True)

    def critic(images):
        return images.flatten(1) @ weight

    penalty = gradient_penalty(critic, slices(3, (5, 4)), slices(3, (5, 4), 1), torch.rand(3, 1, 1, 1))
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
    method.part_loss("critic", network, slices(), torch.Generator().manual_seed(0)).backward()  # fills batch statistics
    network.zero_grad()
    statistics = {name: value.clone() for name, value in network.generator.named_buffers()}
    for part in ("generator", "critic"):
        getattr(network, part).requires_grad_(False)
    method.part_loss("encoder", network.train(), slices(), torch.Generator().manual_seed(0)).backward()
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
        assert plain.loss(network, images, torch.Generator()).item() == pytest.approx(pixels, rel=1e-5)
        assert weighted.loss(network, images, torch.Generator()).item() == pytest.approx(
            pixels + 3 * features, rel=1e-5
        )
    assert weighted.terms["feature_error"].item() == pytest.approx(features, rel=1e-5)


def test_the_loss_of_the_critic_is_penalty_less_distance():
    method = tiny(gradient_penalty=7.0)
    network = built(method)
    loss = method.part_loss("critic", network, slices(), torch.Generator().manual_seed(4))
    terms = method.terms
    assert set(terms) == {"critic_distance", "gradient_penalty"}
    assert loss.item() == pytest.approx(
        7 * terms["gradient_penalty"].item() - terms["critic_distance"].item(), rel=1e-5
    )
    assert terms["gradient_penalty"].item() > 0


def test_the_critic_learns_to_tell_real_from_drawn():
    method = tiny(gradient_penalty=0.0)
    network, images = built(method), slices()
    optimizer = method.optimizer(network.critic.parameters(), 1e-3, "critic")
    distances = []
    for step in range(10):
        loss = method.part_loss("critic", network, images, torch.Generator().manual_seed(step))
        network.zero_grad()
        loss.backward()
        optimizer.step()
        distances.append(method.terms["critic_distance"].item())
    assert distances[-1] > distances[0] + 0.1


@pytest.mark.parametrize(("shape", "blocks"), [((36, 45), 2), ((33, 20), 3), ((96, 96), 5)])
def test_images_that_do_not_divide_are_padded_and_cropped(shape, blocks):
    method = tiny(blocks=blocks)
    network, images = built(method, shape).eval(), slices(2, shape)
    with torch.inference_mode():
        output = method.reconstruct(network, images, [0], torch.Generator())
    assert output.shape == (1, 2, 1, *shape)
    assert output.min() >= 0 and output.max() <= 1
    canvas = network.generator.canvas
    assert torch.equal(canvas.crop(canvas.pad(images)), images)
    padded = canvas.pad(images)
    assert padded.shape[2] % 2**blocks == padded.shape[3] % 2**blocks == 0
    assert padded.sum().item() == pytest.approx(images.sum().item() - (padded.numel() - images.numel()), rel=1e-4)

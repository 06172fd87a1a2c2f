"""Explanations: the cards' numbers, and each map against a loop or finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from tutelage import losses

FEATURES = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]], dtype=torch.float64)
WEIGHT = torch.tensor([[1.0, -1.0], [0.5, 0.0], [0.0, 2.0]], dtype=torch.float64)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_mean_of_a_class_map_is_the_logit_without_bias():
    maps = losses.class_activation_maps(FEATURES, WEIGHT)
    assert maps.mean((2, 3)).tolist() == [[-4.0, 0.75, 11.0]]
    features, weight = random(0, 3, 5, 4, 6), random(1, 7, 5)
    pooled = losses.class_activation_maps(features, weight).mean((2, 3))
    torch.testing.assert_close(pooled, torch.nn.functional.linear(features.mean((2, 3)), weight))


def test_class_maps_against_a_convolution():
    features, weight = random(0, 3, 5, 4, 6), random(1, 7, 5)
    torch.testing.assert_close(
        losses.class_activation_maps(features, weight), torch.nn.functional.conv2d(features, weight[:, :, None, None])
    )


def test_binary_maps_of_the_worked_example():
    binary = losses.binary_maps(losses.class_activation_maps(FEATURES, WEIGHT))
    assert binary.tolist() == [[[[0, 0], [0, 0]], [[0, 0], [1, 1]], [[0, 0], [1, 1]]]]


def test_class_attention_of_the_worked_example_and_scale():
    first = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    second = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    assert losses.class_attention(first, second).tolist() == [0.5]
    maps = random(0, 2, 3, 4, 4)
    scale = random(1, 2, 3, 1, 1).exp()
    assert losses.class_attention(scale * maps, maps).abs().max() < 1e-15
    assert losses.class_attention(2 * maps, maps, normalize=False).min() > 0


@pytest.mark.parametrize("normalize", [True, False])
def test_class_attention_against_a_loop(normalize):
    student, teacher, chosen = random(0, 2, 4, 4, 4), random(1, 2, 4, 6, 6), torch.tensor([[0, 3], [2, 1]])
    expected = []
    for sample in range(2):
        terms = []
        for k in chosen[sample].tolist():
            pair = []
            for maps in (student, teacher):
                half = maps.shape[2] // 2
                one = [maps[sample, k, a : a + half, b : b + half].mean().item() for a in (0, half) for b in (0, half)]
                length = math.hypot(*one) if normalize else 1.0
                pair.append([value / length for value in one])
            terms += [(a - b) ** 2 for a, b in zip(*pair, strict=True)]
        expected.append(sum(terms) / len(terms))
    found = losses.class_attention(student, teacher, normalize=normalize, chosen=chosen)
    assert found.tolist() == pytest.approx(expected)


def test_one_position_is_logit_regression_or_signs():
    student, teacher = random(0, 2, 5, 4, 4), random(1, 2, 5, 4, 4)
    plain = losses.class_attention(student, teacher, resolution=1, normalize=False)
    torch.testing.assert_close(plain, (student.mean((2, 3)) - teacher.mean((2, 3))).square().mean(1))
    signs = losses.class_attention(student, teacher, resolution=1)
    differ = student.mean((2, 3)).sign() != teacher.mean((2, 3)).sign()
    torch.testing.assert_close(signs, 4.0 * differ.double().mean(1))


def test_grad_cam_of_the_worked_example():
    features = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]], [[0.0, 1.0], [3.0, 0.0]]]], requires_grad=True)
    pooled = features.mean((2, 3))
    gradient = torch.autograd.grad((2 * pooled[:, 0] - pooled[:, 1]).sum(), features)[0]
    assert losses.grad_cam(features, gradient).tolist() == [[[[0.5, 0.75], [0.0, 0.5]]]]
    assert losses.grad_cam(features, gradient, signed=True).min() < 0


def test_explanations_of_linear_models():
    """The input's gradient is a row of the weight; the loss's own gradient is that of the card."""
    theirs = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    ours = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    apart = losses.explanation_distance(ours, theirs)
    assert apart.tolist() == pytest.approx([0.2, 0.292893], abs=1e-6)
    assert apart.mean().item() == pytest.approx(0.2464466, abs=1e-6)
    apart.mean().backward()
    expected = torch.tensor([[0.06, -0.12, 0.0], [0.0, 0.0, -0.353553]])
    torch.testing.assert_close(ours.grad, expected, atol=1e-6, rtol=0)


def test_explanations_know_sign_and_not_scale():
    maps = random(0, 3, 2, 4, 4)
    assert losses.explanation_distance(7 * maps, maps).abs().max() < 1e-12
    torch.testing.assert_close(losses.explanation_distance(-maps, maps), torch.full((3,), 2.0, dtype=torch.float64))


def test_an_explanation_of_nothing_costs_one_and_pulls_nowhere():
    student = torch.zeros(2, 1, 3, 3, requires_grad=True)
    apart = losses.explanation_distance(student, torch.rand(2, 1, 3, 3))
    assert apart.tolist() == [1.0, 1.0]
    apart.sum().backward()
    assert student.grad.abs().max() == 0


def test_gradients():
    teacher, weight = random(1, 2, 3, 4, 4), random(2, 3, 5)

    def through_maps(features, weight):
        return losses.class_attention(losses.class_activation_maps(features, weight), teacher)

    assert gradcheck(through_maps, (random(0, 2, 5, 4, 4).requires_grad_(), weight.requires_grad_()))
    inputs = (random(0, 2, 5, 3, 3).requires_grad_(), random(3, 2, 5, 3, 3).requires_grad_())
    target = random(4, 2, 1, 6, 6)
    assert gradcheck(
        lambda f, g: losses.explanation_distance(losses.resized(losses.grad_cam(f, g), (6, 6)), target), inputs
    )


def test_half_precision_is_raised():
    student, teacher = random(0, 2, 3, 4, 4).bfloat16(), random(1, 2, 3, 4, 4).bfloat16()
    assert losses.class_attention(student, teacher).dtype == torch.float32
    assert losses.explanation_distance(student, teacher).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: losses.class_activation_maps(random(0, 2, 5), WEIGHT), "needs \\[batch, channels, height, width\\]"),
        (lambda: losses.class_activation_maps(FEATURES, random(0, 3, 4)), "expected \\[classes, 2\\]"),
        (lambda: losses.class_attention(random(0, 2, 3, 2, 2), random(0, 2, 4, 2, 2)), "one shape"),
        (lambda: losses.class_attention(FEATURES, FEATURES, resolution=0), "at least 1"),
        (lambda: losses.grad_cam(FEATURES, FEATURES[:, :1]), "one shape"),
        (lambda: losses.explanation_distance(FEATURES, FEATURES[:, :, :1]), "resize"),
        (lambda: losses.binary_maps(WEIGHT), "binary_maps needs"),
        (lambda: losses.resized(WEIGHT, (2, 2)), "resized needs"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()

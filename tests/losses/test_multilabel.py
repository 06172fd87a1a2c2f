"""Binary cross-entropy of soft targets, against a loop and the numbers of the paper's card."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.losses import binary_cross_entropy

LADDER = torch.linspace(-2, 2, 10)[None]


def target(fill: float) -> torch.Tensor:
    out = torch.full((1, 10), fill)
    out[0, [4, 0, 7]] = torch.tensor([0.9, 0.5, 0.21])
    return out


@pytest.mark.parametrize(
    ("logits", "fill", "value"),
    [
        (LADDER, 0.0, 0.9733367),
        (LADDER, 0.03, 0.9700034),
        (torch.zeros(1, 10), 0.0, 0.6931472),
        (torch.zeros(1, 10), 0.7, 0.6931472),
        (target(0.03).logit(), 0.03, 0.2475382),
    ],
)
def test_numbers_of_the_card(logits: torch.Tensor, fill: float, value: float) -> None:
    assert binary_cross_entropy(logits, target(fill)).item() == pytest.approx(value, abs=1e-6)


def test_it_is_the_sum_that_the_docstring_says() -> None:
    z, y = torch.randn(3, 5, dtype=torch.float64), torch.rand(3, 5, dtype=torch.float64)
    found = binary_cross_entropy(z, y)
    for row in range(3):
        each = [
            -y[row, c] * math.log(1 / (1 + math.exp(-z[row, c])))
            - (1 - y[row, c]) * math.log(1 - 1 / (1 + math.exp(-z[row, c])))
            for c in range(5)
        ]
        assert found[row].item() == pytest.approx(float(sum(each)) / 5)


def test_the_gradient_is_the_sigmoid_less_the_target_and_vanishes_at_its_logit() -> None:
    y = target(0.03).double()
    z = LADDER.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: binary_cross_entropy(values, y), z)
    binary_cross_entropy(z, y).sum().backward()
    assert z.grad is not None
    assert torch.allclose(z.grad, (z.sigmoid() - y) / 10)
    at = y.logit().requires_grad_()
    binary_cross_entropy(at, y).sum().backward()
    assert at.grad is not None
    assert at.grad.abs().max() < 1e-12


def test_half_precision_is_raised_and_shapes_must_agree() -> None:
    assert binary_cross_entropy(LADDER.half(), target(0.0).half()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"logits are \[1, 10\] and target probabilities \[1, 9\]"):
        binary_cross_entropy(LADDER, target(0.0)[:, :9])

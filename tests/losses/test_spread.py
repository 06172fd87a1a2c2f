"""Logits in units of their spread: the card's numbers, invariance, the bound, and no infinite gradient."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.losses import unit_spread

LOGITS = torch.tensor([4.0, 1.0, 0.0, -1.0])


def test_the_worked_example_whatever_scale_and_offset():
    assert LOGITS.std().item() == pytest.approx(2.160247, abs=1e-6)
    for logits in (LOGITS, 3 * LOGITS + 5):
        expected = [0.664372, 0.165689, 0.104293, 0.065647]
        assert unit_spread(logits).softmax(-1).tolist() == pytest.approx(expected, abs=1e-6)


def test_it_is_division_by_torchs_standard_deviation():
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(unit_spread(logits), logits / logits.std(-1, keepdim=True), atol=1e-6)
    assert torch.allclose(unit_spread(logits.bfloat16()).std(-1), torch.ones(7), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_confidence_is_bounded(classes):
    certain = torch.zeros(classes)
    certain[0] = 1000.0
    root = math.exp(math.sqrt(classes))
    bound = root / (root + classes - 1)
    assert unit_spread(certain).softmax(-1).max().item() == pytest.approx(bound, abs=1e-6)
    random = torch.randn(200, classes, generator=torch.Generator().manual_seed(0)) ** 3
    assert unit_spread(random).softmax(-1).max() <= bound + 1e-6


def test_gradients_flow_through_the_spread():
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(unit_spread, logits)
    # Along the logits themselves nothing changes in the softmax, once the offset is gone.
    (gradient,) = torch.autograd.grad(unit_spread(logits).log_softmax(-1)[:, 0].sum(), logits)
    assert (gradient * logits).sum(-1).abs().max() < 1e-12


def test_equal_logits_have_no_spread_and_no_gradient():
    logits = torch.full((2, 3), 7.0, requires_grad=True)
    out = unit_spread(logits)
    out.sum().backward()
    assert (out == 0).all()
    assert (logits.grad == 0).all()


def test_one_class():
    with pytest.raises(ValueError, match="at least 2"):
        unit_spread(torch.ones(3, 1))

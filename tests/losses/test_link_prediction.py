"""Losses of link predictors against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.losses.link_prediction import (
    against_all,
    logistic,
    margin_ranking,
    power_penalty,
    sampled_softmax,
    self_adversarial,
    subsampling_weights,
)

POSITIVE, NEGATIVE = torch.tensor([2.0]), torch.tensor([[1.0, -1.0, 0.0]])


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_worked_example() -> None:
    assert self_adversarial(POSITIVE, NEGATIVE, temperature=2.0).item() == pytest.approx(0.675784, abs=1e-6)


def test_at_temperature_zero_it_is_the_plain_mean() -> None:
    torch.testing.assert_close(self_adversarial(POSITIVE, NEGATIVE, temperature=0.0), logistic(POSITIVE, NEGATIVE))
    wanted = 0.5 * (-math.log(sigma(2)) - sum(math.log(sigma(-f)) for f in (1, -1, 0)) / 3)
    assert logistic(POSITIVE, NEGATIVE).item() == pytest.approx(wanted, rel=1e-6)


def test_weights_take_no_gradient() -> None:
    negative = NEGATIVE.clone().requires_grad_()
    self_adversarial(POSITIVE, negative, temperature=2.0).sum().backward()
    weight = torch.softmax(2 * NEGATIVE, 1)
    assert negative.grad is not None
    torch.testing.assert_close(negative.grad, 0.5 * weight * torch.sigmoid(NEGATIVE))


def test_negatives_that_are_true_count_for_nothing() -> None:
    valid = torch.tensor([[True, False, True]])
    left = NEGATIVE[:, [0, 2]]
    for call in (
        lambda n, v: self_adversarial(POSITIVE, n, temperature=1.5, valid=v),
        lambda n, v: logistic(POSITIVE, n, valid=v),
        lambda n, v: margin_ranking(POSITIVE, n, margin=3.0, valid=v),
        lambda n, v: sampled_softmax(POSITIVE, n, valid=v),
    ):
        torch.testing.assert_close(call(NEGATIVE, valid), call(left, None))
    none = self_adversarial(POSITIVE, NEGATIVE, valid=torch.zeros(1, 3, dtype=torch.bool))
    assert none.item() == pytest.approx(-0.5 * math.log(sigma(2)), rel=1e-6)


def test_margin_softmax_and_one_against_all() -> None:
    assert margin_ranking(POSITIVE, NEGATIVE, margin=1.5).item() == pytest.approx(0.5 / 3)
    together = -math.log(math.exp(2) / sum(math.exp(f) for f in (2, 1, -1, 0)))
    assert sampled_softmax(POSITIVE, NEGATIVE).item() == pytest.approx(together, rel=1e-6)
    scores = torch.cat([POSITIVE[:, None], NEGATIVE], 1)
    assert against_all(scores, torch.tensor([0])).item() == pytest.approx(together, rel=1e-6)
    assert against_all(scores, torch.tensor([0]), smoothing=0.1).item() > together


def test_penalties_and_weights() -> None:
    rows = [torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 0.0]])]
    assert power_penalty(rows).item() == pytest.approx((1 + 8 + 27) / 2)
    assert power_penalty(rows, power=2.0).item() == pytest.approx((1 + 4 + 9) / 2)
    assert subsampling_weights(torch.tensor([4.0, 16.0])).tolist() == pytest.approx([0.5, 0.25])

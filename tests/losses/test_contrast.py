"""Contrast: the card's numbers, and against the formula written out with probabilities."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from tutelage import losses

POSITIVE = torch.tensor([2.0, 1.0], dtype=torch.float64)
NEGATIVES = torch.tensor([[0.0, -1.0, 0.5], [1.0, 0.0, -2.0]], dtype=torch.float64)


def by_hand(own: float, others: list[float], total: int) -> float:
    noise = len(others) / total
    share = [math.exp(g) / (math.exp(g) + noise) for g in (own, *others)]
    return -math.log(share[0]) - sum(math.log(1 - d) for d in share[1:])


def test_the_worked_example():
    assert losses.noise_contrast(POSITIVE, NEGATIVES, total=100).mean().item() == pytest.approx(9.9605575, abs=1e-6)
    assert losses.critic_gap(POSITIVE, NEGATIVES).mean().item() == pytest.approx(-1.75)


def test_against_probabilities_and_with_a_mask():
    expected = [by_hand(g, row, 50) for g, row in zip(POSITIVE.tolist(), NEGATIVES.tolist(), strict=True)]
    assert losses.noise_contrast(POSITIVE, NEGATIVES, total=50).tolist() == pytest.approx(expected)
    mask = torch.tensor([[True, False, True], [True, True, True]])
    masked = losses.noise_contrast(POSITIVE, NEGATIVES, total=50, mask=mask).tolist()
    assert masked == pytest.approx([by_hand(2.0, [0.0, 0.5], 50), expected[1]])
    assert losses.critic_gap(POSITIVE, NEGATIVES, mask=mask).tolist() == pytest.approx([0.25 - 2.0, -1 / 3 - 1.0])


def test_large_scores_stay_finite():
    far = torch.tensor([1e4], requires_grad=True)
    value = losses.noise_contrast(far, -torch.full((1, 5), 1e4), total=10)
    value.sum().backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert far.grad.isfinite().all()


def test_gradients():
    inputs = (POSITIVE.clone().requires_grad_(), NEGATIVES.clone().requires_grad_())
    assert gradcheck(lambda p, n: losses.noise_contrast(p, n, total=30), inputs)
    assert gradcheck(losses.critic_gap, inputs)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: losses.noise_contrast(POSITIVE, NEGATIVES[:, :0], total=3), "at least one other"),
        (lambda: losses.noise_contrast(POSITIVE, NEGATIVES[:1], total=3), "\\[batch, others\\]"),
        (lambda: losses.noise_contrast(POSITIVE, NEGATIVES, total=0), "total"),
        (lambda: losses.noise_contrast(POSITIVE, NEGATIVES, total=3, mask=NEGATIVES[:1] > 0), "mask"),
        (lambda: losses.critic_gap(NEGATIVES, NEGATIVES), "\\[batch\\]"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()

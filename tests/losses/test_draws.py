"""Spread of draws and covariance of samples: the card's number, and loops."""

from __future__ import annotations

import pytest
import torch

from tutelage.losses import draw_spread, pairwise_covariance


def test_the_worked_example():
    draws = torch.tensor([[[0.9, 0.1], [0.1, 0.9]], [[0.8, 0.2], [0.6, 0.4]], [[0.5, 0.5], [0.5, 0.5]]])
    means = draws.mean(1)
    assert means.flatten().tolist() == pytest.approx([0.5, 0.5, 0.7, 0.3, 0.5, 0.5])
    assert draw_spread(means).item() == pytest.approx(0.115470, abs=1e-6)


def test_draws_that_are_alike_have_no_spread():
    assert draw_spread(torch.tensor([[0.2, 0.8]]).repeat(4, 1)).item() == 0.0


def test_the_covariance_is_that_of_a_loop():
    values = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = torch.cov(values.T)
    expected = sum(matrix[i, j] for i in range(4) for j in range(i + 1, 4)) / 16
    assert pairwise_covariance(values).item() == pytest.approx(expected.item())


def test_samples_that_vary_together_and_against_each_other():
    one = torch.tensor([1.0, -1.0, 2.0, 0.0])
    assert pairwise_covariance(torch.stack([one, one], 1)).item() == pytest.approx(one.var().item() / 4)
    assert pairwise_covariance(torch.stack([one, -one], 1)).item() == pytest.approx(-one.var().item() / 4)


@pytest.mark.parametrize("call", [draw_spread, pairwise_covariance])
def test_a_single_draw_says_nothing(call):
    with pytest.raises(ValueError, match="at least two"):
        call(torch.ones(1, 3))

"""States that drift, edges and causal support: the card's numbers, and independent oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tutelage.losses.ornstein_uhlenbeck import (
    causal_support,
    drawn_edges,
    drift,
    drift_variance,
    edge_probabilities,
    gaussian_divergence,
    gaussian_entropy,
    gaussian_log_density,
    moderated,
    observed,
)


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_cards_numbers() -> None:
    assert float(drift(t(2.0), t(0.5), t(0.3), t(2.0))) == pytest.approx(1.323217, abs=1e-6)
    assert float(drift_variance(t(0.4), t(0.3), t(2.0))) == pytest.approx(0.186348, abs=1e-6)
    assert float(drift_variance(t(0.4), t(0.3), t(1e9))) == pytest.approx(0.266667, abs=1e-6)
    support = causal_support(torch.tensor([[2, 8], [5, 5]]), torch.tensor([[10, 10], [10, 10]]))
    assert support.tolist() == pytest.approx([3.07, -0.79], abs=5e-3)


def test_no_time_moves_nothing_and_two_spans_are_one() -> None:
    assert float(drift(t(2.0), t(0.5), t(0.3), t(0.0))) == 2.0
    assert float(drift_variance(t(0.4), t(0.3), t(0.0))) == 0.0
    once = drift(drift(t(2.0), t(0.5), t(0.3), t(1.5)), t(0.5), t(0.3), t(0.5))
    assert float(once) == pytest.approx(float(drift(t(2.0), t(0.5), t(0.3), t(2.0))))
    left = math.exp(-2 * 0.3 * 0.5)
    twice = left * float(drift_variance(t(0.4), t(0.3), t(1.5))) + float(drift_variance(t(0.4), t(0.3), t(0.5)))
    assert twice == pytest.approx(float(drift_variance(t(0.4), t(0.3), t(2.0))))


def test_both_directions_add_up_to_being_joined() -> None:
    torch.manual_seed(0)
    vectors, turn = torch.randn(5, 4), torch.randn(4, 4)
    edges = edge_probabilities(vectors, turn)
    joined = torch.sigmoid(vectors @ vectors.T)
    for i in range(5):
        assert float(edges[i, i]) == 0.0
        for k in range(5):
            if i != k:
                assert float(edges[i, k] + edges[k, i]) == pytest.approx(float(joined[i, k]), abs=1e-6)


def test_drawn_edges_are_as_frequent_as_they_are_likely_and_carry_gradients() -> None:
    torch.manual_seed(0)
    chance = torch.tensor([[0.0, 0.2], [0.9, 0.0]], requires_grad=True)
    drawn = drawn_edges(chance, 4000)
    assert drawn.detach().flatten().tolist() == pytest.approx([0.0, 0.2, 0.9, 0.0], abs=0.03)
    drawn[0, 1].backward()
    assert chance.grad is not None
    assert float(chance.grad[0, 1]) > 0


def test_gaussians_are_torchs() -> None:
    one, other = Normal(t(0.3), t(0.7)), Normal(t(-0.2), t(1.1))
    found = gaussian_divergence(t(0.3), t(0.49), t(-0.2), t(1.21))
    assert float(found) == pytest.approx(float(kl_divergence(one, other)))
    assert float(gaussian_log_density(t(0.5), t(0.3), t(0.49))) == pytest.approx(float(one.log_prob(t(0.5))))
    assert float(gaussian_entropy(t(0.49))) == pytest.approx(float(one.entropy()))


def test_a_moderated_logit_and_an_observed_answer_are_near_the_integrals() -> None:
    grid = np.linspace(-12, 12, 20_001)
    for mean, variance in ((0.5, 1.0), (-1.0, 0.3), (0.0, 2.0)):
        density = np.exp(-((grid - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        chance = 1 / (1 + np.exp(-grid))
        step = grid[1] - grid[0]
        whole = float((density * chance).sum() * step)
        assert float(moderated(t(mean), t(variance)).sigmoid()) == pytest.approx(whole, abs=0.01)
        exact = float((grid * density * chance).sum() * step) / whole
        after, narrower = observed(t(mean), t(variance), t(1.0))
        assert float(after) == pytest.approx(exact, abs=0.1)
        assert float(narrower) < variance


def test_an_answer_that_was_expected_moves_nothing() -> None:
    chance = float(moderated(t(0.4), t(0.8)).sigmoid())
    assert float(observed(t(0.4), t(0.8), t(chance))[0]) == pytest.approx(0.4)

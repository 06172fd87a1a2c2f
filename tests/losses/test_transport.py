"""Transport: the card's numbers, and plans against POT's solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage import losses

TEACHER = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0.2], [-0.2, 1.0], [1.0, 0.8]], dtype=torch.float64)
COST = losses.cosine_cost(STUDENT, TEACHER)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_costs_of_the_worked_example():
    expected = [[0.019419, 0.803884, 0.167950], [1.196116, 0.019419, 0.445300], [0.219131, 0.375305, 0.006116]]
    torch.testing.assert_close(COST, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"solver": "exact"}, 0.0149850),
        ({"solver": "ipot", "iterations": 50}, 0.0149850),
        ({"epsilon": 0.05, "iterations": 2000}, 0.0182340),
        ({"epsilon": 0.1, "iterations": 2000}, 0.0364096),
        ({"epsilon": 0.5, "iterations": 2000}, 0.1761031),
        ({"epsilon": 0.05, "iterations": 20}, 0.0182413),
        ({"epsilon": 1e6}, COST.mean().item()),
    ],
)
def test_transport_of_the_worked_example(arguments, expected):
    assert losses.transport_cost(COST, **arguments).item() == pytest.approx(expected, abs=1e-6)


def test_the_gradient_is_orthogonal_to_each_row():
    student = STUDENT.clone().requires_grad_()
    losses.transport_cost(losses.cosine_cost(student, TEACHER), epsilon=0.5, iterations=2000).backward()
    expected = [[0.010901, -0.054504], [-0.133288, -0.026658], [2.1e-5, -2.6e-5]]
    torch.testing.assert_close(student.grad, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)
    assert (student.grad * student).sum(1).abs().max() < 1e-12


def test_the_gradient_is_that_of_the_optimal_cost():
    """The envelope theorem, by finite differences of the whole problem, entropy included."""
    cost = random(0, 4, 4)

    def optimum(values):
        plan = losses.sinkhorn_plan(values, epsilon=0.2, iterations=3000)
        return ((plan * values).sum() + 0.2 * torch.special.xlogy(plan, plan).sum()).item()

    plan = losses.sinkhorn_plan(cost, epsilon=0.2, iterations=3000)
    for i, j in ((0, 0), (1, 3), (2, 1)):
        step = torch.zeros_like(cost)
        step[i, j] = 1e-5
        assert (optimum(cost + step) - optimum(cost - step)) / 2e-5 == pytest.approx(plan[i, j].item(), abs=1e-6)


def test_transport_does_not_know_who_belongs_to_whom():
    order = torch.tensor([1, 2, 0])
    shuffled = losses.cosine_cost(STUDENT, TEACHER[order])
    known = {"epsilon": 0.1, "iterations": 2000}
    assert losses.transport_cost(shuffled, **known).item() == pytest.approx(0.0364096, abs=1e-6)
    assert COST.diagonal().mean().item() == pytest.approx(0.0149850, abs=1e-6)
    paired = [losses.cosine_cost(STUDENT, TEACHER[list(o)]).diagonal().mean().item() for o in ((1, 2, 0), (2, 0, 1))]
    assert min(abs(value - 0.5797903) for value in paired) < 1e-6


@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(2, 7), st.floats(0.2, 1.0))
@settings(max_examples=15, deadline=None)
def test_sinkhorn_against_pot(seed, rows, columns, epsilon):
    import ot

    cost = random(seed, rows, columns)
    weights = np.full(rows, 1 / rows), np.full(columns, 1 / columns)
    expected = ot.bregman.sinkhorn_log(*weights, cost.numpy(), epsilon, numItermax=2000, stopThr=1e-10, warn=False)
    found = losses.sinkhorn_plan(cost, epsilon=epsilon, iterations=2000)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 8))
@settings(max_examples=12, deadline=None)
def test_optimal_plans_against_pot(seed, rows):
    import ot

    cost = random(seed, rows, rows)
    weights = np.full(rows, 1 / rows)
    optimum = float((ot.emd(weights, weights, cost.numpy()) * cost.numpy()).sum())
    assert losses.transport_cost(cost, solver="exact").item() == pytest.approx(optimum, abs=1e-9)
    near = losses.transport_cost(cost, solver="ipot", iterations=1000).item()
    assert near == pytest.approx(optimum, abs=1e-2)


@pytest.mark.parametrize("plan", [losses.sinkhorn_plan, losses.proximal_plan])
def test_plans_meet_their_weights_and_do_not_underflow(plan):
    cost = 100 * random(0, 5, 8)
    found = plan(cost.float(), iterations=500)
    assert found.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert found.sum(0).tolist() == pytest.approx([1 / 8] * 8, abs=1e-5)
    assert found.isfinite().all()
    assert not plan(cost.requires_grad_()).requires_grad


def test_equal_features_cost_nothing_in_the_limit():
    cost = losses.cosine_cost(TEACHER, TEACHER)
    assert losses.transport_cost(cost, solver="exact").item() == pytest.approx(0.0, abs=1e-12)
    assert losses.transport_cost(cost, epsilon=1e-3, iterations=100).item() < 1e-9


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: losses.cosine_cost(STUDENT, STUDENT[:, :1]), "one width"),
        (lambda: losses.sinkhorn_plan(COST[0]), "\\[rows, columns\\]"),
        (lambda: losses.sinkhorn_plan(COST, epsilon=0.0), "epsilon"),
        (lambda: losses.sinkhorn_plan(COST, iterations=0), "iterations"),
        (lambda: losses.proximal_plan(COST, beta=-1.0), "beta"),
        (lambda: losses.exact_plan(COST[:2]), "as many rows as columns"),
        (lambda: losses.transport_cost(COST, solver="emd"), "'sinkhorn', 'ipot' or 'exact'"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()

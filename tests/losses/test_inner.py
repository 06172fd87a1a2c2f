"""Differentiating through moves: numbers worked out by hand, finite differences, and analytic implicit gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tutelage.losses import implicit_vector, virtual_step


@pytest.mark.parametrize(("first_order", "expected"), [(False, -6.96), (True, -7.20)])
def test_the_gradient_of_a_scalar_meta_step(first_order: bool, expected: float) -> None:
    w = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    acquired = (w - 2) ** 2
    moved = virtual_step({"w": w}, acquired, lr=0.1, first_order=first_order)["w"]
    retained = (moved - 1) ** 2
    assert moved.item() == pytest.approx(0.4)
    assert retained.item() == pytest.approx(0.36)
    (acquired + (w - 1) ** 2 + retained).backward()
    assert w.grad.item() == pytest.approx(expected)


@pytest.mark.parametrize(("lr", "exact", "expanded"), [(1e-4, 0.0403528, 0.0403520), (1e-3, 0.0435974, 0.0435200)])
def test_the_gradients_are_aligned_to_first_order(lr: float, exact: float, expanded: float) -> None:
    w = torch.tensor([0.5, -0.3], dtype=torch.float64, requires_grad=True)
    new, old = torch.tensor([1.0, 2.0]).double(), torch.tensor([2.0, 1.0]).double()

    def acquisition(weight: Tensor) -> Tensor:
        return (weight @ new - 1) ** 2

    def retention(weight: Tensor) -> Tensor:
        return (weight @ old - 0.5) ** 2

    gradients = [torch.autograd.grad(f(w), w)[0] for f in (acquisition, retention)]
    assert (gradients[0] @ gradients[1]).item() == pytest.approx(-3.52)
    moved = virtual_step({"w": w}, acquisition(w), lr=lr)["w"]
    assert retention(moved).item() == pytest.approx(exact, abs=5e-8)
    assert (retention(w) - lr * gradients[0] @ gradients[1]).item() == pytest.approx(expanded, abs=5e-8)


def test_the_second_order_gradient_is_that_of_finite_differences() -> None:
    start = torch.tensor([0.3, -0.7], dtype=torch.float64)

    def outer(w: Tensor) -> Tensor:
        inner = (w.sin() * torch.tensor([1.0, 2.0]).double()).sum() ** 2
        moved = virtual_step({"w": w}, inner, lr=0.2, weight_decay=0.1)["w"]
        return (moved**3).sum()

    w = start.clone().requires_grad_()
    outer(w).backward()
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = 1e-6
        sides = [outer((start + sign * step).requires_grad_()).item() for sign in (1, -1)]
        assert w.grad[i].item() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6)


def test_what_the_loss_does_not_reach_only_decays() -> None:
    named = {"a": torch.tensor(2.0, requires_grad=True), "b": torch.tensor(4.0, requires_grad=True)}
    moved = virtual_step(named, named["a"] ** 2, lr=0.5, weight_decay=0.1)
    assert moved["a"].item() == pytest.approx(2 - 0.5 * (4 + 0.2))
    assert moved["b"].item() == pytest.approx(4 - 0.5 * 0.4)


def test_bad_steps_are_refused() -> None:
    w = torch.tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError, match="lr"):
        virtual_step({"w": w}, w**2, lr=-1)
    with pytest.raises(ValueError, match="rounds"):
        implicit_vector(lambda x: x, w, w, rounds=0)
    with pytest.raises(ValueError, match=r"\[2\] to \[1\]"):
        implicit_vector(lambda x: x[:1], torch.zeros(2), torch.zeros(2), rounds=1)


def test_many_rounds_give_the_analytic_implicit_gradient() -> None:
    """δ* = b θ minimises a (δ − b θ)² / 2, so the gradient of (δ* − c)² / 2 is b (b θ − c)."""
    a, b, c = 1.3, 0.7, 2.0
    theta = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    delta = (b * theta).detach()

    def descend(point: Tensor) -> Tensor:
        return point - 0.1 * a * (point - b * theta)

    v = implicit_vector(descend, delta, delta - c, rounds=400)
    (descend(delta) * v).sum().backward()
    assert theta.grad.item() == pytest.approx(b * (b * 0.4 - c), rel=1e-9)


def test_one_round_is_the_outer_gradient() -> None:
    assert implicit_vector(lambda x: 2 * x, torch.ones(3), torch.arange(3.0), rounds=1).tolist() == [0, 1, 2]

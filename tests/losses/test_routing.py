"""Routing: the card's numbers, and what carries a gradient."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.losses import load_balance, routed_divergence

GATES = torch.tensor([[2.0, 0.0, 0.0, -1.0], [0.0, 1.0, 0.0, 0.0]]).softmax(-1)
TEACHERS = torch.tensor(
    [
        [[4.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
        [[0.0, 4.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 3.0], [0.0, 1.0, 0.0]],
    ]
)
STUDENT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_balance_of_the_card() -> None:
    assert GATES.mean(0).tolist() == pytest.approx([0.466095, 0.288929, 0.138684, 0.106291], abs=1e-6)
    assert load_balance(GATES).item() == pytest.approx(0.0423056, abs=1e-6)
    assert load_balance(GATES).item() * 4 == pytest.approx(0.1692224, abs=1e-6)
    assert load_balance(GATES, kind="cv").item() == pytest.approx(0.658305, abs=1e-5)


@pytest.mark.parametrize("kind", ["kl", "cv"])
def test_balance_is_least_where_all_have_the_same_share(kind: str) -> None:
    assert load_balance(torch.full((5, 3), 1 / 3), kind=kind).item() == pytest.approx(0.0, abs=1e-6)  # type: ignore[arg-type]
    swapped = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert load_balance(swapped, kind=kind).item() == pytest.approx(0.0, abs=1e-6)  # type: ignore[arg-type]


def test_a_gate_that_forgets_a_teacher_costs_much_but_not_everything() -> None:
    gates = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = load_balance(gates)
    loss.backward()
    assert gates.grad is not None
    assert bool(gates.grad.isfinite().all())
    assert 10 < loss.item() < 100


def test_routing_of_the_card() -> None:
    loss = routed_divergence(STUDENT, TEACHERS, GATES)
    assert loss.mean().item() == pytest.approx(0.6146975, abs=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_what_a_loop_finds(k: int, weighted: bool) -> None:
    gates = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.25, 0.2, 0.15, 0.4]])
    found = routed_divergence(STUDENT, TEACHERS, gates, k=k, temperature=2.0, weighted=weighted)
    for row in range(2):
        best = sorted(range(4), key=lambda t: -gates[row, t])[:k]
        total = 0.0
        for t in best:
            p, q = (TEACHERS[row, t] / 2).softmax(-1), (STUDENT[row] / 2).softmax(-1)
            one = 4 * sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q, strict=True))
            total += one * (float(gates[row, t]) if weighted else 1.0)
        assert found[row].item() == pytest.approx(total / k, abs=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gate_learns_from_it_only_where_it_is_weighted(weighted: bool) -> None:
    scores = torch.randn(2, 4, requires_grad=True)
    student, teachers = STUDENT.clone().requires_grad_(), TEACHERS.clone().requires_grad_()
    routed_divergence(student, teachers, scores.softmax(-1), weighted=weighted).sum().backward()
    assert (scores.grad is not None) is weighted
    assert teachers.grad is None
    assert student.grad is not None


def test_gradients_are_those_of_finite_differences() -> None:
    student, scores = STUDENT.double().requires_grad_(), torch.randn(2, 4, dtype=torch.float64).requires_grad_()
    teachers = TEACHERS.double()
    assert torch.autograd.gradcheck(
        lambda s, g: routed_divergence(s, teachers, g.softmax(-1), k=2, weighted=True), (student, scores)
    )
    assert torch.autograd.gradcheck(lambda g: load_balance(g.softmax(-1)), scores)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": 0}, r"k must lie in \[1, 4\]"),
        ({"k": 5}, r"k must lie in \[1, 4\]"),
        ({"gates": GATES[:, :3]}, "do not fit teacher logits"),
    ],
)
def test_what_does_not_fit(arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        routed_divergence(**{"student_logits": STUDENT, "teacher_logits": TEACHERS, "gates": GATES, **arguments})


def test_no_balance_of_one_teacher_or_of_another_kind() -> None:
    with pytest.raises(ValueError, match="two teachers or more"):
        load_balance(torch.ones(3, 1))
    with pytest.raises(ValueError, match="kind must be"):
        load_balance(GATES, kind="entropy")  # type: ignore[arg-type]

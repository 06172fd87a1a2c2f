"""Token graphs: the card's numbers, each function against a loop over tokens, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tutelage import losses

TEACHER = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
STUDENT = torch.tensor([[2.0], [0.0], [1.0]], dtype=torch.float64)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def graph_by_loop(tokens: torch.Tensor, k: int, sigma: float | None) -> list[list[float]]:
    rows = tokens.tolist()
    near = []
    for i, row in enumerate(rows):
        others = sorted((math.dist(row, other) ** 2, j) for j, other in enumerate(rows) if j != i)
        near.append(others[:k])
    width = sigma or sum(d for row in near for d, _ in row) / (k * len(rows))
    graph = [[0.0] * len(rows) for _ in rows]
    for i, row in enumerate(near):
        for d, j in row:
            graph[i][j] = math.exp(-d / (2 * width))
    return graph


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def test_context_of_the_worked_example():
    theirs, ours = losses.context_similarity(TEACHER[None])[0], losses.context_similarity(STUDENT[None])[0]
    assert theirs[0].tolist() == pytest.approx([0.401112, 0.197776, 0.401112], abs=1e-6)
    assert theirs[1].tolist() == pytest.approx([0.197776, 0.401112, 0.401112], abs=1e-6)
    assert theirs[2].tolist() == pytest.approx([0.248255, 0.248255, 0.503490], abs=1e-6)
    assert ours[0].tolist() == pytest.approx([0.866813, 0.015876, 0.117310], abs=1e-6)
    assert ours[1].tolist() == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert ours[2].tolist() == pytest.approx([0.665241, 0.090031, 0.244728], abs=1e-6)
    assert losses.context_distance(STUDENT[None], TEACHER[None]).item() == pytest.approx(0.0693269, abs=1e-7)


def test_edges_of_the_worked_example():
    full = losses.neighbour_graph(TEACHER, neighbours=2, sigma=1.0)
    assert full[0].tolist() == pytest.approx([0.0, 0.367879, 0.606531], abs=1e-6)
    assert full[1].tolist() == pytest.approx([0.367879, 0.0, 0.606531], abs=1e-6)
    assert full.diagonal().tolist() == [0.0, 0.0, 0.0]
    assert losses.neighbour_graph(TEACHER, neighbours=1, sigma=1.0)[0].tolist() == pytest.approx(
        [0.0, 0.0, 0.606531], abs=1e-6
    )


@pytest.mark.parametrize("sigma", [None, 0.7])
def test_graphs_against_a_loop(sigma):
    tokens = random(0, 9, 4)
    expected = torch.tensor(graph_by_loop(tokens, 3, sigma), dtype=torch.float64)
    torch.testing.assert_close(losses.neighbour_graph(tokens, neighbours=3, sigma=sigma), expected)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_divergence_against_a_loop(direction):
    student, teacher = random(0, 7, 3), random(1, 7, 5)
    expected = []
    graphs = (graph_by_loop(student, 2, None), graph_by_loop(teacher, 2, None))
    for ours, theirs in zip(*graphs, strict=True):
        q, p = softmax(ours), softmax(theirs)
        first, second = (p, q) if direction == "forward" else (q, p)
        expected.append(sum(a * math.log(a / b) for a, b in zip(first, second, strict=True)))
    found = losses.graph_divergence(student, teacher, neighbours=2, direction=direction)
    assert found.tolist() == pytest.approx(expected)


def test_contrast_against_a_loop():
    student, teacher = random(0, 5, 3), random(1, 5, 3)
    expected = []
    for i in range(5):
        scores = [torch.cosine_similarity(student[i], teacher[j], dim=0).item() / 0.3 for j in range(5)]
        expected.append(-math.log(softmax(scores)[i]))
    assert losses.token_contrast(student, teacher, temperature=0.3).tolist() == pytest.approx(expected)


@given(st.integers(0, 10_000), st.floats(0.1, 10.0))
@settings(max_examples=20, deadline=None)
def test_turned_tokens_keep_their_relations(seed, tau):
    teacher = random(seed, 6, 4)
    turned = teacher @ torch.linalg.qr(random(seed + 1, 4, 4))[0]
    assert losses.graph_divergence(turned, teacher, neighbours=3).max() < 1e-9
    assert losses.context_distance(turned[None], teacher[None]).max() < 1e-12
    axes = torch.eye(6, dtype=torch.float64)
    expected = math.log(1 + 5 * math.exp(-1 / tau))
    assert losses.token_contrast(axes, axes, temperature=tau).tolist() == pytest.approx([expected] * 6)


def test_a_graph_adapts_to_the_scale_of_its_tokens():
    tokens = random(0, 8, 4)
    torch.testing.assert_close(
        losses.neighbour_graph(1e4 * tokens, neighbours=3), losses.neighbour_graph(tokens, neighbours=3)
    )
    assert losses.neighbour_graph(1e4 * tokens, neighbours=3, sigma=1.0).max() == 0


def test_gradients_reach_the_student_alone():
    student, teacher = random(0, 6, 3).requires_grad_(), random(1, 6, 3).requires_grad_()
    whole = (
        losses.graph_divergence(student, teacher, neighbours=2).mean() + losses.token_contrast(student, teacher).mean()
    )
    (whole + losses.context_distance(student[None], teacher[None]).mean()).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "loss",
    [
        lambda s: losses.graph_divergence(s, random(1, 6, 5), neighbours=2, sigma=0.5),
        lambda s: losses.graph_divergence(s, random(1, 6, 5), neighbours=2, sigma=0.5, direction="reverse"),
        lambda s: losses.token_contrast(s, random(1, 6, 3)),
        lambda s: losses.context_distance(s[None], random(1, 1, 6, 5)),
    ],
)
def test_gradients(loss):
    assert gradcheck(loss, (random(0, 6, 3).requires_grad_(),))


@pytest.mark.parametrize("collapsed", [torch.zeros(6, 3), torch.ones(6, 3)])
def test_collapsed_tokens_stay_finite(collapsed):
    student = collapsed.requires_grad_()
    loss = losses.graph_divergence(student, torch.rand(6, 4), neighbours=2).mean()
    loss = loss + losses.token_contrast(student, torch.rand(6, 3)).mean()
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: losses.neighbour_graph(TEACHER[None]), "needs \\[tokens, width\\]"),
        (lambda: losses.neighbour_graph(TEACHER, neighbours=3), "\\[1, 2\\] for 3 tokens"),
        (lambda: losses.neighbour_graph(TEACHER, neighbours=1, sigma=0.0), "sigma"),
        (lambda: losses.graph_divergence(STUDENT[:2], TEACHER, neighbours=1), "same tokens"),
        (lambda: losses.graph_divergence(STUDENT, TEACHER, neighbours=1, direction="both"), "'forward' or 'reverse'"),
        (lambda: losses.token_contrast(STUDENT, TEACHER), "project"),
        (lambda: losses.token_contrast(TEACHER, TEACHER, temperature=0.0), "temperature"),
        (lambda: losses.context_similarity(TEACHER), "needs \\[batch, tokens, width\\]"),
        (lambda: losses.context_distance(TEACHER[None, :2], TEACHER[None]), "one grid"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tutelage import losses
from tutelage.losses import Divergence

INF = float("inf")
EVERY = [
    Divergence("forward-kl"),
    Divergence("forward-kl", temperature=2.5),
    Divergence("reverse-kl", temperature=0.7),
    Divergence("symmetric-kl", share=0.9, temperature=1.5),
    Divergence("jsd", beta=0.1, temperature=2.0),
    Divergence("jsd", beta=0.9, scale=False, temperature=2.0),
    Divergence("jsd", beta=0.0),
    Divergence("jsd", beta=1.0),
    Divergence("skew-kl", alpha=0.1, temperature=1.3),
    Divergence("skew-reverse-kl", alpha=0.2),
    Divergence("skew-kl", alpha=0.0),
    Divergence("total-variation", temperature=2.0),
    Divergence("sorted", temperature=1.5),
    Divergence("sorted", top_k=4),
]
NAMES = [f"{one.name}-{number}" for number, one in enumerate(EVERY)]
every = pytest.mark.parametrize("divergence", EVERY, ids=NAMES)


def random_logits(seed: int, *shape: int, spread: float = 2.0) -> torch.Tensor:
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row: list[float], temperature: float) -> list[float]:
    weights = [math.exp(x / temperature) for x in row]
    return [weight / sum(weights) for weight in weights]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def mixed(a: list[float], b: list[float], share: float) -> list[float]:
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


def naive(divergence: Divergence, student: list[float], teacher: list[float]) -> float:
    """Loops over one position, from the papers' equations."""
    q, p = softmax(student, divergence.temperature), softmax(teacher, divergence.temperature)
    square = divergence.temperature**2 if divergence.scale else 1.0
    alpha, beta, share = divergence.alpha, divergence.beta, divergence.share
    match divergence.name:
        case "forward-kl":
            return square * kl(p, q)
        case "reverse-kl":
            return square * kl(q, p)
        case "symmetric-kl":
            return square * ((1 - share) * kl(p, q) + share * kl(q, p))
        case "jsd" if beta in (0, 1):
            return square * (kl(p, q) if beta == 0 else kl(q, p))
        case "jsd":
            m = mixed(p, q, beta)
            return square * (beta * kl(p, m) + (1 - beta) * kl(q, m))
        case "skew-kl":
            return square * kl(p, mixed(p, q, alpha))
        case "skew-reverse-kl":
            return square * kl(q, mixed(q, p, alpha))
        case "total-variation":
            return sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2
    a, b = sorted(p, reverse=True), sorted(q, reverse=True)
    if divergence.top_k is not None:
        a, b = ([*x[: divergence.top_k], sum(x[divergence.top_k :])] for x in (a, b))
    size = max(len(a), len(b))
    a, b = (x + [0.0] * (size - len(x)) for x in (a, b))
    return sum(abs(x - y) for x, y in zip(a, b, strict=True))


@every
def test_values_are_those_of_loops_over_the_equations(divergence):
    student, teacher = random_logits(0, 2, 3, 9), random_logits(1, 2, 3, 9)
    found = divergence(student, teacher)
    expected = [
        [naive(divergence, *rows) for rows in zip(*pair, strict=True)]
        for pair in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


P, Q = torch.tensor([[0.7, 0.2, 0.1]]).double().log(), torch.tensor([[0.2, 0.3, 0.5]]).double().log()


@pytest.mark.parametrize(
    ("divergence", "value"),
    [
        (Divergence("forward-kl"), 0.634897),
        (Divergence("reverse-kl"), 0.675806),
        (Divergence("skew-kl", alpha=0.1), 0.493815),
        (Divergence("skew-reverse-kl", alpha=0.1), 0.507754),
        # DistiLLM's released "js" with 0.9 gives the student that share of the mixture.
        (Divergence("jsd", beta=0.1), 0.055891),
        (Divergence("symmetric-kl", share=0.9), 0.1 * 0.634897 + 0.9 * 0.675806),
    ],
)
def test_the_numbers_of_distillm(divergence, value):
    assert divergence(Q, P).item() == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize(
    ("name", "gradient"),
    [
        ("skew-kl", (-0.346393, 0.050203, 0.296190)),
        ("skew-reverse-kl", (-0.297919, -0.019906, 0.317825)),
        ("forward-kl", (-0.5, 0.1, 0.4)),
    ],
)
def test_the_gradients_of_distillm(name, gradient):
    student = Q.clone().requires_grad_()
    Divergence(name, alpha=0.1)(student, P).sum().backward()
    assert student.grad[0].tolist() == pytest.approx(gradient, abs=1e-6)


def test_skewed_divergences_are_bounded_where_the_plain_one_is_infinite():
    student, teacher = torch.tensor([[0.0, -INF]], requires_grad=True), torch.tensor([[-INF, 0.0]])
    assert losses.kl_divergence(student, teacher).item() == INF
    for direction in ("forward", "reverse"):
        value = losses.skew_kl(student, teacher, alpha=0.1, direction=direction)
        assert value.item() == pytest.approx(-math.log(0.1))
        assert torch.autograd.grad(value.sum(), student)[0].isfinite().all()


def test_sorted_distance_of_the_card():
    p, q = torch.tensor([0.6, 0.3, 0.1]).log(), torch.tensor([0.1, 0.2, 0.5, 0.2]).log()
    assert losses.sorted_distance(q, p).item() == pytest.approx(0.4, abs=1e-6)
    assert losses.sorted_distance(p, q).item() == pytest.approx(0.4, abs=1e-6)
    assert losses.sorted_distance(p[[2, 0, 1]], p).item() == pytest.approx(0.0, abs=1e-6)
    unused = torch.cat([q, torch.full((5,), -INF)])
    assert losses.sorted_distance(unused, p).item() == pytest.approx(0.4, abs=1e-6)
    assert losses.sorted_distance(q, p, top_k=2).item() == pytest.approx(0.1 + 0.1 + 0.2, abs=1e-6)
    assert losses.sorted_distance(q, p, top_k=50).item() == pytest.approx(0.4, abs=1e-6)
    own = losses.sorted_distance(q, p, temperature=2.0, teacher_temperature=0.5)
    torch.testing.assert_close(own, losses.sorted_distance(q / 2, p * 2))


def test_sorted_distance_is_a_transport_cost():
    ot = pytest.importorskip("ot")
    student, teacher = random_logits(0, 9), random_logits(1, 7)
    ranked = [torch.softmax(one, -1).sort(descending=True).values for one in (student, teacher)]
    q, p = ranked[0], torch.nn.functional.pad(ranked[1], (0, 2))
    # Between ranks every move costs the same; the distance counts what leaves and what arrives.
    cost = 2 * (1 - torch.eye(9, dtype=torch.float64))
    assert losses.sorted_distance(student, teacher).item() == pytest.approx(ot.emd2(q.numpy(), p.numpy(), cost.numpy()))


@every
@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50), spread=st.floats(0.1, 20))
@settings(max_examples=15, deadline=None)
def test_every_divergence_is_zero_at_equality_and_blind_to_shifts_and_order(divergence, seed, shift, spread):
    student, teacher = random_logits(seed, 4, 6, spread=spread), random_logits(seed + 1, 4, 6, spread=spread)
    value = divergence(student, teacher)
    assert (value >= -1e-12).all()
    torch.testing.assert_close(divergence(student + shift, teacher - shift), value)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(divergence(student[:, order], teacher[:, order]), value)
    torch.testing.assert_close(divergence(teacher + shift, teacher), torch.zeros(4, dtype=torch.float64))


@every
def test_gradients_of_both_sides(divergence):
    student, teacher = random_logits(3, 3, 5).requires_grad_(), random_logits(4, 3, 5).requires_grad_()
    assert gradcheck(lambda s, t: divergence(s, t, detach="neither"), (student, teacher))


@every
def test_what_is_detached_is_what_is_said(divergence):
    student, teacher = random_logits(3, 3, 5).requires_grad_(), random_logits(4, 3, 5).requires_grad_()
    both = torch.autograd.grad(divergence(student, teacher, detach="neither").sum(), (student, teacher))
    for detach, kept, other in (("teacher", 0, 1), ("student", 1, 0)):
        found = torch.autograd.grad(
            divergence(student, teacher, detach=detach).sum(), (student, teacher), allow_unused=True
        )
        assert found[other] is None
        torch.testing.assert_close(found[kept], both[kept])
    assert torch.autograd.grad(divergence(student, teacher).sum(), (student, teacher), allow_unused=True)[1] is None


@every
def test_vocabularies_padded_to_other_sizes(divergence):
    student, teacher = random_logits(5, 3, 6), random_logits(6, 3, 6)
    expected = divergence(student, teacher)
    wide_student = torch.cat([student, random_logits(7, 3, 2)], -1).requires_grad_()
    wide_teacher = torch.cat([teacher, random_logits(8, 3, 5)], -1)
    for one, other in ((wide_student, teacher), (student, wide_teacher), (wide_student, wide_teacher)):
        torch.testing.assert_close(divergence(one, other, vocabulary=6), expected)
    (gradient,) = torch.autograd.grad(divergence(wide_student, wide_teacher, vocabulary=6).sum(), wide_student)
    assert (gradient[:, 6:] == 0).all()


@pytest.mark.parametrize("name", ["forward-kl", "reverse-kl", "symmetric-kl"])
def test_what_would_be_infinite_is_refused_with_the_way_out(name):
    narrow, wide = random_logits(0, 2, 4), random_logits(1, 2, 6)
    pairs = {"forward-kl": [(narrow, wide)], "reverse-kl": [(wide, narrow)]}.get(name, [(narrow, wide), (wide, narrow)])
    for student, teacher in pairs:
        with pytest.raises(ValueError, match=r"entries 4 to 5.*as vocabulary"):
            Divergence(name)(student, teacher)
    if name == "forward-kl":
        assert Divergence(name)(wide, narrow).isfinite().all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: Divergence("kl"),
        lambda: Divergence(temperature=0.0),
        lambda: Divergence("jsd", beta=1.5),
        lambda: Divergence("skew-kl", alpha=1.0),
        lambda: Divergence("symmetric-kl", share=-0.1),
        lambda: Divergence("sorted", top_k=0)(P, Q),
        lambda: Divergence()(P, Q, vocabulary=4),
        lambda: Divergence()(P, Q, detach="none"),
        lambda: Divergence("jsd")(P, Q.expand(2, 3)),
        lambda: losses.sorted_distance(P, Q.expand(2, 3)),
        lambda: losses.skew_kl(P, Q, direction="sideways"),
        lambda: losses.skew_kl(P, Q, alpha=1.0),
        lambda: losses.symmetric_kl(P, Q, share=2.0),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()

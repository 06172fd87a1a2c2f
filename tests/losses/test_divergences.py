from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tutelage import losses

INF = float("inf")


def random_logits(seed: int, *shape: int, spread: float = 2.0) -> torch.Tensor:
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(value: float) -> object:
    return pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("temperature", "divergence", "total"), [(1.0, 0.427821, 0.298834), (4.0, 0.028897, 0.316100)])
def test_the_classic_objective_of_hinton(temperature, divergence, total):
    student, teacher = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, -2.0]])
    plain = losses.kl_divergence(student, teacher, temperature=temperature, scale=False)
    hard = losses.cross_entropy(student, torch.tensor([0]))
    assert plain.item() == near(divergence)
    assert hard.item() == near(0.169846)
    soft = losses.kl_divergence(student, teacher, temperature=temperature)
    assert (0.5 * hard + 0.5 * soft).item() == near(total)


P, Q = torch.tensor([[0.7, 0.2, 0.1]]).double().log(), torch.tensor([[0.2, 0.5, 0.3]]).double().log()


@pytest.mark.parametrize(("direction", "value"), [("forward", 0.583815), ("reverse", 0.537176)])
def test_the_two_directions(direction, value):
    assert losses.kl_divergence(Q, P, direction=direction).item() == near(value)


@pytest.mark.parametrize(
    ("beta", "value"), [(0.1, 0.050995), (0.5, 0.132918), (0.9, 0.047864), (0.0, 0.583815), (1.0, 0.537176)]
)
def test_jensen_shannon(beta, value):
    assert losses.jensen_shannon(Q, P, beta=beta).item() == near(value)


def test_jensen_shannon_over_its_weight_tends_to_the_plain_divergences():
    assert losses.jensen_shannon(Q, P, beta=1e-6).item() / 1e-6 == near(0.583814)
    assert losses.jensen_shannon(Q, P, beta=1 - 1e-6).item() / 1e-6 == near(0.537176)


def test_total_variation_is_the_largest_difference_in_probability():
    assert losses.total_variation(Q, P).item() == near(0.5)
    certain = torch.tensor([[0.0, -INF], [-INF, 0.0]])
    assert losses.total_variation(certain, certain.flip(0)).tolist() == [1.0, 1.0]


def test_soft_cross_entropy_and_its_gradient():
    p, q = torch.tensor([[0.7, 0.2, 0.06, 0.04]]).double(), torch.tensor([[0.4, 0.3, 0.2, 0.1]]).double()
    assert losses.soft_cross_entropy(q.log(), p).item() == near(1.070868)
    assert losses.soft_cross_entropy(q.log(), p[:, [0, 3, 1, 2]]).item() == near(1.149605)
    student = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[2.0, 1.0, -1.0]], dtype=torch.float64)
    losses.soft_cross_entropy(student, teacher.softmax(-1)).sum().backward()
    assert student.grad[0].tolist() == pytest.approx([-0.040144, -0.014768, 0.054912], abs=1e-6)


def test_cross_entropy_agrees_with_torch():
    logits, labels = random_logits(0, 5, 4), torch.tensor([0, 3, 1, 2, 2])
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        torch.testing.assert_close(losses.cross_entropy(logits, labels, label_smoothing=smoothing), expected)
        one_hot = torch.nn.functional.one_hot(labels, 4).double()
        torch.testing.assert_close(losses.cross_entropy(logits, one_hot, label_smoothing=smoothing), expected)


def test_smoothing_spreads_over_possible_classes_only():
    logits, labels = random_logits(1, 3, 4), torch.tensor([0, 3, 1])
    narrow = losses.cross_entropy(logits, labels, label_smoothing=0.2)
    torch.testing.assert_close(losses.cross_entropy(losses.pad_logits(logits, 9), labels, label_smoothing=0.2), narrow)


def test_entropies():
    uniform, certain = torch.zeros(8, dtype=torch.float64), torch.tensor([0.0, -INF, -INF], dtype=torch.float64)
    assert losses.entropy(uniform).item() == near(math.log(8))
    assert losses.entropy(certain).item() == 0.0
    for order in (0.5, 1.0, 2.0, INF):
        assert losses.renyi_entropy(uniform, order=order).item() == near(math.log(8))
        assert losses.renyi_entropy(certain, order=order).item() == near(0.0)
    logits = random_logits(2, 6, 5)
    falling = torch.stack([losses.renyi_entropy(logits, order=order) for order in (0.5, 0.9999, 1.0, 1.0001, 3.0, INF)])
    assert (falling.diff(dim=0) <= 0).all()
    torch.testing.assert_close(falling[1], falling[2], atol=1e-3, rtol=0)
    torch.testing.assert_close(losses.entropy(logits, temperature=2.0), losses.entropy(logits / 2))


DIVERGENCES = {
    "forward": lambda s, t: losses.kl_divergence(s, t, temperature=2.0),
    "reverse": lambda s, t: losses.kl_divergence(s, t, temperature=2.0, direction="reverse"),
    "jensen-shannon": lambda s, t: losses.jensen_shannon(s, t, beta=0.3, temperature=2.0),
    "total variation": lambda s, t: losses.total_variation(s, t, temperature=2.0),
}


@pytest.mark.parametrize("name", DIVERGENCES)
@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50), spread=st.floats(0.1, 20))
@settings(max_examples=25, deadline=None)
def test_invariances(name, seed, shift, spread):
    divergence = DIVERGENCES[name]
    student, teacher = random_logits(seed, 4, 6, spread=spread), random_logits(seed + 1, 4, 6, spread=spread)
    value = divergence(student, teacher)
    assert (value >= -1e-12).all()
    torch.testing.assert_close(divergence(student + shift, teacher - shift), value)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(divergence(student[:, order], teacher[:, order]), value)
    torch.testing.assert_close(divergence(teacher, teacher + shift), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_also_at_the_teacher(name):
    student, teacher = random_logits(3, 3, 5).requires_grad_(), random_logits(4, 3, 5).requires_grad_()
    assert gradcheck(DIVERGENCES[name], (student, teacher))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_padding_both_sides_with_impossible_entries_changes_nothing(name):
    divergence = DIVERGENCES[name]
    student, teacher = random_logits(5, 3, 5).requires_grad_(), random_logits(6, 3, 5).requires_grad_()
    plain = divergence(student, teacher)
    padded = divergence(losses.pad_logits(student, 8), losses.pad_logits(teacher, 8))
    torch.testing.assert_close(padded, plain)
    expected = torch.autograd.grad(plain.sum(), (student, teacher))
    torch.testing.assert_close(torch.autograd.grad(padded.sum(), (student, teacher)), expected)


def test_a_student_that_rules_out_what_the_teacher_allows_is_infinitely_far():
    student, teacher = torch.tensor([[0.0, 0.0, -INF]]), torch.zeros(1, 3)
    assert losses.kl_divergence(student, teacher).item() == INF
    assert losses.kl_divergence(student, teacher, direction="reverse").item() == near(math.log(1.5))
    assert losses.jensen_shannon(student, teacher).item() < math.log(2)


def test_extreme_logits_stay_finite():
    student, teacher = torch.tensor([[-1e4, 1e4]], requires_grad=True), torch.tensor([[1e4, -1e4]])
    value = losses.kl_divergence(student, teacher)
    assert value.item() == pytest.approx(2e4)
    assert torch.autograd.grad(value.sum(), student)[0].tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.kl_divergence(torch.zeros(2, 3), torch.zeros(2, 4)),
        lambda: losses.kl_divergence(torch.zeros(2, 3), torch.zeros(1, 3)),
        lambda: losses.kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0.0),
        lambda: losses.kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3), direction="sideways"),
        lambda: losses.jensen_shannon(torch.zeros(2, 3), torch.zeros(2, 3), beta=1.1),
        lambda: losses.jensen_shannon(torch.zeros(2, 3), torch.zeros(2, 4)),
        lambda: losses.total_variation(torch.zeros(2, 3), torch.zeros(2, 4)),
        lambda: losses.soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4)),
        lambda: losses.cross_entropy(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64)),
        lambda: losses.cross_entropy(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), label_smoothing=1.0),
        lambda: losses.renyi_entropy(torch.zeros(2, 3), order=0.0),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()


def test_one_against_rest_is_a_binary_loss_for_every_class():
    logits = torch.tensor([[0.3, -1.2, 2.0], [0.0, 0.5, -0.5]], dtype=torch.float64)
    labels = torch.tensor([2, 0])
    for off in (None, 0.0, 0.2):
        target = torch.full_like(logits, 1 / 3 if off is None else off)
        target[torch.arange(2), labels] = 1.0
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
        torch.testing.assert_close(losses.one_against_rest(logits, labels, off_label=off), expected)
    with pytest.raises(ValueError, match="off_label"):
        losses.one_against_rest(logits, labels, off_label=1.0)
    with pytest.raises(ValueError, match="indices"):
        losses.one_against_rest(logits, logits)

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn.functional import kl_div

from tutelage import losses

TEACHER = torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64)
STUDENT = torch.tensor([[0.5, 0.0, 0.0]], dtype=torch.float64)


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_worked_example():
    assert losses.entropy(TEACHER).item() == pytest.approx(0.665573, abs=1e-6)
    assert losses.entropy(STUDENT).item() == pytest.approx(1.068445, abs=1e-6)
    # The student is too flat: the reverse divergence is the stronger.
    assert [w.item() for w in losses.balance(STUDENT, TEACHER, boost=2.0)] == [1.0, 2.0]
    for boost, expected in ((2.0, 0.770059), (3.0, 1.037433), (1.0, 0.235311 + 0.267374)):
        value = losses.balanced_divergence(STUDENT, TEACHER, boost=boost).item()
        assert value == pytest.approx(expected, abs=1e-5)
    # The other way round the student is too sure, and the forward divergence, now the larger of the two, is boosted.
    assert losses.balanced_divergence(TEACHER, STUDENT, boost=2.0).item() == pytest.approx(0.770059, abs=1e-5)


@given(st.integers(0, 10_000), st.sampled_from([1.0, 4.0]))
@settings(max_examples=25, deadline=None)
def test_against_torchs_own_divergence_sample_by_sample(seed, temperature):
    student, teacher = logits(seed, 6, 5), logits(seed + 1, 6, 5)
    value = losses.balanced_divergence(student, teacher, boost=3.0, temperature=temperature)
    for i in range(6):
        q, p = (x[i] / temperature for x in (student, teacher))
        forward = kl_div(q.log_softmax(-1), p.softmax(-1), reduction="sum")
        reverse = kl_div(p.log_softmax(-1), q.softmax(-1), reduction="sum")
        entropies = [torch.distributions.Categorical(logits=x).entropy() for x in (p, q)]
        weights = (3.0, 1.0) if entropies[0] > entropies[1] else (1.0, 3.0)
        expected = temperature**2 * (weights[0] * forward + weights[1] * reverse)
        assert value[i].item() == pytest.approx(expected.item(), rel=1e-9)


def test_equal_networks_lose_nothing_and_ties_boost_neither():
    value = losses.balanced_divergence(TEACHER + 3, TEACHER)
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    rolled = torch.tensor([[0.0, 2.0, 0.0]], dtype=torch.float64)
    assert [w.item() for w in losses.balance(rolled, rolled)] == [1.0, 1.0]


def test_without_a_boost_it_is_symmetric():
    student, teacher = logits(0, 4, 5), logits(1, 4, 5)
    both = [losses.balanced_divergence(*pair, boost=1.0) for pair in ((student, teacher), (teacher, student))]
    torch.testing.assert_close(*both)
    torch.testing.assert_close(losses.balanced_divergence(student, teacher, weighting="off"), both[0])


def test_a_batch_decides_once_for_all_its_samples():
    student, teacher = logits(0, 8, 5), logits(1, 8, 5)
    one, other = losses.balance(student, teacher, weighting="batch")
    flatter = losses.entropy(teacher).mean() > losses.entropy(student).mean()
    assert one.unique().tolist() == [3.0 if flatter else 1.0]
    assert other.unique().tolist() == [1.0 if flatter else 3.0]
    apart = losses.balance(student, teacher)
    assert len(apart[0].unique()) == 2


def test_the_gradient_comes_through_both_places_of_the_student_and_through_no_weight():
    teacher = logits(1, 3, 4).requires_grad_()
    student = logits(0, 3, 4).requires_grad_()
    assert gradcheck(lambda s: losses.balanced_divergence(s, teacher, temperature=2.0), (student,))
    losses.balanced_divergence(student, teacher).sum().backward()
    assert teacher.grad is None


def test_tokens_are_kept_apart_and_impossible_classes_are_no_trouble():
    student, teacher = logits(0, 2, 3, 5), logits(1, 2, 3, 5)
    student[..., -1] = teacher[..., -1] = float("-inf")
    student.requires_grad_()
    value = losses.balanced_divergence(student, teacher)
    assert value.shape == (2, 3)
    value.sum().backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.balance(STUDENT, TEACHER, boost=0.5), "boost"),
        (lambda: losses.balance(STUDENT, TEACHER, weighting="epoch"), "'batch'"),
        (lambda: losses.balanced_divergence(STUDENT[:, :2], TEACHER), "one shape"),
        (lambda: losses.balanced_divergence(STUDENT, TEACHER, temperature=0.0), "temperature"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()

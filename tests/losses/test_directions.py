from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tutelage import losses

STUDENT = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 12.0]], dtype=torch.float64)
TEACHER = torch.tensor([[6.0, 8.0], [0.0, 2.0], [5.0, 0.0]], dtype=torch.float64)
MEANS = torch.tensor([[3.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
CENTRES = MEANS[torch.tensor([0, 1, 1])]


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_worked_example():
    student = STUDENT.clone().requires_grad_()
    value = losses.norm_and_direction(student, TEACHER, CENTRES)
    assert value.tolist() == pytest.approx([0.7, 1.0, 0.0])
    assert value.mean().item() == pytest.approx(0.5666667, abs=1e-7)
    value.mean().backward()
    expected = torch.tensor([[-1 / 30, 0.0], [0.0, -1 / 6], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(student.grad, expected)


def test_direction_and_norm_alone():
    direction = losses.norm_and_direction(STUDENT, TEACHER, CENTRES, variant="direction")
    assert direction.tolist() == pytest.approx([0.4, 1.0, 0.0])
    assert direction.mean().item() == pytest.approx(0.4666667, abs=1e-7)
    # Lengths 5 of 10, 1 of 2, 12 of 5.
    norm = losses.norm_and_direction(STUDENT, TEACHER, CENTRES, variant="norm")
    assert norm.tolist() == pytest.approx([0.5, 0.5, 0.0])


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_against_a_loop_over_samples_and_within_its_range(seed):
    student, teacher, centres = rows(seed, 5, 4), rows(seed + 1, 5, 4), 3 * rows(seed + 2, 5, 4)
    value = losses.norm_and_direction(student, teacher, centres)
    for i in range(5):
        cosine = torch.nn.functional.cosine_similarity(student[i], centres[i], dim=0)
        share = min(1.0, (student[i].norm() / teacher[i].norm()).item())
        assert value[i].item() == pytest.approx(1 - cosine.item() * share)
    assert ((value >= 0) & (value <= 2)).all()


def test_what_is_longer_than_the_teacher_is_only_turned():
    student, teacher, centres = rows(0, 6, 4), rows(1, 6, 4), rows(2, 6, 4)
    long = student / student.norm(dim=-1, keepdim=True) * teacher.norm(dim=-1, keepdim=True) * 1.01
    value = losses.norm_and_direction(long, teacher, centres)
    torch.testing.assert_close(value, losses.norm_and_direction(long, teacher, centres, variant="direction"))
    torch.testing.assert_close(losses.norm_and_direction(2 * long, teacher, centres), value)
    torch.testing.assert_close(losses.norm_and_direction(long, teacher, 2 * centres), value)
    # Below the teacher's length, half the length is half the projection.
    short = 0.5 * long
    halved = losses.norm_and_direction(0.5 * short, teacher, centres)
    torch.testing.assert_close(1 - halved, 0.5 * (1 - losses.norm_and_direction(short, teacher, centres)))


def test_of_equal_length_the_gradient_is_that_of_the_cosine():
    student = torch.tensor([[3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    centres = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    both = losses.norm_and_direction(student, torch.tensor([[5.0, 0.0]], dtype=torch.float64), centres)
    alone = losses.norm_and_direction(student, torch.zeros(1, 2, dtype=torch.float64), centres, variant="direction")
    for one in (both, alone):
        gradient = torch.autograd.grad(one.sum(), student, retain_graph=True)[0]
        assert (gradient @ student.T).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("variant", ["nd", "direction", "norm"])
def test_gradients_reach_the_student_alone(variant):
    student, teacher, centres = (rows(i, 4, 3).requires_grad_() for i in range(3))
    assert gradcheck(lambda s: losses.norm_and_direction(s, teacher, centres, variant=variant), (student,))
    losses.norm_and_direction(student, teacher, centres, variant=variant).sum().backward()
    assert teacher.grad is None
    assert centres.grad is None


def test_dead_embeddings_give_numbers():
    dead = torch.zeros(2, 3, requires_grad=True)
    value = losses.norm_and_direction(dead, torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert value.tolist() == [1.0, 1.0]
    value.sum().backward()
    assert torch.isfinite(dead.grad).all()


def test_sums_of_parts_are_the_sum_of_the_whole():
    embeddings, labels = rows(0, 9, 3), torch.tensor([0, 1, 1, 3, 0, 0, 3, 3, 3])
    whole, count = losses.sums_by_class(embeddings, labels, 5)
    assert count.tolist() == [3, 2, 0, 4, 0]
    for k in range(5):
        torch.testing.assert_close(whole[k], embeddings[labels == k].sum(0))
    first, second = (losses.sums_by_class(embeddings[p], labels[p], 5) for p in (slice(0, 4), slice(4, 9)))
    torch.testing.assert_close(first[0] + second[0], whole)
    assert torch.equal(first[1] + second[1], count)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.norm_and_direction(STUDENT, TEACHER[:, :1], CENTRES), "project the student"),
        (lambda: losses.norm_and_direction(STUDENT, TEACHER, MEANS), "class means"),
        (lambda: losses.norm_and_direction(STUDENT, TEACHER, CENTRES, variant="angle"), "'direction'"),
        (lambda: losses.sums_by_class(STUDENT, torch.ones(3, 2), 2), "3 class indices"),
        (lambda: losses.sums_by_class(STUDENT, torch.tensor([0, 1, 2]), 2), r"\[0, 2\), got 0 to 2"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()

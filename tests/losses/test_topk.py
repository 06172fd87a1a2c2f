from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tutelage import losses

TEACHER = torch.tensor([[5.0, 3.0, 1.0, -1.0, -2.0, -4.0]], dtype=torch.float64)
STUDENT = torch.tensor([[2.0, 2.0, 0.0, 0.0, -1.0, -1.0]], dtype=torch.float64)


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_worked_example_of_the_directions():
    def part(**weights: float) -> float:
        chosen = {"pos_weight": 0.0, "neg_weight": 0.0, "rest_weight": 0.0} | weights
        return 1 - losses.top_directions(STUDENT, TEACHER, k=2, **chosen).item()

    assert losses.top_directions(STUDENT, TEACHER, k=2).tolist() == pytest.approx([-0.918826], abs=1e-6)
    assert part(pos_weight=1.0) == pytest.approx(0.970143, abs=1e-6)
    assert part(neg_weight=1.0) == pytest.approx(0.948683, abs=1e-6)
    assert part(rest_weight=1.0) == 0.0


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        # The mean gap is 5.5, so the bias is 0.55; ranks weigh 1.5 and 1.25, a label that the teacher misses 2.
        (None, [8.05, 4.3, 1.0, -1.0, -2.0, -4.0]),
        (-1, [8.05, 4.3, 1.0, -1.0, -2.0, -4.0]),
        (0, [8.05, 4.3, 1.0, -1.0, -2.0, -4.0]),
        (1, [8.05, 6.55, 1.0, -1.0, -2.0, -4.0]),
        (2, [8.05, 4.3, 2.55, -1.0, -2.0, -4.0]),
        (4, [8.05, 4.3, 1.0, -1.0, -0.45, -4.0]),
    ],
)
def test_scaling_by_hand(label, expected):
    labels = None if label is None else torch.tensor([label])
    assert losses.top_scale(TEACHER, labels, k=2)[0].tolist() == pytest.approx(expected)


def test_scaling_without_gain_and_bias_is_the_identity():
    teacher = logits(0, 4, 7)
    assert torch.equal(losses.top_scale(teacher, torch.tensor([0, 1, 2, -1]), k=3, gain=0.0, bias=0.0), teacher)


@given(st.integers(0, 10_000), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_scaling_raises_the_top_keeps_its_order_and_leaves_the_rest(seed, k):
    teacher = logits(seed, 3, 9)
    scaled = losses.top_scale(teacher, k=k)
    order = teacher.argsort(-1, descending=True)
    top, rest = order[:, :k], order[:, k:]
    assert (scaled.gather(-1, top) > teacher.gather(-1, top)).all()
    assert (scaled.gather(-1, top).diff(dim=-1) < 0).all()
    assert torch.equal(scaled.gather(-1, rest), teacher.gather(-1, rest))


def test_scaling_gives_the_teacher_no_gradient():
    assert not losses.top_scale(logits(0, 2, 7).requires_grad_(), k=3).requires_grad


@given(st.integers(0, 10_000), st.floats(0.01, 100.0))
@settings(max_examples=30, deadline=None)
def test_a_student_in_the_same_direction_reaches_the_minimum_at_any_scale(seed, scale):
    teacher = losses.top_scale(logits(seed, 3, 11), k=3)
    value = losses.top_directions(scale * teacher, teacher, k=3, pos_weight=0.7, neg_weight=0.4)
    torch.testing.assert_close(value, torch.full((3,), -1.1, dtype=torch.float64))
    student = logits(seed + 1, 3, 11)
    torch.testing.assert_close(
        losses.top_directions(scale * student, teacher, k=3), losses.top_directions(student, teacher, k=3)
    )


def test_the_index_sets_are_the_teachers():
    # The student ranks class 2 above class 1: by its own ranks, other pairs would be compared.
    teacher = torch.tensor([[5.0, 4.0, 1.0, 0.5, -4.0, -5.0]])
    student = torch.tensor([[5.0, 1.0, 4.0, 2.0, -4.0, -5.0]])
    largest, rest = 29 / (26 * 41) ** 0.5, 1.0
    assert losses.top_directions(student, teacher, k=2).item() == pytest.approx(-largest - rest, abs=1e-6)


def test_ties_do_not_put_a_class_into_two_sets():
    teacher = torch.ones(1, 6)
    student = torch.tensor([[1.0, 1.0, 0.0, 0.0, -1.0, -1.0]])
    # Every class counts once: the cosines are 1, -1 and 0 (a part without length).
    assert losses.top_directions(student, teacher, k=2).item() == pytest.approx(1.0)


def test_a_single_other_class_is_left_out():
    teacher = torch.tensor([[4.0, 3.0, 1.0, -2.0, -3.0]])
    flipped = teacher * torch.tensor([1.0, 1.0, -1.0, 1.0, 1.0])
    assert losses.top_directions(flipped, teacher, k=2).item() == pytest.approx(-1.0)


def test_gradients_of_the_directions():
    teacher = logits(0, 3, 9).requires_grad_()
    assert gradcheck(lambda s: losses.top_directions(s, teacher.detach(), k=3), (logits(1, 3, 9).requires_grad_(),))
    losses.top_directions(logits(1, 3, 9).requires_grad_(), teacher, k=3).sum().backward()
    assert teacher.grad is None
    dead = torch.zeros(1, 9, requires_grad=True)
    losses.top_directions(dead, logits(0, 1, 9).float(), k=3).sum().backward()
    assert (dead.grad == 0).all()


def test_one_sample_has_nothing_to_be_told_apart_from():
    assert losses.paired_contrast(logits(0, 1, 5), logits(1, 1, 5)).item() == 0.0


def test_the_contrast_of_orthogonal_pairs_by_hand():
    rows = torch.eye(4)
    assert losses.paired_contrast(5 * rows, rows, temperature=1.0).item() == pytest.approx(math.log(math.e + 3) - 1)
    assert losses.paired_contrast(rows.roll(1, 0), rows, temperature=1.0).item() == pytest.approx(math.log(math.e + 3))


def test_the_contrast_is_symmetric_and_blind_to_scale_and_order():
    student, teacher = logits(0, 6, 5), logits(1, 6, 5)
    value = losses.paired_contrast(student, teacher)
    torch.testing.assert_close(losses.paired_contrast(teacher, student), value)
    torch.testing.assert_close(losses.paired_contrast(9 * student, 0.1 * teacher), value)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(losses.paired_contrast(student[order], teacher[order]), value)


def test_copies_of_a_sample_are_no_wrong_answers():
    rows = logits(0, 3, 5)
    doubled, ids = torch.cat([rows, rows[:1]]), torch.tensor([7, 8, 9, 7])
    blind = losses.paired_contrast(doubled, doubled)
    aware = losses.paired_contrast(doubled, doubled, ids=ids)
    assert blind > 0.3
    assert aware < 0.05


def test_gradients_of_the_contrast_reach_both_sides_and_the_temperature():
    tau = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    inputs = (logits(0, 4, 3).requires_grad_(), logits(1, 4, 3).requires_grad_(), tau)
    ids = torch.tensor([0, 1, 0, 2])
    assert gradcheck(lambda s, t, tau: losses.paired_contrast(s, t, temperature=tau, ids=ids), inputs)


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.top_scale(TEACHER, k=6),
        lambda: losses.top_scale(TEACHER, k=0),
        lambda: losses.top_scale(TEACHER, k=2, gain=-1.0),
        lambda: losses.top_scale(TEACHER, k=2, boost=0.5),
        lambda: losses.top_directions(STUDENT, TEACHER, k=1),
        lambda: losses.top_directions(STUDENT, TEACHER, k=4),
        lambda: losses.top_directions(STUDENT[:, :5], TEACHER, k=2),
        lambda: losses.paired_contrast(STUDENT[:, :5], TEACHER),
        lambda: losses.paired_contrast(STUDENT, TEACHER, temperature=0.0),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()


def test_mixed_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"top-K scaling needs integer class indices \[1\].*leave out mixup"):
        losses.top_scale(TEACHER, torch.full((1, 6), 1 / 6), k=2)

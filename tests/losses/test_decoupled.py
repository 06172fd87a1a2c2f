from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tutelage import losses


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0, 4, 2])


@given(st.integers(0, 10_000), st.floats(0.5, 8.0))
@settings(max_examples=30, deadline=None)
def test_the_parts_add_up_to_the_whole_divergence(seed, temperature):
    student, teacher = logits(seed, 3, 5), logits(seed + 1, 3, 5)
    target, others = losses.decoupled_parts(student, teacher, LABELS, temperature=temperature)
    at_label = (teacher / temperature).softmax(-1).gather(-1, LABELS[:, None])[:, 0]
    whole = losses.kl_divergence(student, teacher, temperature=temperature, scale=False)
    torch.testing.assert_close(target + (1 - at_label) * others, whole)


def test_the_loss_weighs_the_parts_and_keeps_the_squared_temperature():
    student, teacher = logits(0, 3, 5), logits(1, 3, 5)
    target, others = losses.decoupled_parts(student, teacher, LABELS, temperature=3.0)
    value = losses.decoupled(student, teacher, LABELS, alpha=0.5, beta=2.0, temperature=3.0)
    torch.testing.assert_close(value, 9 * (0.5 * target + 2 * others))


def test_the_others_do_not_see_the_label():
    student, teacher = logits(0, 3, 5), logits(1, 3, 5)
    louder = student.scatter_add(-1, LABELS[:, None], torch.full((3, 1), 7.0, dtype=torch.float64))
    before = losses.decoupled_parts(student, teacher, LABELS)
    after = losses.decoupled_parts(louder, teacher, LABELS)
    torch.testing.assert_close(after[1], before[1])
    assert (after[0] - before[0]).abs().min() > 1e-3


def test_gradients_and_tokens():
    student, teacher = logits(0, 2, 3, 5).requires_grad_(), logits(1, 2, 3, 5).requires_grad_()
    labels = LABELS.expand(2, 3)
    assert gradcheck(lambda s, t: losses.decoupled(s, t, labels), (student, teacher))
    assert losses.decoupled(student, teacher, labels).shape == (2, 3)


def test_a_certain_teacher_stays_finite():
    student = torch.zeros(1, 3, requires_grad=True)
    value = losses.decoupled(student, torch.tensor([[300.0, 0.0, -300.0]]), torch.tensor([0]), temperature=1.0)
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("labels", [torch.zeros(3, 5), torch.zeros(2, dtype=torch.int64)])
def test_bad_input_is_refused(labels):
    with pytest.raises(ValueError, match="class indices"):
        losses.decoupled(logits(0, 3, 5), logits(1, 3, 5), labels)

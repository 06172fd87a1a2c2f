from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage import losses

P = torch.tensor([[0.7, 0.2, 0.06, 0.04]], dtype=torch.float64)
ROWS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
TEACHER = torch.tensor([[4.0, 2.0, 0.0, -1.0]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 0.5, 0.0, -0.5]], dtype=torch.float64)
FIRST = torch.tensor([0])


def probabilities(seed: int, batch: int = 5, classes: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(batch, classes, generator=generator, dtype=torch.float64)).softmax(-1)


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_targets_of_the_worked_example():
    assert losses.confidence_target(P, FIRST)[0].tolist() == pytest.approx([0.7, 0.1, 0.1, 0.1])
    second = losses.confidence_target(P, torch.tensor([1]))[0].tolist()
    assert second == pytest.approx([0.266667, 0.2, 0.266667, 0.266667], abs=1e-6)
    assert losses.top_target(P, 2)[0].tolist() == pytest.approx([0.7, 0.2, 0.05, 0.05])
    assert torch.equal(losses.top_target(P, 4), P)
    assert losses.smoothed_labels(FIRST, 4, epsilon=0.1)[0].tolist() == pytest.approx([0.925, 0.025, 0.025, 0.025])


def test_the_similarities_of_the_worked_example():
    assert losses.row_similarity(3 * ROWS)[0].tolist() == pytest.approx([1.0, 0.8, 0.0, -1.0])
    target = losses.similarity_target(ROWS, temperature=1.0)
    assert target[0].tolist() == pytest.approx([0.430673, 0.352606, 0.158436, 0.058285], abs=1e-6)
    # Rows of any length: it is the classifier's geometry that counts.
    torch.testing.assert_close(
        losses.similarity_target(ROWS * torch.tensor([[1.0], [2], [3], [4]])), losses.similarity_target(ROWS)
    )


def test_both_together_by_hand():
    similarity = losses.similarity_target(ROWS, temperature=1.0)
    both = losses.confident_similarity_target(P, FIRST, similarity)[0]
    others = torch.tensor([0.352606, 0.158436, 0.058285], dtype=torch.float64)
    torch.testing.assert_close(both[1:], 0.3 * others / others.sum(), atol=1e-6, rtol=0)
    assert both[0].item() == pytest.approx(0.7)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_targets_are_distributions_and_keep_what_they_say(seed):
    p, labels = probabilities(seed), torch.arange(5)
    similarity = losses.similarity_target(rows(seed, 7, 3))
    targets = [
        losses.smoothed_labels(labels, 7),
        losses.confidence_target(p, labels),
        losses.confident_similarity_target(p, labels, similarity),
        losses.top_target(p, 3),
        similarity,
    ]
    for target in targets:
        torch.testing.assert_close(target.sum(-1), torch.ones_like(target[:, 0]))
        assert (target >= 0).all()
    for target in targets[1:3]:
        torch.testing.assert_close(target[labels, labels], p[labels, labels])
    # An independent way: ranks from numpy.
    order = np.argsort(-p.numpy(), axis=-1)
    for i in range(5):
        kept = order[i, :3]
        np.testing.assert_allclose(targets[3][i, kept], p[i, kept])
        np.testing.assert_allclose(targets[3][i, order[i, 3:]], (1 - p[i, kept].sum()) / 4, atol=1e-12)


def test_a_certain_teacher_leaves_the_others_something():
    sure = torch.tensor([[60.0, 0.0, -1.0, -2.0]]).softmax(-1)
    for target in (losses.confidence_target(sure, FIRST), losses.top_target(sure, 1)):
        assert (target > 0).all()


def test_targets_have_no_graph():
    p = probabilities(0).requires_grad_()
    weight = rows(0, 7, 3).requires_grad_()
    labels = torch.arange(5)
    assert not losses.confidence_target(p, labels).requires_grad
    assert not losses.top_target(p, 3).requires_grad
    assert not losses.similarity_target(weight).requires_grad


@pytest.mark.parametrize(("scale", "expected"), [(False, 0.777310), (True, 1.009238)])
def test_the_rescaling_of_the_worked_example_is_the_ratio_of_gradients(scale, expected):
    soft = (TEACHER / 2).softmax(-1)
    value = losses.gradient_rescaling(STUDENT, soft, FIRST, weight=0.3, temperature=2.0, scale=scale)
    assert value.item() == pytest.approx(expected, abs=1e-6)
    student = STUDENT.clone().requires_grad_()
    hard = losses.cross_entropy(student, FIRST)
    mixed = 0.7 * hard + 0.3 * (4 if scale else 1) * losses.soft_cross_entropy(student / 2, soft)
    gradients = [torch.autograd.grad(loss.sum(), student, retain_graph=True)[0][0, 0] for loss in (mixed, hard)]
    assert value.item() == pytest.approx((gradients[0] / gradients[1]).item(), abs=1e-9)


def test_a_teacher_who_says_what_the_student_says_rescales_by_what_the_labels_keep():
    soft = (STUDENT / 2).softmax(-1)
    assert losses.gradient_rescaling(STUDENT, soft, FIRST, weight=0.3, temperature=2.0).item() == pytest.approx(0.7)


def test_a_certain_student_gives_a_number():
    sure = torch.tensor([[200.0, 0.0, 0.0, 0.0]])
    assert torch.isfinite(losses.gradient_rescaling(sure, P, FIRST, weight=0.5, temperature=2.0)).all()


def test_agreement_is_the_correlation_of_the_cosines_of_pairs():
    first, second = rows(0, 6, 4), rows(1, 6, 9)
    cosines = [losses.row_similarity(w)[tuple(torch.triu_indices(6, 6, 1))].numpy() for w in (first, second)]
    assert losses.similarity_agreement(first, second).item() == pytest.approx(np.corrcoef(*cosines)[0, 1])
    assert losses.similarity_agreement(first, 5 * first).item() == pytest.approx(1.0)


def test_super_classes_of_parallel_rows_are_as_far_apart_as_can_be():
    weight = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [-3.0, 0.0]])
    assert losses.superclass_contrast(weight, torch.tensor([0, 0, 1, 1])).item() == pytest.approx(2.0)
    assert losses.superclass_contrast(weight, torch.tensor([0, 1, 0, 1])).item() == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.top_target(P, 5), r"k must lie in \[1, 4\]"),
        (lambda: losses.smoothed_labels(FIRST, 4, epsilon=1.5), "epsilon"),
        (lambda: losses.confidence_target(P, torch.tensor([4])), r"\[0, 4\)"),
        (lambda: losses.confidence_target(P, P), r"class indices \[batch\]"),
        (lambda: losses.confident_similarity_target(P, FIRST, torch.eye(3)), "square"),
        (lambda: losses.similarity_target(ROWS, temperature=0.0), "temperature"),
        (lambda: losses.gradient_rescaling(STUDENT, P[:, :3], FIRST, weight=0.5), "one shape"),
        (lambda: losses.similarity_agreement(ROWS, ROWS[:3]), "same 3 classes or more"),
        (lambda: losses.superclass_contrast(ROWS, torch.zeros(4, dtype=torch.int64)), "two groups"),
        (lambda: losses.superclass_contrast(ROWS, torch.zeros(3, dtype=torch.int64)), "each of 4 classes"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()

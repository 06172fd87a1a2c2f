from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from tutelage.losses import class_semantics, classifier_gradient, similarity_preserving


def matrix(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(student, teacher):
    """The class's outer products built and their rows normalised, as the paper has it."""
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        pair = [torch.nn.functional.normalize(torch.outer(g, g), dim=-1) for g in (ours, theirs)]
        total = total + (pair[0] - pair[1]).square().sum()
    return total / student.numel()


def test_the_cards_numbers():
    student, teacher = torch.tensor([[1.0, -2, 2], [0, 3, 4]]), torch.tensor([[2.0, -1, 2], [0, 4, 3]])
    assert class_semantics(student, teacher).item() == pytest.approx(0.1377778, abs=1e-6)
    assert naive(student, teacher).item() == pytest.approx(0.1377778, abs=1e-6)
    assert class_semantics(teacher, 3 * teacher).item() == pytest.approx(0.0, abs=1e-6)
    features = torch.tensor([[1.0, 0], [1, 1], [0, 2]]), torch.tensor([[1.0, 0, 0], [0, 3, 4], [0, 0, 2]])
    assert similarity_preserving(*features).item() == pytest.approx(0.1455022, abs=1e-6)


def test_the_shortcut_is_the_product():
    student, teacher = matrix(0, 5, 7), matrix(1, 5, 7)
    torch.testing.assert_close(class_semantics(student, teacher), naive(student, teacher))
    assert gradcheck(lambda g: class_semantics(g, teacher), (student.requires_grad_(),))


def test_unrelated_gradients_are_about_two_apart():
    apart = [class_semantics(matrix(2 * i, 4, 200), matrix(2 * i + 1, 4, 200)).item() for i in range(20)]
    assert sum(apart) / 20 == pytest.approx(2.0, abs=0.05)


def test_other_widths_are_compared_class_by_class():
    student, teacher = matrix(0, 4, 3), matrix(1, 4, 6)
    rotation = torch.linalg.qr(matrix(2, 6, 6))[0]
    by_hand = [torch.nn.functional.normalize(g @ g.T, dim=-1) for g in (student, teacher)]
    torch.testing.assert_close(class_semantics(student, teacher), (by_hand[0] - by_hand[1]).square().sum() / 16)
    torch.testing.assert_close(class_semantics(student, teacher @ rotation), class_semantics(student, teacher))


def test_a_class_that_pulls_nowhere_has_rows_of_zero():
    student = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    distance = class_semantics(student, torch.tensor([[1.0, 1.0], [1.0, 2.0]]))
    assert distance.item() == pytest.approx(2 / 4)
    distance.backward()
    assert student.grad.isfinite().all()


def test_the_gradient_is_autograds_and_absent_classes_have_one_too():
    features, weight = matrix(0, 6, 5), matrix(1, 4, 5).requires_grad_()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    logits = features @ weight.T
    torch.nn.functional.cross_entropy(logits, labels).backward()
    found = classifier_gradient(logits, features, labels)
    torch.testing.assert_close(found, weight.grad)
    assert found[3].abs().sum() > 0


def test_mistakes():
    with pytest.raises(ValueError, match="of the same classes"):
        class_semantics(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="expected logits"):
        classifier_gradient(torch.zeros(2, 3), torch.zeros(2, 3, 1), torch.zeros(2, dtype=torch.int64))

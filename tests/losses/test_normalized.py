from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from tutelage.losses import (
    cross_entropy,
    hierarchical_context,
    kl_divergence,
    logit_distance,
    normalized_rest,
    normalized_target,
)

STUDENT, TEACHER = torch.tensor([[2.0, 1, 0], [0, 1, 3]]), torch.tensor([[3.0, 1, 1], [0, 2, 2]])
LABELS = torch.tensor([0, 1])


def test_the_cards_numbers():
    target, rest = (
        normalized_target(STUDENT, TEACHER, LABELS).mean().item(),
        normalized_rest(STUDENT, TEACHER, LABELS).mean().item(),
    )
    assert target == pytest.approx(0.6684710, abs=1e-6)
    assert rest == pytest.approx(0.6097289, abs=1e-6)
    assert target + 1.5 * rest == pytest.approx(1.5830643, abs=1e-6)
    assert logit_distance(STUDENT, TEACHER).mean().item() == pytest.approx(0.6666667, abs=1e-6)
    label, soft = (
        cross_entropy(STUDENT, LABELS).mean().item(),
        kl_divergence(STUDENT, TEACHER, temperature=2.5).mean().item(),
    )
    assert (label, soft) == (pytest.approx(1.2887260, abs=1e-6), pytest.approx(0.2485669, abs=1e-6))
    assert 0.5 * label + 0.5 * soft == pytest.approx(0.7686464, abs=1e-6)


def test_the_rest_is_a_distribution_of_its_own():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([0, 3, 6, 2, 2])
    found = normalized_rest(student, teacher, labels, temperature=2.0)
    for i, label in enumerate(labels.tolist()):
        others = [k for k in range(7) if k != label]
        p, q = ((logits[i, others] / 2).softmax(0) for logits in (teacher, student))
        assert found[i].item() == pytest.approx(-4 * (p * q.log()).sum().item())
    moved = student.clone()
    moved[torch.arange(5), labels] += 3.0
    torch.testing.assert_close(normalized_rest(moved, teacher, labels, temperature=2.0), found)
    assert gradcheck(lambda s: normalized_rest(s, teacher, labels), (student.requires_grad_(),))
    assert gradcheck(lambda s: normalized_target(s, teacher, labels), (student,))


def test_hierarchical_context_by_hand():
    student, teacher = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    student[0, 0, 0, 0] = 4.0
    # On grids of 4, 2 and 1: 16, 1 and 1/16, spread over 2 · 16, 2 · 4 and 2 numbers.
    expected = (16 / 32 + 0.5 * 1 / 8 + 0.25 * (0.25**2) / 2) / 1.75
    assert hierarchical_context(student, teacher).item() == pytest.approx(expected)
    assert hierarchical_context(student, student).item() == 0.0


def test_mistakes():
    with pytest.raises(ValueError, match="one shape"):
        normalized_target(STUDENT, TEACHER[:, :2], LABELS)
    with pytest.raises(ValueError, match="at least 2 classes"):
        normalized_rest(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected maps"):
        hierarchical_context(torch.zeros(2, 3), torch.zeros(2, 3))

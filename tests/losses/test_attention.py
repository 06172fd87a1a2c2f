"""Attention compared: the card's numbers, a naive loop, and what padding may not change."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from tutelage import losses

TEACHER = torch.tensor([[[[0.7, 0.3, 0.0], [0.4, 0.6, 0.0], [0.1, 0.2, 0.7]]]], dtype=torch.float64)
STUDENT = torch.tensor([[[[0.5, 0.5, 0.0], [0.2, 0.8, 0.0], [0.3, 0.3, 0.4]]]], dtype=torch.float64)
TWO = torch.tensor([2])


def test_the_worked_example_of_the_maps() -> None:
    assert losses.attention_divergence(STUDENT, TEACHER, TWO).item() == pytest.approx(0.0934663, abs=1e-6)
    assert losses.attention_divergence(TEACHER, TEACHER).item() == 0
    changed = STUDENT.clone()
    changed[..., 2, :], changed[..., :, 2] = 0.9, 0.4
    assert losses.attention_divergence(changed, TEACHER, TWO).item() == pytest.approx(0.0934663, abs=1e-6)


def test_maps_are_those_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(3, 2, 4, 4, generator=generator).double().softmax(-1) for _ in range(2))
    lengths = [4, 2, 3]
    expected = []
    for one, length in enumerate(lengths):
        total = 0.0
        for head in range(2):
            for i in range(length):
                for j in range(length):
                    a, b = p[one, head, i, j], q[one, head, i, j]
                    total += float(a * (a.log() - b.log())) / length
        expected.append(total / 2)
    assert losses.attention_divergence(q, p, torch.tensor(lengths)).tolist() == pytest.approx(expected)
    assert gradcheck(lambda x: losses.attention_divergence(x.softmax(-1), p), (q.log().requires_grad_(),))


def test_scores_mind_a_shift_that_maps_ignore() -> None:
    scores = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    maps = losses.attention_divergence((scores + 5).softmax(-1), scores.softmax(-1))
    assert maps.abs().max() < 1e-6
    assert losses.score_distance(scores + 5, scores).tolist() == pytest.approx([25.0, 25.0], rel=1e-5)


def test_masked_scores_count_for_nothing() -> None:
    student, teacher = torch.tensor([[[[1.0, -10000.0]]]]), torch.tensor([[[[3.0, -9990.0]]]])
    assert losses.score_distance(student, teacher).item() == pytest.approx(2.0)


def test_coverage_counts_how_far_down_one_must_go() -> None:
    teacher = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    assert losses.ranking_coverage(teacher, teacher, top=2).item() == 0.5
    assert losses.ranking_coverage(teacher.flip(-1), teacher, top=1).item() == 1.0
    assert losses.ranking_coverage(torch.tensor([[0.3, 0.1, 0.4, 0.2]]), teacher, top=2).item() == 1.0


def test_norms_are_those_of_each_key_s_own_contribution() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(2, 3, 4, 4, generator=generator).softmax(-1)
    values, weight = torch.randn(2, 3, 4, 5, generator=generator), torch.randn(7, 15, generator=generator)
    found = losses.norm_attention(p, values, weight)
    by_hand = p[1, 2, 0, 3] * (weight[:, 10:15] @ values[1, 2, 3]).norm()
    assert found[1, 2, 0, 3].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[batch, heads"):
        losses.attention_divergence(TEACHER[0], TEACHER[0])
    with pytest.raises(ValueError, match=r"lengths are \[2\]"):
        losses.attention_divergence(STUDENT, TEACHER, torch.tensor([2, 2]))
    with pytest.raises(ValueError, match="top must lie in"):
        losses.ranking_coverage(TEACHER, TEACHER, top=4)
    with pytest.raises(ValueError, match="not of the same heads"):
        losses.norm_attention(TEACHER, torch.zeros(1, 1, 3, 2), torch.zeros(4, 3))

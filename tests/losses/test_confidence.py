from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage import losses

# The largest probabilities are 0.9, 0.6 and 0.5.
TEACHER = torch.tensor([[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.25, 0.25, 0.5]]).log()


def test_the_worked_example():
    weights = losses.confidence_weights(TEACHER)
    assert weights.tolist() == pytest.approx([0.45, 0.30, 0.25], abs=1e-6)
    assert (weights * torch.tensor([0.1, 0.7, 2.0])).sum().item() == pytest.approx(0.755, abs=1e-6)


def test_equal_confidence_is_the_plain_mean_and_carries_no_gradient():
    teacher = TEACHER[[1, 1, 1]].clone().requires_grad_()
    weights = losses.confidence_weights(teacher)
    assert weights.tolist() == pytest.approx([1 / 3] * 3)
    assert not weights.requires_grad


def rows(seed: int, batch: int, classes: int) -> torch.Tensor:
    return torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)


@given(st.integers(0, 10_000), st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_permuting_keeps_the_top_in_place_and_all_values(seed, classes):
    before = rows(seed, 6, classes)
    after = losses.permute_dark_knowledge(before, torch.arange(6) + 1000 * seed)
    assert torch.equal(after.argmax(-1), before.argmax(-1))
    assert torch.equal(after.amax(-1), before.amax(-1))
    assert torch.equal(after.sort(-1).values, before.sort(-1).values)


def test_two_classes_leave_nothing_to_permute():
    before = rows(0, 20, 2)
    assert torch.equal(losses.permute_dark_knowledge(before, torch.arange(20)), before)


def test_a_seed_replays_its_permutation_in_any_batch():
    before, seeds = rows(1, 8, 10), torch.arange(8) * 7919 - 20_000
    after = losses.permute_dark_knowledge(before, seeds)
    order = torch.tensor([5, 2, 7])
    torch.manual_seed(3)
    assert torch.equal(losses.permute_dark_knowledge(before[order], seeds[order]), after[order])
    assert not torch.equal(losses.permute_dark_knowledge(before, seeds + 1), after)


def test_every_permutation_is_equally_likely():
    count = 12_000
    before = torch.tensor([0.1, 0.6, 0.2, 0.07, 0.03]).expand(count, 5)
    after = losses.permute_dark_knowledge(before, torch.arange(count))
    tally = Counter(map(tuple, after.tolist()))
    assert len(tally) == 24
    # Chi-squared with 23 degrees of freedom: 49.7 is exceeded once in a thousand; the seeds are fixed.
    expected = count / 24
    assert sum((n - expected) ** 2 / expected for n in tally.values()) < 49.7


def test_a_tied_top_keeps_the_teachers_argmax_in_place():
    before = torch.tensor([[0.4, 0.4, 0.1, 0.1]]).expand(50, 4)
    after = losses.permute_dark_knowledge(before, torch.arange(50))
    assert (after[:, 0] == before[:, 0]).all()
    assert torch.equal(after.sort(-1).values, before.sort(-1).values)


def test_one_seed_a_sample_is_needed():
    with pytest.raises(ValueError, match="one seed a sample"):
        losses.permute_dark_knowledge(rows(0, 3, 4), torch.arange(2))

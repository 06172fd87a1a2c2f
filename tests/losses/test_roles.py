from __future__ import annotations

from collections import Counter

import pytest
import torch

from tutelage import losses


def test_the_lowest_loss_is_elected_and_the_larger_of_equals():
    assert losses.elect(torch.tensor([0.9, 0.4, 0.7]), [3, 2, 1]) == [1]
    assert losses.elect(torch.tensor([0.9, 0.4, 0.7]), [3, 2, 1], 2) == [1, 2]
    assert losses.elect(torch.tensor([0.5, 0.5, 0.5]), [1, 9, 4], 3) == [1, 2, 0]


def test_the_worse_student_gives_the_more_feedback():
    wrong = torch.zeros(2, 100, dtype=torch.bool)
    wrong[0, :50], wrong[1, 50:60] = True, True
    values = torch.zeros(2, 100)
    values[0], values[1] = 0.5, 1.5
    drawn = losses.feedback(values.repeat(1, 1), wrong, 200, generator=torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) <= set(range(60))
    share = (drawn >= 50).float().mean().item()
    # softmax(.5, 1.5) gives the second 0.731; 200 draws have a standard deviation of 0.031.
    assert share == pytest.approx(0.731, abs=0.12)


def test_each_error_is_drawn_once_where_there_are_enough():
    wrong = torch.ones(2, 6, dtype=torch.bool)
    drawn = losses.feedback(torch.rand(2, 6), wrong, 12)
    assert Counter(drawn.tolist()) == dict.fromkeys(range(6), 2)


def test_a_student_without_errors_gives_none_and_a_huge_gap_breaks_nothing():
    wrong = torch.tensor([[False, False, False], [True, True, True]])
    values = torch.tensor([[900.0, 900, 900], [1.0, 1, 1]])
    assert sorted(losses.feedback(values, wrong, 3).tolist()) == [0, 1, 2]
    assert len(losses.feedback(values, wrong.flip(0) | wrong, 6)) == 6


def test_without_errors_the_hardest_are_taken():
    values = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.05, 0.8]])
    assert losses.feedback(values, torch.zeros(2, 3, dtype=torch.bool), 3).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.elect(torch.ones(3), [1, 2]), "as many sizes, got 2"),
        (lambda: losses.elect(torch.ones(3), [1, 2, 3], 4), r"count must lie in \[1, 3\]"),
        (lambda: losses.feedback(torch.ones(2, 3), torch.ones(2, 4, dtype=torch.bool), 2), "must be"),
        (lambda: losses.feedback(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool), 7), r"\[1, 6\], got 7"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(ValueError, match=text):
        call()

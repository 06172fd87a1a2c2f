from __future__ import annotations

import pytest
import torch

from tutelage import losses
from tutelage.engine.terms import Losses

# Two prompts of 2 and 3 tokens, responses that end with 9; padding is 9 as well.
TOKENS = torch.tensor([[1, 2, 5, 6, 9, 9, 9], [1, 2, 3, 7, 9, 9, 9]])
STARTS = torch.tensor([2, 3])


def test_the_first_response_token_counts_and_the_position_after_the_end_does_not():
    mask = losses.response_mask(TOKENS, STARTS, stop=[9])
    assert mask.tolist() == [[False, False, True, True, True, False, False], [False] * 3 + [True, True, False, False]]
    values = torch.arange(14.0).view(2, 7, 1)
    said, tokens, counts = losses.shift(values, TOKENS, mask)
    # What is said at the last token of the prompt is about the first of the response; what is said at the end, about
    # nothing.
    assert said[counts].flatten().tolist() == [1, 2, 3, 9, 10]
    assert tokens[counts].tolist() == [5, 6, 9, 7, 9]


def test_positions_one_after_the_other_follow_the_same_rule():
    mask = losses.response_mask(TOKENS, STARTS, stop=[9])
    values = torch.randn(2, 7, 4)
    places, tokens = losses.scored(TOKENS, mask)
    said, about, counts = losses.shift(values, TOKENS, mask)
    assert torch.equal(values.flatten(0, 1)[places], said[counts])
    assert torch.equal(tokens, about[counts])


def test_a_token_without_anything_before_it_cannot_be_scored():
    mask = torch.ones(1, 3, dtype=torch.bool)
    places, tokens = losses.scored(torch.tensor([[4, 5, 6]]), mask)
    assert (places.tolist(), tokens.tolist()) == ([0, 1], [5, 6])


def test_an_end_by_place_and_several_ends_by_token():
    ends = torch.tensor([4, 7])
    by_place = losses.response_mask(TOKENS, STARTS, ends)
    assert by_place.sum(1).tolist() == [2, 4]
    assert losses.response_mask(TOKENS, STARTS, ends, stop=[9, 7]).sum(1).tolist() == [2, 1]
    # A token of the prompt never ends the response.
    assert losses.response_mask(TOKENS, STARTS, stop=[1, 2, 9]).sum(1).tolist() == [3, 2]


def test_left_padding_makes_no_difference():
    left = torch.tensor([[9, 9, 1, 2, 5, 6, 9], [9, 9, 1, 2, 3, 7, 9]])
    mask = losses.response_mask(left, torch.tensor([4, 5]), stop=[9])
    ours, theirs = (
        losses.scored(t, m)[1] for t, m in ((left, mask), (TOKENS, losses.response_mask(TOKENS, STARTS, stop=[9])))
    )
    assert torch.equal(ours, theirs)


def test_means_over_tokens_add_up_to_the_mean_of_the_step():
    values = torch.randn(4, 5, dtype=torch.float64)
    mask = torch.rand(4, 5) > 0.5
    whole, count = losses.token_mean(values, mask)
    parts = [losses.token_mean(values[rows], mask[rows]) for rows in (slice(0, 1), slice(1, 4))]
    assert sum(n for _, n in parts) == count == int(mask.sum())
    torch.testing.assert_close(sum(mean * n for mean, n in parts) / count, whole)
    terms = Losses(transfer=whole).over(count)
    assert terms.count == count


def test_nothing_that_counts_is_a_zero_with_a_graph():
    values = torch.full((2, 3), float("nan"), requires_grad=True)
    mean, count = losses.token_mean(values * 2, torch.zeros(2, 3, dtype=torch.bool))
    assert (mean.item(), count) == (0.0, 0)
    assert torch.autograd.grad(mean, values)[0].tolist() == [[0.0] * 3] * 2
    none = torch.zeros(0, requires_grad=True)
    mean, count = losses.token_mean(none)
    assert (mean.item(), count) == (0.0, 0)
    mean.backward()


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.shift(torch.zeros(2, 6, 1), TOKENS, torch.ones(2, 7, dtype=torch.bool)),
        lambda: losses.shift(torch.zeros(2, 7, 1), TOKENS, torch.ones(2, 6, dtype=torch.bool)),
        lambda: losses.scored(TOKENS, torch.ones(2, 7)),
        lambda: losses.response_mask(TOKENS, torch.tensor([1])),
        lambda: losses.response_mask(TOKENS, STARTS, torch.tensor([1])),
        lambda: losses.token_mean(torch.zeros(2, 3), torch.ones(3, 2, dtype=torch.bool)),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()

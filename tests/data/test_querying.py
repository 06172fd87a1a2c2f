"""Strategies of asking: the card's picks, slow formulations beside the fast ones, and what chance may decide."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data.querying import (
    STRATEGIES,
    Answers,
    at_random,
    class_balanced,
    entropy_first,
    feature_cover,
    gradient_cover,
    probability_cover,
)

KNOWN = torch.tensor([[0.9, 0.1, 0.0]])
POOL = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.34, 0.33, 0.33], [0.2, 0.7, 0.1]])


def drawn(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def greedy(distances: torch.Tensor, nearest: torch.Tensor, count: int, first: int | None = None) -> list[int]:
    """The same by looking at all pairs anew each time."""
    picks: list[int] = []
    for turn in range(count):
        if turn == 0 and first is not None:
            picks.append(first)
            continue
        far = [
            -1.0 if i in picks else min([float(nearest[i]), *(float(distances[i, p]) for p in picks)])
            for i in range(len(distances))
        ]
        picks.append(max(range(len(far)), key=far.__getitem__))
    return picks


def test_the_worked_example() -> None:
    first = torch.cdist(POOL, KNOWN).flatten()
    torch.testing.assert_close(
        first, torch.tensor([0.141421, 1.067708, 1.131371, 0.689493, 0.927362]), atol=1e-6, rtol=0
    )
    found = probability_cover(POOL, KNOWN, 4)
    assert found.picks.tolist()[:3] == [2, 1, 3]
    # The last is a tie between 0 and 4 at 0.141421.
    assert found.picks.tolist()[3] in (0, 4)
    assert found.radii.tolist() == pytest.approx([1.131371, 0.989949, 0.56, 0.141421], abs=0.02)
    assert entropy_first(POOL, 2).tolist() == [3, 4]


def test_the_labelled_set_seeds_the_centres() -> None:
    assert probability_cover(POOL, KNOWN, 1).picks.tolist() != probability_cover(POOL, KNOWN[:0], 1).picks.tolist()


@given(st.integers(0, 10_000), st.integers(0, 4), st.integers(1, 12))
def test_covers_are_those_of_all_pairs(seed: int, known: int, count: int) -> None:
    pool, centres = drawn(12, 5, seed), drawn(known, 5, seed + 1)
    far = torch.full((12,), torch.inf, dtype=torch.float64)
    p, c = pool.softmax(1), centres.softmax(1)
    nearest = torch.cdist(p, c).amin(1) if known else far
    found = probability_cover(p, c, count)
    assert found.picks.tolist() == greedy(torch.cdist(p, p), nearest, count)
    assert bool((found.radii.diff() <= 1e-6).all())
    unit, other = (torch.nn.functional.normalize(x, dim=1) for x in (pool, centres))
    nearest = (1 - unit @ other.T).amin(1) if known else far
    assert feature_cover(pool, centres, count).picks.tolist() == greedy(1 - unit @ unit.T, nearest, count)
    errors = torch.nn.functional.one_hot(p.argmax(1), 5) - p
    embeddings = drawn(12, 7, seed + 2)
    gradients = (errors[:, :, None] * embeddings[:, None, :]).flatten(1)
    unit = torch.nn.functional.normalize(gradients, dim=1)
    start = int(gradients.norm(dim=1).argmax())
    assert gradient_cover(p, embeddings, count).picks.tolist() == greedy(1 - unit @ unit.T, far, count, start)


def test_a_duplicate_is_not_asked_about_while_anything_else_is_left() -> None:
    pool = torch.cat([POOL, POOL[2:3]])
    found = probability_cover(pool, KNOWN, 6)
    assert sorted(found.picks.tolist()) == list(range(6))
    assert {2, 5} & set(found.picks.tolist()[:5]) == {2}
    assert float(found.radii[5]) == 0.0
    with pytest.raises(ValueError, match="7 of 6 points"):
        probability_cover(pool, KNOWN, 7)


def test_rare_classes_are_asked_for_more() -> None:
    """Shares in inverse proportion to 1 and 4 labels: 8 and 2 of 10."""
    probabilities = torch.eye(3)[torch.tensor([0] * 20 + [1] * 20 + [2] * 1)] * 0.9
    labels = torch.tensor([0] + [1] * 4 + [2] * 100)
    picks = class_balanced(probabilities, labels, 10, seed=0)
    assert torch.bincount(probabilities[picks].argmax(1), minlength=3).tolist() == [8, 2, 0]
    assert len(picks.unique()) == 10
    assert not torch.equal(class_balanced(probabilities, labels, 10, seed=1), picks)
    # What a class has too few candidates for goes to others.
    assert sorted(class_balanced(probabilities, torch.tensor([0, 1]), 41, seed=0).tolist()) == list(range(41))


def test_chance_is_seeded_and_does_not_repeat() -> None:
    assert len(at_random(50, 50, 0).unique()) == 50
    assert torch.equal(at_random(50, 10, 3), at_random(50, 10, 3))
    assert not torch.equal(at_random(50, 10, 3), at_random(50, 10, 4))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_chooses_as_many_as_it_is_told(name: str) -> None:
    answers = Answers(
        drawn(30, 4, 0).softmax(1), drawn(30, 6, 1), drawn(5, 4, 2).softmax(1), drawn(5, 6, 3), torch.arange(5) % 4, 0
    )
    for count in (1, 7, 30):
        picks = STRATEGIES[name](answers, count)
        assert len(picks.unique()) == len(picks) == count
        assert 0 <= int(picks.min()) <= int(picks.max()) < 30

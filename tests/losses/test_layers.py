from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.losses import layer_map, select_layers


@pytest.mark.parametrize(
    "blocks", [(11,), (5, 11), (3, 7, 11), (2, 5, 8, 11), (1, 3, 5, 7, 9, 11), tuple(range(12))], ids=len
)
def test_the_published_maps_of_a_teacher_of_twelve(blocks):
    assert layer_map(12, len(blocks)) == blocks


@given(st.integers(1, 100), st.data())
def test_maps_rise_strictly_to_the_last_block(teacher, data):
    blocks = layer_map(teacher, data.draw(st.integers(1, teacher)))
    assert all(0 <= a < b for a, b in itertools.pairwise(blocks))
    assert blocks[-1] == teacher - 1


def test_uneven_maps_round_and_halves_go_up():
    assert layer_map(12, 5) == (1, 4, 6, 9, 11)
    assert layer_map(3, 2) == (1, 2)
    assert layer_map(5, 2) == (2, 4)


def test_strategies_in_the_numbering_of_hidden_states():
    assert select_layers("none", 12, 3) == ()
    assert select_layers("forward", 12, 3) == ((0, 0), (1, 4), (2, 8), (3, 12))
    assert select_layers("reverse", 12, 3) == ((0, 0), (1, 12), (2, 8), (3, 4))
    assert select_layers("all_to_one", 12, 3) == ((0, 6), (1, 6), (2, 6), (3, 6))
    assert select_layers("all_to_one", 12, 3, teacher_state=12, match_embeddings=False) == ((1, 12), (2, 12), (3, 12))
    assert select_layers("single", 12, 3) == ((3, 12),)
    assert select_layers("single", 12, 3, teacher_state=4, student_state=1) == ((1, 4),)
    assert select_layers("forward", 12, 3, match_embeddings=False) == ((1, 4), (2, 8), (3, 12))


def test_reversing_twice_is_forward():
    forward, backward = select_layers("forward", 12, 4), select_layers("reverse", 12, 4)
    assert tuple(t for _, t in backward[1:])[::-1] == tuple(t for _, t in forward[1:])


def test_a_random_order_is_a_permutation_that_only_its_generator_decides():
    draws = []
    for seed in range(20):
        torch.manual_seed(100 - seed)
        draws.append(select_layers("random", 12, 6, torch.Generator().manual_seed(seed)))
        torch.manual_seed(seed)
        assert select_layers("random", 12, 6, torch.Generator().manual_seed(seed)) == draws[-1]
        assert sorted(t for _, t in draws[-1]) == [0, 2, 4, 6, 8, 10, 12]
        assert [s for s, _ in draws[-1]] == list(range(7))
    assert len(set(draws)) > 10


@pytest.mark.parametrize(
    "call",
    [
        lambda: layer_map(12, 13),
        lambda: layer_map(12, 0),
        lambda: select_layers("sideways", 12, 3),
        lambda: select_layers("random", 12, 3),
        lambda: select_layers("forward", 3, 12),
        lambda: select_layers("single", 12, 3, teacher_state=13),
        lambda: select_layers("single", 12, 3, student_state=-1),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()

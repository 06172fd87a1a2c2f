from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from tutelage import losses


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_hint_by_hand():
    student, teacher = torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert losses.hint(student, teacher).tolist() == [2.0, 8.0]


def test_attention_map_by_hand():
    features = torch.tensor([[[[3.0, 0.0]], [[0.0, -2.0]]]])  # one sample, two channels, two positions
    assert losses.attention_map(features)[0].tolist() == pytest.approx([9 / 97**0.5, 4 / 97**0.5])
    assert losses.attention_map(features, exponent=1.0)[0].tolist() == pytest.approx([3 / 13**0.5, 2 / 13**0.5])


def test_attention_of_tokens_is_that_of_the_same_feature_map():
    features = random(0, 2, 5, 2, 3)
    tokens = features.flatten(2).transpose(1, 2)
    torch.testing.assert_close(losses.attention_map(tokens), losses.attention_map(features))


def test_attention_transfer_ignores_scale_sign_and_number_of_channels():
    teacher = random(0, 2, 4, 3, 3)
    student = -7 * torch.cat([teacher, teacher], dim=1)
    assert losses.attention_transfer(student, teacher).tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_attention_transfer_by_hand():
    student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    assert losses.attention_transfer(student, teacher).item() == 1.0
    assert losses.attention_transfer(student, teacher, squared=False).item() == pytest.approx(2**0.5)


def test_flow_matrix_by_hand():
    first = torch.tensor([[[[1.0, 2.0]], [[0.0, 1.0]]]])
    last = torch.tensor([[[[1.0, 1.0]], [[2.0, 0.0]], [[0.0, 4.0]]]])
    assert losses.flow_matrix(first, last)[0].tolist() == [[1.5, 1.0, 4.0], [0.5, 0.0, 2.0]]


def test_flow_of_a_larger_map_is_max_pooled():
    first = torch.tensor([[[[1.0, 2.0, 5.0, 3.0]]]])
    assert losses.flow_matrix(first, torch.ones(1, 1, 1, 2)).item() == 3.5


def test_flow_of_solution_sums_squares_and_ignores_sizes():
    student, teacher = (random(0, 2, 3, 4, 4), random(1, 2, 5, 2, 2)), (random(2, 2, 3, 6, 6), random(3, 2, 5, 3, 3))
    expected = (losses.flow_matrix(*student) - losses.flow_matrix(*teacher)).square().flatten(1).sum(1)
    torch.testing.assert_close(losses.flow_of_solution(*student, *teacher), expected)
    assert losses.flow_of_solution(*student, *student).tolist() == [0.0, 0.0]


def test_channel_correlation_ignores_where_things_are():
    student = random(0, 2, 3, 2, 4)
    shuffled = student.flatten(2)[:, :, torch.randperm(8, generator=torch.Generator().manual_seed(1))].view(2, 3, 4, 2)
    torch.testing.assert_close(losses.channel_correlation(student, shuffled), torch.zeros(2, dtype=torch.float64))
    assert (losses.channel_correlation(student, random(1, 2, 3, 2, 4)) > 0).all()


def test_hidden_distance_by_hand():
    student, teacher = torch.tensor([[[0.0, 0.0], [3.0, 0.0]]]), torch.tensor([[[1.0, 2.0], [3.0, 3.0]]])
    assert losses.hidden_distance(student, teacher).tolist() == [[5.0, 9.0]]
    assert losses.hidden_distance(student, teacher, kind="cosine")[0].tolist() == pytest.approx([1.0, 1 - 0.5**0.5])


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_hidden_states_average_over_valid_tokens_and_pairs(kind):
    student, teacher = [random(i, 3, 4, 2) for i in range(2)], [random(i + 9, 3, 4, 2) for i in range(2)]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    value = losses.hidden_states(student, teacher, mask, kind=kind)
    valid = mask.bool()
    each = [losses.hidden_distance(s[valid], t[valid], kind=kind).mean() for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(value, (each[0] + each[1]) / 2)
    spoilt = [states.masked_fill(~valid[..., None], 1e30) for states in student]
    torch.testing.assert_close(losses.hidden_states(spoilt, teacher, mask, kind=kind), value)
    halves = [
        losses.hidden_states([s[rows] for s in student], [t[rows] for t in teacher], mask[rows], kind=kind, count=6)
        for rows in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(halves), value)


def test_equal_networks_match_forward_and_not_reversed():
    states = [random(i, 2, 3, 4) for i in range(4)]
    for strategy, matches in (("forward", True), ("reverse", False)):
        pairs = losses.select_layers(strategy, 3, 3)
        value = losses.hidden_states([states[s] for s, _ in pairs], [states[t] for _, t in pairs])
        assert (value.item() == 0.0) is matches


def test_angles_are_seen_from_the_student():
    student, a, b = torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    assert losses.angle_cosines(student, a, b).item() == pytest.approx(0.707107, abs=1e-6)
    shift = torch.tensor([5.0, -3.0])
    assert losses.angle_cosines(student + shift, a + shift, b + shift).item() == pytest.approx(0.707107, abs=1e-6)
    assert losses.angle_cosines(a, student, b).item() == pytest.approx(0.0, abs=1e-7)
    assert losses.angle_cosines(torch.zeros(3, 4, 2), a.expand(3, 4, 2), b.expand(3, 4, 2)).shape == (3, 4)


def test_structured_cosine_compares_ways_between_layers():
    start, way = random(0, 5, 3), random(1, 5, 3)
    value = losses.structured_cosine(start + way, start, 2 * way, torch.zeros_like(way))
    torch.testing.assert_close(value, torch.ones(5, dtype=torch.float64))
    value = losses.structured_cosine(start, start + way, 2 * way, torch.zeros_like(way))
    torch.testing.assert_close(value, -torch.ones(5, dtype=torch.float64))


MAPS = {
    "hint": losses.hint,
    "attention": losses.attention_transfer,
    "attention length": lambda s, t: losses.attention_transfer(s, t, squared=False),
    "flow": lambda s, t: losses.flow_of_solution(s, s.square(), t, t.square()),
    "channels": losses.channel_correlation,
    "hidden mse": lambda s, t: losses.hidden_distance(s.flatten(2), t.flatten(2)),
    "hidden cosine": lambda s, t: losses.hidden_distance(s.flatten(2), t.flatten(2), kind="cosine"),
}


@pytest.mark.parametrize("name", MAPS)
def test_gradients_and_equality(name):
    student, teacher = random(0, 2, 3, 2, 2).requires_grad_(), random(1, 2, 3, 2, 2)
    assert gradcheck(lambda s: MAPS[name](s, teacher), (student,))
    assert MAPS[name](teacher, teacher).abs().max() < 1e-12
    dead = torch.zeros(2, 3, 2, 2, requires_grad=True)
    MAPS[name](dead, teacher.float()).sum().backward()
    assert dead.grad.isfinite().all()
    assert dead.grad.abs().max() < 1e3


@pytest.mark.parametrize("name", MAPS)
def test_samples_do_not_see_each_other(name):
    student, teacher = random(0, 4, 3, 2, 2), random(1, 4, 3, 2, 2)
    together = MAPS[name](student, teacher)
    alone = torch.cat([MAPS[name](student[i : i + 1], teacher[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.hint(torch.zeros(2, 3), torch.zeros(2, 4)),
        lambda: losses.attention_map(torch.zeros(2, 3)),
        lambda: losses.attention_map(torch.zeros(2, 3, 4), exponent=0.5),
        lambda: losses.attention_transfer(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2)),
        lambda: losses.flow_matrix(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)),
        lambda: losses.channel_correlation(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, 4)),
        lambda: losses.hidden_distance(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5)),
        lambda: losses.hidden_distance(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), kind="l1"),
        lambda: losses.hidden_states([], []),
        lambda: losses.hidden_states([torch.zeros(2, 3, 4)], []),
        lambda: losses.angle_cosines(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 4)),
        lambda: losses.structured_cosine(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, 4)),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()

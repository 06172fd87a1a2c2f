from __future__ import annotations

import pytest
import torch

from tutelage import losses

# Bad peer, good peer, teacher; student .5.
MENTORS, STUDENT = torch.tensor([0.4, 0.6, 0.9]), torch.tensor(0.5)


def test_the_worked_ranking():
    found = losses.rank_mentors(MENTORS, STUDENT)
    assert found.active.tolist() == [False, True, True]
    assert found.weights.tolist() == pytest.approx([0.0, 0.75, 1.125])
    assert found.temperatures.tolist() == pytest.approx([1.0, 3.0, 6.333333], abs=1e-5)
    # What the filter silenced: .5, against the student's .625.
    assert losses.rank_mentors(MENTORS[[0]], STUDENT).active.tolist() == [False]


@pytest.mark.parametrize(
    ("select", "weights", "active"),
    [
        ("all", [1, 1, 1], [True] * 3),
        ("uniform", [1 / 3] * 3, [True] * 3),
        ("best", [0, 0, 1.125], [False, False, True]),
    ],
)
def test_the_ablations(select, weights, active):
    found = losses.rank_mentors(MENTORS, STUDENT, select=select)
    assert found.weights.tolist() == pytest.approx(weights)
    assert found.active.tolist() == active
    assert found.temperatures.tolist() == pytest.approx([1.0, 3.0, 6.333333], abs=1e-5)


def test_equals_teach_at_their_own_temperature_and_a_better_student_hears_nobody():
    equal = losses.rank_mentors(torch.tensor([0.7]), torch.tensor(0.7))
    assert (equal.weights.item(), equal.temperatures.item(), equal.active.item()) == (0.5, 1.0, True)
    better = losses.rank_mentors(MENTORS, torch.tensor(0.95))
    assert better.weights.tolist() == [0, 0, 0]
    assert better.temperatures.tolist() == [1, 1, 1]


def test_nobody_any_good():
    found = losses.rank_mentors(torch.zeros(2), torch.tensor(0.0))
    assert found.weights.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert found.temperatures.tolist() == [1, 1]


def test_every_sample_is_ranked_alone():
    draw = torch.Generator().manual_seed(0)
    mentors, student = torch.rand(3, 20, generator=draw), torch.rand(20, generator=draw)
    whole = losses.rank_mentors(mentors, student, tau_max=4)
    for i in range(20):
        one = losses.rank_mentors(mentors[:, i], student[i], tau_max=4)
        for both in zip(whole, one, strict=True):
            assert torch.allclose(both[0][:, i], both[1])


def test_rounding_is_the_released_codes():
    found = losses.rank_mentors(torch.tensor([0.382, 0.234]), torch.tensor(0.384), round_shares=True)
    assert found.active.tolist() == [True, False]
    assert not losses.rank_mentors(torch.tensor([0.382, 0.234]), torch.tensor(0.384)).active.any()


def test_nothing_has_a_gradient():
    scores = MENTORS.clone().requires_grad_()
    assert not any(part.requires_grad for part in losses.rank_mentors(scores, STUDENT.clone().requires_grad_()))


def test_a_divergence_with_a_temperature_a_row_against_the_plain_one():
    student, teacher = torch.randn(2, 4, 6, dtype=torch.float64)
    tau = torch.tensor([1.0, 2.0, 3.5, 7.0], dtype=torch.float64)
    got = losses.tempered_divergence(student, teacher, tau, tau)
    for i in range(4):
        assert got[i] == pytest.approx(
            losses.kl_divergence(student[i], teacher[i], temperature=float(tau[i])).item(), abs=1e-12
        )
    own = student.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: losses.tempered_divergence(z, teacher, tau, tau.flip(0)), own)


def test_relative_temperatures():
    student, teacher = torch.tensor([[3.0, 1.0], [-2.0, -5.0]]), torch.tensor([[1.0, 0.0], [4.0, 2.0]])
    own, theirs = losses.relative_temperatures(student, teacher, temperature=4.0)
    assert own[0].item() == pytest.approx(6.0)
    assert theirs[0].item() == pytest.approx(2.0)
    assert torch.allclose(own + theirs, torch.tensor([8.0, 8.0]))
    assert own[1] > 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.rank_mentors(MENTORS, MENTORS), r"expected \[mentors, ...\]"),
        (lambda: losses.rank_mentors(MENTORS[:0], STUDENT), "one mentor or more"),
        (lambda: losses.rank_mentors(MENTORS, STUDENT, tau_max=-1), "tau_max must be at least 0"),
        (lambda: losses.rank_mentors(MENTORS, STUDENT, select="some"), "select must be"),
        (
            lambda: losses.tempered_divergence(torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2), torch.ones(2)),
            "above 0",
        ),
        (lambda: losses.tempered_divergence(torch.ones(2, 3), torch.ones(2, 4), STUDENT, STUDENT), "one shape"),
        (lambda: losses.relative_temperatures(torch.ones(2), torch.ones(2), temperature=0.0), "above 0"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(ValueError, match=text):
        call()

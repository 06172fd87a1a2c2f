from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tutelage import losses

TEACHER = torch.tensor([[3.0, 1.0, 0.0], [0.5, 0.4, 0.2]], dtype=torch.float64)
STUDENT = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
GAMMA = 0.25


def close(tensor: torch.Tensor, expected: list) -> None:
    torch.testing.assert_close(tensor, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_worked_example():
    target = losses.power_transform(TEACHER, GAMMA)
    close(target, [[0.481024, 0.291756, 0.227220], [0.344465, 0.335960, 0.319575]])
    close(losses.power_sum(TEACHER, GAMMA), [1.992472, 2.276259])
    plain = losses.ttm(STUDENT, TEACHER, exponent=GAMMA)
    close(plain, [0.386887, 0.293091])
    close(plain.mean(), 0.339989)
    close(losses.wttm(STUDENT, TEACHER, exponent=GAMMA).mean(), 0.719006)
    softened = losses.kl_divergence(STUDENT, TEACHER, temperature=4.0, scale=False)
    close(softened.mean(), 0.008556)
    close(losses.kl_divergence(STUDENT, TEACHER, temperature=4.0).mean(), 0.136893)


def test_the_gradient_of_the_worked_example():
    student = STUDENT.clone().requires_grad_()
    losses.wttm(student, TEACHER, exponent=GAMMA).mean().backward()
    close(student.grad[0], [0.361405, -0.176893, -0.184513])


def test_the_renyi_entropy_is_what_separates_it_from_softening_both_sides():
    target, temperature = losses.power_transform(TEACHER, GAMMA), 1 / GAMMA
    matched = losses.soft_cross_entropy(STUDENT, target)
    close(matched, [1.435017, 1.391221])
    renyi = losses.renyi_entropy(STUDENT, order=GAMMA)
    close(renyi, [0.919168, 1.023249])
    softened = losses.soft_cross_entropy(STUDENT / temperature, target)
    torch.testing.assert_close(matched, temperature * softened - (temperature - 1) * renyi)


def test_exponent_one_is_the_plain_divergence():
    plain = losses.kl_divergence(STUDENT, TEACHER)
    torch.testing.assert_close(losses.ttm(STUDENT, TEACHER, exponent=1.0), plain)
    torch.testing.assert_close(losses.wttm(STUDENT, TEACHER, exponent=1.0), plain)
    target = losses.power_transform(TEACHER, GAMMA)
    torch.testing.assert_close(target, (GAMMA * TEACHER).softmax(-1), atol=1e-15, rtol=0)


def test_the_power_sum_measures_softness_between_its_bounds():
    certain = torch.tensor([[0.0, -1e4, -1e4, -1e4], [0.0] + [float("-inf")] * 3])
    assert losses.power_sum(certain, GAMMA).tolist() == [1.0, 1.0]
    assert losses.power_sum(torch.zeros(1, 16), GAMMA).item() == pytest.approx(16**0.75)


@given(st.integers(0, 10_000), st.floats(-30, 30), st.floats(0.05, 1.0))
@settings(max_examples=25, deadline=None)
def test_invariances(seed, shift, exponent):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(4, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    value = losses.wttm(student, teacher, exponent=exponent)
    torch.testing.assert_close(losses.wttm(student + shift, teacher - shift, exponent=exponent), value)
    order = torch.randperm(7, generator=generator)
    torch.testing.assert_close(losses.wttm(student[:, order], teacher[:, order], exponent=exponent), value)
    softness = losses.power_sum(teacher, exponent)
    assert (value >= 0).all()
    assert ((softness >= 1) & (softness <= 7 ** (1 - exponent) + 1e-9)).all()


def test_gradients_reach_the_student_alone():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    assert gradcheck(lambda s: losses.wttm(s, TEACHER, exponent=GAMMA), (student,))
    losses.wttm(student, teacher, exponent=GAMMA).sum().backward()
    assert teacher.grad is None


def test_a_small_exponent_keeps_the_tail_of_a_half_precision_teacher():
    # exp(-30) is below what float16 can hold, and its square root is not.
    teacher = torch.tensor([[0.0, -30.0]])
    exact = losses.power_transform(teacher.double(), 0.1)
    torch.testing.assert_close(losses.power_transform(teacher.half(), 0.1).double(), exact, atol=1e-6, rtol=0)


def test_normalised_weights_average_to_one():
    weight = losses.power_sum(TEACHER, GAMMA)
    expected = losses.ttm(STUDENT, TEACHER, exponent=GAMMA) * weight / weight.mean()
    torch.testing.assert_close(losses.wttm(STUDENT, TEACHER, exponent=GAMMA, normalize=True), expected)


@pytest.mark.parametrize("call", [losses.ttm, losses.wttm])
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match="exponent"):
        call(STUDENT, TEACHER, exponent=0.0)
    with pytest.raises(ValueError, match="one shape"):
        call(STUDENT, TEACHER[:, :2], exponent=0.5)

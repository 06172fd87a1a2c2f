from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from tutelage import losses

RELATIONS = {
    "distance": losses.distance_relation,
    "angle": losses.angle_relation,
    "similarity": losses.similarity_preserving,
    "neighbours": losses.probabilistic_transfer,
    "congruence": losses.correlation_congruence,
}
STUDENT = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
TEACHER = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [3.0, 4.0, 12.0]], dtype=torch.float64)


def points(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_worked_example():
    assert losses.distance_relation(STUDENT, TEACHER).item() == pytest.approx(0.0358586, abs=1e-7)
    assert losses.angle_relation(STUDENT, TEACHER).item() == pytest.approx(0.0257249, abs=1e-7)


@pytest.mark.parametrize("loss", [losses.distance_relation, losses.angle_relation])
@given(st.integers(0, 10_000), st.floats(0.01, 100.0), st.floats(-1e3, 1e3))
@settings(max_examples=25, deadline=None)
def test_geometry_up_to_scale_rotation_and_shift_costs_nothing(loss, seed, scale, shift):
    teacher = points(seed, 6, 4)
    rotation = torch.linalg.qr(points(seed + 1, 4, 4))[0]
    student = scale * teacher @ rotation.T + shift * points(seed + 2, 1, 4)
    assert loss(student, teacher).item() == pytest.approx(0.0, abs=1e-9)
    other = points(seed + 3, 6, 3)
    assert loss(other, student).item() == pytest.approx(loss(other, teacher).item(), rel=1e-6)


def test_a_far_shift_does_not_drown_the_distances_in_rounding():
    teacher = points(0, 8, 4, dtype=torch.float32)
    assert losses.distance_relation(teacher + 1000.0, teacher).item() < 1e-6


@pytest.mark.parametrize("name", RELATIONS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_batch_does_not_matter(name, seed):
    student, teacher = points(seed, 7, 3), points(seed + 1, 7, 5)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    expected = RELATIONS[name](student, teacher)
    torch.testing.assert_close(RELATIONS[name](student[order], teacher[order]), expected)
    assert expected.dim() == 0
    assert expected > 0


@pytest.mark.parametrize("name", RELATIONS)
def test_equal_features_cost_nothing_and_the_teacher_gets_no_gradient(name):
    student, teacher = points(0, 5, 2, 3).requires_grad_(), points(1, 5, 4).requires_grad_()
    assert RELATIONS[name](teacher, teacher).item() == pytest.approx(0.0, abs=1e-12)
    RELATIONS[name](student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("name", RELATIONS)
def test_gradients(name):
    assert gradcheck(lambda s: RELATIONS[name](s, points(1, 5, 4)), (points(0, 5, 3).requires_grad_(),))


@pytest.mark.parametrize("name", RELATIONS)
@pytest.mark.parametrize("collapsed", ["to zero", "to one point", "in pairs"])
def test_collapsed_students_get_gradients_of_a_sane_size(name, collapsed):
    student = points(0, 6, 3, dtype=torch.float32)
    student = {"to zero": 0 * student, "to one point": 0 * student + 1, "in pairs": student[[0, 0, 1, 1, 2, 2]]}[
        collapsed
    ]
    student.requires_grad_()
    value = RELATIONS[name](student, points(1, 6, 4, dtype=torch.float32))
    value.backward()
    assert value.isfinite()
    assert student.grad.abs().max() < 1e3


@pytest.mark.parametrize("name", RELATIONS)
def test_one_sample_has_no_relations(name):
    student = points(0, 1, 3).requires_grad_()
    value = RELATIONS[name](student, points(1, 1, 4))
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    assert student.grad.isfinite().all()


def huber(x: float) -> float:
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


def test_distances_against_a_loop():
    def relative(rows: list[list[float]]) -> list[float]:
        apart = [math.dist(a, b) for a, b in itertools.product(rows, rows)]
        mean = sum(apart) / sum(d > 0 for d in apart)
        return [d / mean for d in apart]

    student, teacher = points(5, 6, 3), points(6, 6, 4) ** 3
    pairs = zip(relative(student.tolist()), relative(teacher.tolist()), strict=True)
    expected = sum(huber(a - b) for a, b in pairs) / 36
    assert losses.distance_relation(student, teacher).item() == pytest.approx(expected)


def test_angles_against_a_loop():
    def cosines(rows: torch.Tensor) -> list[float]:
        def angle(i: int, j: int, k: int) -> float:
            return 0.0 if i in (j, k) else torch.cosine_similarity(rows[j] - rows[i], rows[k] - rows[i], dim=0).item()

        return [angle(*ijk) for ijk in itertools.product(range(len(rows)), repeat=3)]

    student, teacher = points(5, 5, 3), points(6, 5, 4)
    pairs = zip(cosines(student), cosines(teacher), strict=True)
    expected = sum(huber(a - b) for a, b in pairs) / 125
    assert losses.angle_relation(student, teacher).item() == pytest.approx(expected)


def test_angles_of_chosen_samples_only():
    student, teacher, chosen = points(0, 8, 3), points(1, 8, 4), torch.tensor([6, 1, 4])
    expected = losses.angle_relation(student[chosen], teacher[chosen])
    torch.testing.assert_close(losses.angle_relation(student, teacher, indices=chosen), expected)


def test_similarity_preserving_against_its_formula():
    student, teacher = points(2, 4, 3), points(3, 4, 5)

    def rows(features: torch.Tensor) -> torch.Tensor:
        gram = features @ features.T
        return gram / gram.norm(dim=1, keepdim=True)

    expected = (rows(teacher) - rows(student)).norm() ** 2 / 16
    torch.testing.assert_close(losses.similarity_preserving(student, teacher), expected)


def test_probabilistic_transfer_by_hand():
    # Cosines: student 0 everywhere; teacher 1 between samples 0 and 1, 0 to sample 2.
    student = torch.eye(3, dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    first = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert losses.probabilistic_transfer(student, teacher).item() == pytest.approx(2 * first / 3)


def test_a_high_order_congruence_compares_gaussian_kernels():
    student, teacher = (torch.nn.functional.normalize(points(seed, 5, 4)) for seed in (0, 1))
    kernels = [torch.exp(-0.4 * torch.cdist(rows, rows) ** 2) for rows in (student, teacher)]
    expected = (kernels[0] - kernels[1]).square().mean()
    torch.testing.assert_close(losses.correlation_congruence(3 * student, teacher, order=20), expected)


@pytest.mark.parametrize("name", RELATIONS)
def test_autocast_does_not_lower_the_precision(name):
    student, teacher = points(0, 16, 8, dtype=torch.float32), points(1, 16, 8, dtype=torch.float32)
    expected = RELATIONS[name](student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = RELATIONS[name](student, teacher)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", RELATIONS)
def test_bad_input_is_refused(name):
    with pytest.raises(ValueError, match="3 samples"):
        RELATIONS[name](torch.zeros(3, 2), torch.zeros(4, 2))


def test_an_order_below_one_is_refused():
    with pytest.raises(ValueError, match="order"):
        losses.correlation_congruence(STUDENT, TEACHER, order=0)

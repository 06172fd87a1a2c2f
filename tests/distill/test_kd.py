"""KD: the framework card's numbers, the factor temperature², and an outcome on digits."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.kd import KD
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import RecipeError

STUDENT = torch.tensor([[2.0, 0.0, -1.0]])
TEACHER = torch.tensor([[1.0, 1.0, -2.0]])
BATCH = Batch(torch.zeros(1, 1), torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))


@pytest.mark.parametrize(("temperature", "kl", "total"), [(1.0, 0.427821, 0.298834), (4.0, 0.028897, 0.316100)])
def test_the_worked_example(temperature, kl, total):
    losses = KD(temperature=temperature, alpha=0.5).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses["task"].item() == pytest.approx(0.169846, abs=1e-6)
    assert losses["transfer"].item() == pytest.approx(temperature**2 * kl, abs=2e-5)
    assert losses.total().item() == pytest.approx(total, abs=2e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_factor_temperature_squared_stays_whatever_the_weights(alpha):
    losses = KD(temperature=4.0, alpha=alpha).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses["transfer"].item() == pytest.approx(16 * 0.028897, abs=2e-5)
    expected = alpha * 0.169846 + (1 - alpha) * 16 * 0.028897
    assert losses.total().item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_gradient(temperature):
    student = STUDENT.clone().requires_grad_()
    KD(temperature=temperature, alpha=0.0).loss(Outputs(student), Outputs(TEACHER), BATCH).total().backward()
    soft = [(logits / temperature).softmax(-1) for logits in (STUDENT, TEACHER)]
    assert torch.allclose(student.grad, temperature * (soft[0] - soft[1]), atol=1e-6)


def test_terms_are_per_sample_and_averaged_over_the_batch():
    many = Batch(torch.zeros(3, 1), torch.tensor([0, 0, 0]), torch.arange(3), torch.arange(3))
    losses = KD().loss(Outputs(STUDENT.repeat(3, 1)), Outputs(TEACHER.repeat(3, 1)), many)
    assert losses["transfer"].shape == losses["task"].shape == (3,)
    one = KD().loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses.total().item() == pytest.approx(one.total().item(), rel=1e-6)


def test_a_teacher_who_saw_everything_helps_a_student_with_few_labels(recipe, go):
    net = {"model": "mlp", "hidden": [64]}
    teacher = go(recipe("supervised", teacher=None, student=net, data={"name": "digits"}, epochs=15))
    report = go(
        recipe(
            {"name": "kd", "temperature": 4.0, "alpha": 0.0},
            teacher={**net, "weights": str(teacher.folder)},
            data={"name": "digits", "limit": 50, "augment": [{"name": "shift", "pixels": 1}]},
            batch_size=25,
            epochs=150,
            measure=["accuracy", "agreement"],
            baseline=True,
        )
    ).report
    assert report["arrived"]["gain"]["value"] > 0.01
    agreement = {row["role"]: row["measures"]["fidelity"]["agreement"]["value"] for row in report["rows"][1:]}
    assert agreement["recipient"] > agreement["baseline"]


def test_keys_are_checked_together(recipe, go):
    with pytest.raises(RecipeError) as caught:
        go(recipe({"name": "kd", "temprature": 2.0, "alpha": 1.5}))
    text = str(caught.value)
    assert "no key 'temprature'" in text
    assert "'temperature'" in text
    assert "method.alpha: found 1.5" in text

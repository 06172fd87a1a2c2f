"""TTM: the card's numbers, and students that stay soft on digits."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.ttm import TTM
from tutelage.losses import entropy
from tutelage.models.outputs import Outputs
from tutelage.models.weights import load_model
from tutelage.recipe.errors import RecipeError
from tutelage.recipe.loading import load_recipe

TEACHER = torch.tensor([[3.0, 1.0, 0.0], [0.5, 0.4, 0.2]])
STUDENT = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
BATCH = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.arange(2), torch.arange(2))


def test_the_worked_example():
    losses = TTM(exponent=0.25, beta=4.0).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses["transfer"].tolist() == pytest.approx([0.386887, 0.293091], abs=2e-6)
    assert losses.means()["transfer"].item() == pytest.approx(0.339989, abs=1e-6)
    task = torch.nn.functional.cross_entropy(STUDENT, BATCH.labels)
    assert losses.total().item() == pytest.approx(task.item() + 4 * 0.339989, abs=1e-5)


def test_only_the_teacher_is_softened_and_nothing_is_multiplied_by_a_temperature():
    student = STUDENT.clone().requires_grad_()
    TTM(exponent=0.25, beta=1.0, ce_weight=0.0).loss(Outputs(student), Outputs(TEACHER), BATCH).total().backward()
    target = torch.tensor([[0.481024, 0.291756, 0.227220], [0.344465, 0.335960, 0.319575]])
    assert torch.allclose(student.grad, (STUDENT.softmax(-1) - target) / 2, atol=1e-6)


def test_exponent_one_is_plain_divergence_and_equal_models_lose_nothing():
    losses = TTM(exponent=1.0).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    p, q = TEACHER.softmax(-1), STUDENT.softmax(-1)
    assert torch.allclose(losses["transfer"], (p * (p.log() - q.log())).sum(-1), atol=1e-6)
    alike = TTM(exponent=0.25).loss(Outputs(0.25 * TEACHER), Outputs(TEACHER), BATCH)
    assert alike["transfer"].abs().max() < 1e-6


def test_its_student_is_softer_than_that_of_plain_distillation_and_as_good(recipe, go):
    """The card's experiment, shortened: entropy more than doubles, accuracy falls by a point at most."""
    found = {}
    for method in ({"name": "kd", "temperature": 4.0, "alpha": 0.5}, {"name": "ttm", "exponent": 0.25, "beta": 4.0}):
        train = {"epochs": 12, "batch_size": 150, "optimizer": {"name": "adam", "lr": 5e-3}, "schedule": "constant"}
        mapping = recipe(
            method,
            teacher={"model": "mlp", "hidden": [128, 64], "weights": {"train": train}},
            student={"model": "mlp", "hidden": [16, 64]},
            data={"name": "digits", "limit": 900},
            train=train,
        )
        finished = go(mapping)
        test = load_recipe(mapping).slots["data"].build().load(0).test
        with torch.no_grad():
            soft = entropy(load_model(finished.folder).eval()(test.fetch(range(len(test))).inputs)).mean().item()
        found[method["name"]] = soft, finished.report["arrived"]["after"]["value"]
    assert found["ttm"][0] > 2 * found["kd"][0]
    assert found["ttm"][1] >= found["kd"][1] - 0.01


@pytest.mark.parametrize("exponent", [0.0, 1.5, "soft"])
def test_a_power_outside_its_range_is_refused(exponent, recipe, go):
    with pytest.raises(RecipeError, match=r"method\.exponent"):
        go(recipe({"name": "ttm", "exponent": exponent}))

"""WTTM: the card's numbers, what the weights are, and an outcome on digits."""

from __future__ import annotations

import json

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.ttm import TTM
from tutelage.distill.wttm import WTTM
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import RecipeError

TEACHER = torch.tensor([[3.0, 1.0, 0.0], [0.5, 0.4, 0.2]])
STUDENT = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
BATCH = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.arange(2), torch.arange(2))


def test_the_worked_example():
    losses = WTTM(exponent=0.25, beta=2.0, ce_weight=0.5).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses["transfer"].tolist() == pytest.approx([1.992472 * 0.386887, 2.276259 * 0.293091], abs=1e-5)
    assert losses.means()["transfer"].item() == pytest.approx(0.719006, abs=2e-6)
    task = torch.nn.functional.cross_entropy(STUDENT, BATCH.labels)
    assert losses.total().item() == pytest.approx(0.5 * task.item() + 2 * 0.719006, abs=1e-5)


def test_the_gradient_of_the_first_sample():
    student = STUDENT.clone().requires_grad_()
    WTTM(exponent=0.25, beta=1.0, ce_weight=0.0).loss(Outputs(student), Outputs(TEACHER), BATCH).total().backward()
    assert student.grad[0].tolist() == pytest.approx([0.361405, -0.176893, -0.184513], abs=2e-6)


def test_a_certain_teacher_weighs_one_and_an_undecided_one_the_most():
    sure = Outputs(torch.tensor([[200.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    weighted = WTTM(exponent=0.25).loss(Outputs(STUDENT), sure, BATCH)["transfer"]
    plain = TTM(exponent=0.25).loss(Outputs(STUDENT), sure, BATCH)["transfer"]
    assert (weighted / plain).tolist() == pytest.approx([1.0, 3**0.75], rel=1e-4)


def test_normalised_weights_average_to_one():
    plain = TTM(exponent=0.25).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)["transfer"]
    own = WTTM(exponent=0.25, normalize_weights=True).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)["transfer"]
    assert (own / plain).mean().item() == pytest.approx(1.0, rel=1e-6)


def test_the_teacher_gets_no_gradient_and_constants_do_not_matter():
    teacher = TEACHER.clone().requires_grad_()
    student = STUDENT.clone().requires_grad_()
    WTTM().loss(Outputs(student), Outputs(teacher), BATCH).total().backward()
    assert teacher.grad is None
    shifted = WTTM().loss(Outputs(STUDENT + 3.0), Outputs(TEACHER - 5.0), BATCH)
    assert torch.allclose(shifted["transfer"], WTTM().loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)["transfer"])


def test_its_student_agrees_more_with_the_teacher_than_the_control_does(recipe, go):
    report = go(
        recipe("wttm", epochs=10, data={"name": "digits", "limit": 600}, measure=["agreement"], baseline=True)
    ).report
    agreement = {row["role"]: row["measures"]["fidelity"]["agreement"]["value"] for row in report["rows"][1:]}
    assert agreement["recipient"] > agreement["baseline"]
    assert report["arrived"]["after"]["value"] > 0.8


def test_a_temperature_is_another_way_to_give_the_exponent():
    for cls in (TTM, WTTM):
        by_power = cls(exponent=0.1).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)["transfer"]
        torch.testing.assert_close(
            cls(temperature=10.0).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)["transfer"], by_power
        )
        quarter = cls().loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)["transfer"]
        torch.testing.assert_close(
            quarter, cls(exponent=0.25).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)["transfer"]
        )


def test_without_weights_it_is_ttm():
    plain = TTM(exponent=0.25).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)["transfer"]
    assert torch.equal(
        WTTM(exponent=0.25, weighting="none").loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)["transfer"], plain
    )


def test_how_soft_the_teacher_is_is_logged_and_not_minimised(recipe, go):
    losses = WTTM(exponent=0.25).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses.means()["softness"].item() == pytest.approx((1.992472 + 2.276259) / 2, abs=1e-6)
    assert set(losses) == {"task", "transfer"}
    finished = go(recipe({"name": "wttm", "temperature": 4.0}))
    record = json.loads((finished.folder / "stages" / "transfer" / "record.json").read_text())
    assert all(1 <= epoch["losses"]["transfer/softness"] <= 10**0.75 for epoch in record["history"])


def test_a_ramp_may_stand_for_either(recipe, go):
    ramp = {"name": "linear", "start": 4.0, "end": 1.0}
    assert go(recipe({"name": "ttm", "temperature": ramp}, epochs=1)).report["status"] == "done"


def test_two_numbers_for_one_are_refused(recipe, go):
    with pytest.raises(RecipeError, match=r"ttm has an exponent and a temperature.*Leave out one"):
        go(recipe({"name": "ttm", "exponent": 0.25, "temperature": 4.0}))
    with pytest.raises(RecipeError, match=r"method\.temperature: found 0\.5"):
        go(recipe({"name": "wttm", "temperature": 0.5}))


def test_an_unknown_key_is_answered_with_the_nearest(recipe, go):
    with pytest.raises(RecipeError, match=r"no key 'exponant'.*Did you mean 'exponent'"):
        go(recipe({"name": "wttm", "exponant": 0.25}))

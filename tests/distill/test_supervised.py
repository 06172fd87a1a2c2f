"""Plain training: what the control beside a transfer gets, and where teachers come from."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.supervised import Supervised
from tutelage.engine import checkpoint
from tutelage.engine.method import Step
from tutelage.models.participant import Participant
from tutelage.recipe.errors import RecipeError


def test_its_loss_is_the_mean_cross_entropy_of_the_labels():
    model = torch.nn.Linear(3, 4)
    batch = Batch(torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 0]), torch.arange(5), torch.arange(5))
    step = Step(batch, {"student": Participant("student", model, trainable=True)}, 0, 0, 0.0)
    (turn,) = Supervised().turns()
    assert turn.trains == ("student",)
    expected = torch.nn.functional.cross_entropy(model(batch.inputs), batch.labels)
    assert turn.loss(step).total().item() == pytest.approx(expected.item(), rel=1e-6)


def test_it_is_what_the_control_of_a_transfer_gets(recipe, go, weights):
    plain = weights(go(recipe("supervised", teacher=None)))
    beside = go(recipe("wttm", baseline=True)).folder / "stages" / "baseline" / "end"
    _, state = checkpoint.load(next(beside.glob("step-*")))
    control = state["models"]["student"]
    assert plain.keys() == control.keys()
    assert all(torch.equal(plain[key], control[key]) for key in plain)


def test_what_it_makes_can_teach(recipe, go, weights):
    net = {"model": "mlp", "hidden": [32]}
    made = go(recipe("supervised", teacher=None, student=net, epochs=20, data={"name": "digits", "limit": 600}))
    assert made.report["arrived"]["after"]["value"] > 0.9
    taught = go(recipe("kd", teacher={**net, "weights": str(made.folder)}))
    assert taught.report["arrived"]["source"]["value"] == made.report["arrived"]["after"]["value"]


def test_there_is_no_control_beside_the_control(recipe, go):
    finished = go(recipe("supervised", teacher=None, baseline=True))
    assert [row["role"] for row in finished.report["rows"]] == ["recipient"]
    assert finished.report["arrived"]["reference"] is None
    assert not (finished.folder / "stages" / "baseline").exists()


def test_it_may_go_on_from_weights_and_be_a_sequence(recipe, go, weights):
    one = go(recipe("supervised", teacher=None, epochs=1))
    stages = [{"name": "first", "train": {"epochs": 1}}, {"name": "second", "train": {"epochs": 1}}]
    both, whole = go(recipe("supervised", teacher=None, stages=stages)), go(recipe("supervised", teacher=None))
    assert all(torch.equal(weights(both)[key], tensor) for key, tensor in weights(whole).items())
    student = {"model": "mlp", "hidden": [16], "weights": str(one.folder)}
    further = go(recipe("supervised", teacher=None, student=student))
    before = further.report["arrived"]["before"]["value"]
    assert before == one.report["arrived"]["after"]["value"] < further.report["arrived"]["after"]["value"]


def test_a_teacher_is_refused(recipe, go):
    with pytest.raises(RecipeError, match="'supervised' takes no 'teacher'"):
        go(recipe("supervised"))

"""CED: the card's numbers, scores from a store and from a live ensemble, mixup, and that no label is read."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
import torch
from torch import nn

from tutelage.api import run
from tutelage.data.batch import Batch
from tutelage.data.digits import Digits
from tutelage.distill.ced import CED, reversed_mixup
from tutelage.engine import storing
from tutelage.engine.method import Step
from tutelage.losses import complete
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant
from tutelage.recipe.errors import InputError, RecipeError

LADDER = torch.linspace(-2, 2, 10)[None]
VALUES, INDICES = torch.tensor([[0.9, 0.5, 0.21]]), torch.tensor([[4, 0, 7]])


def batch(inputs, labels=None):
    count = len(inputs)
    return Batch(inputs, labels, torch.arange(count), torch.arange(count))


@pytest.mark.parametrize(("fill", "rest", "loss"), [("zero", 0.0, 0.9733367), ("last_mean", 0.03, 0.9700034)])
def test_targets_and_losses_of_the_card(fill, rest, loss):
    stored = complete(VALUES.logit(), INDICES, 10, fill=fill, scale="sigmoid")
    method = CED()
    expected = torch.full((1, 10), rest)
    expected[0, INDICES[0]] = VALUES[0]
    assert torch.allclose(method.targets(stored), expected, atol=1e-6)
    terms = method.loss(Outputs(LADDER), Outputs(stored), batch(LADDER))
    assert dict(terms).keys() == {"transfer"}
    assert terms.total().item() == pytest.approx(loss, abs=1e-6)


def test_mixup_of_the_card():
    share = torch.tensor([0.3, 0.6])
    mixed = reversed_mixup(torch.tensor([[1.0, 0.0], [3.0, 10.0]]), share)
    assert torch.allclose(mixed, torch.tensor([[1.6, 3.0], [1.8, 4.0]]))
    logits, targets = torch.tensor([[2.0, -1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    method = CED()
    loss = method._against(Outputs(logits), reversed_mixup(targets, share)).total()
    assert loss.item() == pytest.approx(0.7491496, abs=1e-6)
    binary = nn.BCEWithLogitsLoss(reduction="none")
    apart = share[:, None] * binary(logits, targets.flip(0)) + (1 - share[:, None]) * binary(logits, targets)
    assert loss.item() == pytest.approx(apart.mean().item(), abs=1e-6)


def test_views_and_scores_are_blended_by_the_same_shares():
    """A linear student of the teacher's inputs and a teacher of the same weights agree on every blend of logits."""
    seen = {}

    class Student(nn.Module):
        def forward(self, inputs):
            seen["inputs"] = inputs
            return inputs

    class Teacher(nn.Module):
        def forward(self, inputs):
            return inputs.logit()

    inputs = torch.rand(8, 3)
    method = CED(mixup_alpha=0.5)
    participants = {
        "teacher": Participant("teacher", Teacher(), trainable=False),
        "student": Participant("student", Student(), trainable=False),
    }
    torch.manual_seed(0)
    step = Step(batch(inputs), participants, 0, 0, 0.0)
    loss = method.compare(step)["transfer"]
    # What the student saw is also the blended score, for the teacher's sigmoid gives its input back.
    binary = nn.functional.binary_cross_entropy_with_logits(seen["inputs"], seen["inputs"], reduction="none")
    assert torch.allclose(loss, binary.mean(1), atol=1e-6)
    shares = (seen["inputs"] - inputs) / (inputs.flip(0) - inputs)
    assert torch.allclose(shares, shares[:, :1].expand_as(shares), atol=1e-3)
    assert len(shares[:, 0].unique()) == 8
    assert bool(((shares >= 0) & (shares <= 1)).all())


@pytest.mark.parametrize(("scores", "objective"), [("sigmoid", "bce"), ("softmax", "bce"), ("softmax", "ce")])
def test_a_student_that_has_learned_everything_predicts_the_scores(scores, objective):
    method = CED(scores=scores, objective=objective)
    teacher = torch.randn(4, 6)
    targets = method.targets(teacher).double()
    student = (targets.log() if objective == "ce" else targets.logit()).requires_grad_()
    method.loss(Outputs(student), Outputs(teacher), batch(teacher)).total().backward()
    assert student.grad.abs().max() < 1e-6
    predicted = method.predict(nn.Identity(), student.detach()).softmax(-1)
    expected = teacher.softmax(-1)
    assert torch.allclose(predicted.float(), expected, atol=1e-5)


VIEWS = {"augment": [{"name": "shift", "pixels": 2}, {"name": "cutout", "size": 3}], "name": "digits", "limit": 150}


def ensemble(**store):
    member = {"model": "mlp", "weights": {"train": {"epochs": 4}}}
    members = [{**member, "hidden": [24]}, {**member, "hidden": [16]}]
    return {"model": "ensemble", "members": members, "store": store or None}


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_all_scores_in_full_precision_are_live_distillation_to_the_bit(mixup, recipe, go, weights, monkeypatch):
    method = {"name": "ced", "scores": "softmax", "mixup_alpha": mixup}
    stored = go(recipe(method, teacher=ensemble(views=2, dtype="fp32", top_k=10), data=VIEWS, epochs=4))
    monkeypatch.setattr(storing, "replayed", lambda stage, recipe: replace(stage, views=2))
    live = go(recipe(method, teacher=ensemble(), data=VIEWS, epochs=4))
    one, two = weights(stored), weights(live)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_no_label_is_read(recipe, go, weights, tmp_path):
    """The same images under other labels, from a teacher that knows the true ones: the same student."""
    splits = Digits().load(0)
    images = torch.cat([splits.train.fetch(range(200)).inputs, splits.test.fetch(range(40)).inputs])
    labels = torch.cat([splits.train.fetch(range(200)).labels, splits.test.fetch(range(40)).labels])
    taught = run(recipe("supervised", teacher=None, epochs=5), root=tmp_path / "runs")
    ends = []
    for name, told in (("true", labels), ("false", (labels + 1) % 10)):
        numpy.savez(tmp_path / f"{name}.npz", x=images.numpy(), y=told.numpy())
        ends.append(
            weights(
                go(
                    recipe(
                        {"name": "ced", "scores": "softmax"},
                        teacher={"model": "mlp", "hidden": [16], "weights": str(taught.folder)},
                        data={"name": "npz", "path": str(tmp_path / f"{name}.npz")},
                    )
                )
            )
        )
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_three_scores_without_a_label_teach_the_digits(recipe, go):
    teacher = ensemble(views=1, top_k=3, fill="zero")
    for member in teacher["members"]:
        member["weights"] = {"train": {"epochs": 15}}
    finished = go(
        recipe({"name": "ced", "scores": "softmax"}, teacher=teacher, data={"name": "digits", "limit": 400}, epochs=15)
    )
    assert finished.report["arrived"]["source"]["value"] > 0.85
    assert finished.report["arrived"]["after"]["value"] > 0.75


@pytest.mark.parametrize(
    ("method", "store", "said"),
    [
        ({"objective": "ce"}, {}, "sigmoid scores are no distribution"),
        ({"scores": "softmax"}, {"top_k": 3, "scale": "sigmoid", "fill": "zero"}, "fills up sigmoid scores"),
        ({"scores": "sigmod"}, {}, "Did you mean 'sigmoid'"),
        ({"mixup_alpha": -1}, {}, "mixup_alpha"),
    ],
)
def test_keys_that_contradict_each_other(method, store, said, recipe, go):
    with pytest.raises(RecipeError, match=said):
        go(recipe({"name": "ced", **method}, teacher=ensemble(**store)))


def test_blended_inputs_cannot_be_compared_by_another_method_too(recipe, go):
    with pytest.raises(InputError, match="mixup_alpha"):
        go(recipe({"name": "ced", "scores": "softmax", "mixup_alpha": 0.5}, also=["ttm"]))


def test_beside_another_method_its_term_is_there(recipe, go):
    finished = go(recipe("kd", also=[{"name": "ced", "scores": "softmax"}], epochs=1))
    assert "also1.transfer" in (finished.folder / "events.jsonl").read_text()

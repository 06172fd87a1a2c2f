"""Complementary transfer: who teaches, slow weights, several teachers, and knowledge that arrives without loss."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.api import resume, run
from tutelage.data.batch import Batch
from tutelage.distill.complementary_transfer import ComplementaryTransfer
from tutelage.engine.method import Room, Step
from tutelage.models.outputs import Outputs
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError

TEACHER = torch.tensor([[2.0, 0, 0], [0, 3, 0], [0, 0, 1]])
INITIAL = torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 0, 4]])
BATCH = Batch(torch.zeros(3, 1), torch.tensor([0, 0, 2]), torch.arange(3), torch.arange(3))


def step_of(**logits):
    return Step(BATCH, {name: lambda batch, z=z: Outputs(z) for name, z in logits.items()}, 0, 0, 0.0)


def losses_of(student, **method):
    return ComplementaryTransfer(**method).compare(step_of(initial=INITIAL, teacher=TEACHER, student=student))


@pytest.mark.parametrize(
    ("partition", "value", "share"),
    [("supervised", 0.0329620, 1 / 3), ("unsupervised", 0.6270933, 2 / 3), ("teacher", 0.8791536, 1), ("self", 0, 0)],
)
def test_the_worked_example(partition, value, share):
    losses = losses_of(INITIAL, partition=partition)
    assert losses.total().item() == pytest.approx(value, abs=1e-6)
    assert losses.means()["teacher_share"].item() == pytest.approx(share)
    assert "task" not in losses


def test_labels_come_beside_it():
    losses = losses_of(INITIAL, partition="supervised", alpha=0.25, temperature=2.0)
    task = torch.nn.functional.cross_entropy(INITIAL, BATCH.labels).item()
    assert losses.total().item() == pytest.approx(0.25 * 0.0413207 + 0.75 * task, abs=1e-6)


def test_a_teacher_like_the_student_moves_nothing():
    student = INITIAL.clone().requires_grad_()
    method = ComplementaryTransfer()
    method.compare(step_of(initial=INITIAL, teacher=INITIAL, student=student)).total().backward()
    assert student.grad.abs().max() < 1e-7


def test_a_temperature_of_its_own_changes_who_is_heard():
    method = ComplementaryTransfer()
    sources = torch.stack([INITIAL, TEACHER])
    names = ["initial", "teacher"]
    assert method.shares(sources, BATCH.labels, names)[1].tolist() == [1, 1, 0]
    method._temperatures = {"initial": 1.0, "teacher": 3.0}
    assert method.shares(sources, BATCH.labels, names)[1].tolist() == [0, 0, 0]


# ---------------------------------------------------------------------- slow weights and statistics


def room_of(student):
    modules = {"teacher": nn.Linear(4, 3), "student": student}
    return Room(modules, None, Batch(torch.zeros(2, 4), torch.zeros(2), torch.arange(2), torch.arange(2)), ["student"])


def test_slow_weights_follow_at_their_pace_and_share_no_memory():
    student = nn.Linear(4, 3)
    start = student.weight.detach().clone()
    method = ComplementaryTransfer(slow_decay=0.75, slow_every=2)
    method.setup(room_of(student))
    with torch.no_grad():
        student.weight.add_(1.0)
    step = step_of(student=None)
    for index, moved in ((0, 0.0), (1, 0.25), (2, 0.25), (3, 0.4375)):
        method.after_step(Step(BATCH, step.participants, index, 0, 0.0))
        assert torch.allclose(method.slow.weight, start + moved, atol=1e-6)
    inputs = torch.randn(2, 4)
    assert torch.equal(method.predict(student, inputs), method.slow(inputs))
    assert torch.allclose(student.weight, start + 1.0)
    method.epoch_ended(0)
    assert torch.allclose(student.weight, start + 1.0)


def test_slow_weights_can_be_gone_on_from():
    student = nn.Linear(4, 3)
    method = ComplementaryTransfer(slow_decay=0.5, slow_reset=True)
    method.setup(room_of(student))
    slow = method.slow.weight.clone()
    with torch.no_grad():
        student.weight.add_(1.0)
    method.epoch_ended(0)
    assert torch.equal(student.weight, slow)
    assert student.weight.data_ptr() != method.slow.weight.data_ptr()


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_statistics_stay_where_asked(frozen):
    student = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    ComplementaryTransfer(freeze_bn=frozen).setup(room_of(student))
    student.train()(torch.randn(8, 4) + 3)
    assert torch.equal(student[1].running_mean, torch.zeros(5)) is frozen
    assert all(p.requires_grad for p in student.parameters())


# ---------------------------------------------------------------------- whole runs

MODEL = {"model": "mlp", "hidden": [16]}


def taught(epochs=3, **model):
    return {**MODEL, **model, "weights": {"train": {"epochs": epochs, "batch_size": 32}}}


@pytest.fixture
def pair(recipe):
    """A recipe of two trained models."""

    def make(method=None, **changes):
        whole = {"teacher": taught(hidden=[8]), "student": taught(), **changes}
        return recipe({"name": "complementary-transfer", **(method or {})}, **whole)

    return make


def test_slow_weights_are_what_is_handed_on(pair, go, weights):
    finished = go(pair({"slow_decay": 1.0, "partition": "teacher"}, epochs=1))
    kept, start = weights(finished), run_start(finished)
    assert all(torch.equal(kept[key], start[key]) for key in kept)
    assert finished.report["findings"]["delta"]["value"] == 0


def run_start(finished):
    from tutelage.engine import checkpoint

    _, state = checkpoint.load(next((finished.folder / "stages" / "student" / "end").glob("step-*")))
    return state["models"]["student"]


@pytest.mark.parametrize("schedule", ["parallel", "sequential", "soup"])
def test_several_teachers(schedule, pair, go, weights):
    whole = pair(
        {"schedule": schedule, "slow_decay": 0.9},
        more_teachers=[taught(1, hidden=[4]), taught(1, hidden=[12])],
        data={"name": "digits", "limit": 60},
        epochs=1,
    )
    finished = go(whole)
    found = finished.report["findings"]
    names = {"parallel": ["transfer"], "sequential": [f"transfer-{k}" for k in (1, 2, 3)]}
    names["soup"] = [*names["sequential"], "soup"]
    assert [row["stage"] for row in found["stages"]] == names[schedule]
    assert [row["teacher"] for row in found["routing"]] == ["teacher", "more_teachers-1", "more_teachers-2"]
    if schedule == "parallel":
        assert sum(row["share"] for row in found["routing"]) <= 1
    assert len(found["flips"]) == 12
    assert found["success_rate"] == sum(row["delta"] > 0 for row in found["stages"]) / len(found["stages"])
    # A finished run is found again with the same findings and weights.
    again = resume(finished.folder)
    assert json.dumps(again.report["findings"]) == json.dumps(found)


def test_calibration_is_fitted_on_validation(pair, go):
    data = {"name": "digits", "limit": 200}
    finished = go(pair({"calibrate": True}, data=data, epochs=1))
    assert not any("calibrate" in warning for warning in finished.report["warnings"])
    finished = go(pair({"calibrate": True}, data={**data, "validation_fraction": 0}, epochs=1))
    assert any("calibrate" in warning for warning in finished.report["warnings"])


# ---------------------------------------------------------------------- the outcome


@pytest.fixture(scope="module")
def starved(tmp_path_factory):
    """The card's pair: a student that hardly saw the digits 7 to 9, a teacher that hardly saw 0 to 3."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = (digits.images / 16).astype("float32")[:, None], digits.target
    order = np.random.default_rng(0).permutation(len(y))
    folder, train, test = tmp_path_factory.mktemp("starved"), order[:1000], order[1000:]

    def save(name, missing):
        keep = np.concatenate([train[y[train] == c][: 3 if c in missing else None] for c in range(10)])
        np.savez(folder / f"{name}.npz", x_train=x[keep], y_train=y[keep], x_test=x[test], y_test=y[test])
        return {"name": "npz", "path": str(folder / f"{name}.npz"), "validation_fraction": 0}

    sgd = {"epochs": 20, "batch_size": 50, "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}}
    train_section = {**sgd, "schedule": "constant"}
    whole = save("all", ())
    models = {"student": {"model": "mlp", "hidden": [64]}, "teacher": {"model": "mlp", "hidden": [32]}}
    for name, missing in (("student", (7, 8, 9)), ("teacher", (0, 1, 2, 3))):
        own = {"method": "supervised", "student": models[name], "data": save(name, missing), "train": train_section}
        done = run({**own, "measure": ["accuracy"], "baseline": False}, root=folder / "runs")
        models[name] = {**models[name], "weights": str(done.folder)}
    return {**models, "data": whole, "train": train_section, "measure": ["accuracy"], "baseline": False}


def test_what_the_teacher_alone_knows_arrives_and_the_rest_stays(starved, go):
    done = {
        partition: go({"method": {"name": "complementary-transfer", "partition": partition}, **starved})
        for partition in ("unsupervised", "supervised", "teacher")
    }
    found = {partition: finished.report["findings"] for partition, finished in done.items()}
    delta = {name: one["delta"]["value"] for name, one in found.items()}
    # Measured +20 and +23 points, and -15 for plain distillation.
    assert delta["unsupervised"] > 0.1
    assert delta["supervised"] > 0.1
    assert delta["supervised"] >= delta["unsupervised"] - 0.02
    assert delta["unsupervised"] > delta["teacher"] + 0.1
    row = found["supervised"]["flips"][1]
    assert (row["source"], row["recipient"]) == ("teacher", "student")
    assert row["positive"] > 0.1
    # The flips are about the digits that the student hardly saw.
    assert {one["class"] for one in found["supervised"]["flipped_classes"][:3]} == {"7", "8", "9"}
    assert found["supervised"]["routing"][0]["share_of_positive_flips"] > 0.9
    assert found["supervised"]["routing"][0]["share_of_negative_flips"] < 0.1
    # The model that is handed on is the one that was measured.
    with np.load(starved["data"]["path"]) as data, torch.no_grad():
        inputs, labels = torch.tensor(data["x_test"]), torch.tensor(data["y_test"])
        right = load_model(done["supervised"].folder).eval()(inputs).argmax(-1) == labels
    own = next(row for row in done["supervised"].report["rows"] if row["role"] == "recipient")
    assert right.float().mean().item() == pytest.approx(own["measures"]["quality"]["accuracy"]["value"], abs=1e-6)


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("method", "changes", "text"),
    [
        ({}, {"student": MODEL}, "the student 'mlp' has no weights, so it has nothing to keep"),
        ({}, {"teacher": MODEL}, "has no weights, so it would teach noise"),
        ({}, {"also": ["kd"]}, "stands alone"),
        ({}, {"stages": [{"train": {"epochs": 1}}]}, "stands alone"),
        ({"slow_every": 3}, {}, "'slow_every' does nothing without `slow_decay`"),
        ({"schedule": "soup"}, {}, "a schedule does nothing with one teacher"),
        ({"partition": "flip_t"}, {"more_teachers": [taught()]}, "divides between the start and one teacher"),
        ({"partition": "self", "calibrate": True}, {}, "'calibrate' does nothing"),
        ({"partition": "flipst"}, {}, "Did you mean 'flip_st'"),
        ({"alpha": 1.5}, {}, "method.alpha"),
        ({"top_k": 11}, {}, "method.top_k: 11 is more than the 10 classes"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(method, changes, text, pair, go, tmp_path):
    with pytest.raises((RecipeError, InputError), match=text):
        go(pair(method, **changes))
    assert not list((tmp_path / "runs").glob("*"))

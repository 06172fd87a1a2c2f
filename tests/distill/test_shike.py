"""SHIKE: the card's sums, what is frozen in the second stage, and rare classes that gain from it."""

from __future__ import annotations

import pytest
import torch

from tutelage.api import resume
from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.shike import SHIKE, Balancing, Excavation
from tutelage.engine import checkpoint
from tutelage.engine.method import Room, Step
from tutelage.models.expert_resnet import ExpertResNet
from tutelage.models.participant import Participant
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError

EXPERTS = torch.tensor([[[2, 1, 0.5, -1]], [[1, 3, -0.5, 0]], [[3, 0, 1.5, -2]]])
LABEL = torch.tensor([0])
STUDENT = {"model": "expert-resnet", "depth": 8, "width": 4, "scale": 16.0}


def test_the_worked_example():
    losses = Excavation(1.0, 10.0, "released", "mean", False).loss(EXPERTS, LABEL)
    assert losses["task"].item() == pytest.approx(2.936779, abs=1e-5)
    assert losses["suppression"].item() == pytest.approx(2.431929, abs=1e-5)
    assert losses["mutual"].item() == pytest.approx(1.575070, abs=1e-5)
    assert losses.total().item() == pytest.approx(28.831143, abs=1e-4)


def test_a_batch_mean_is_a_quarter_of_the_weight_away():
    mean = Excavation(1.0, 10.0, "released", "mean", False).loss(EXPERTS, LABEL)
    batch = Excavation(0.25, 2.5, "released", "batchmean", False).loss(EXPERTS, LABEL)
    assert batch.total().item() == pytest.approx(mean.total().item(), abs=1e-4)
    excluded = Excavation(1.0, 1.0, "excluded", "batchmean", False).loss(EXPERTS, LABEL)
    assert excluded["suppression"].item() == pytest.approx(1.448607, abs=1e-5)


def staged(method, batch, classes=4):
    """A network in a stage of a method, and a step of it."""
    torch.manual_seed(0)
    info = DataInfo((1, 8, 8), classes, tuple(map(str, range(classes))), "", (500, 100, 20, 5))
    student = ExpertResNet(info, depth=8, width=4)
    room = Room({"student": student}, info, batch, ["student"])
    method.setup(room)
    participant = Participant("student", student, trainable=True, taps=room.taps("student"))
    return student, Step(batch, {"student": participant}, 0, 0, 0.0)


BATCH = Batch(torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 0]), torch.arange(5), torch.zeros(5))


def test_the_first_stage_looks_at_each_experts_head():
    method = Excavation(1.0, 10.0, "released", "mean", False)
    student, step = staged(method, BATCH)
    student.eval()
    method.compare(step).total().backward()
    assert all(head.weight.grad is not None for head in student.heads)
    assert all(head.weight.grad is None for head in student.balanced_heads)
    expected = [taps for name, taps in step.forward("student").taps.items()]
    assert len(expected) == 3
    whole = method.loss(torch.stack(expected), BATCH.labels)
    assert method.compare(step).total().item() == pytest.approx(whole.total().item(), abs=1e-4)


@pytest.mark.parametrize(("rt_init", "same"), [("copy", True), ("fresh", False)])
def test_the_second_stage_moves_only_the_balanced_heads(rt_init, same):
    counts = torch.tensor([500, 100, 20, 5])
    method = Balancing(counts, rt_init, 0.5, False)
    student, step = staged(method, BATCH)
    assert torch.equal(student.heads[1].weight, student.balanced_heads[1].weight) is same
    moved = [name for name, parameter in student.named_parameters() if parameter.requires_grad]
    assert moved == [f"balanced_heads.{i}.weight" for i in range(3)]
    assert method.turns()[0].scales == {"student": 0.5}
    student.eval()
    taps = list(step.forward("student").taps.values())
    expected = sum(torch.nn.functional.cross_entropy(z + counts.log(), BATCH.labels) for z in taps)
    assert method.compare(step).total().item() == pytest.approx(expected.item(), abs=1e-4)
    assert bool(student.balanced)


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_statistics_of_the_second_stage(frozen):
    student, step = staged(Balancing(torch.ones(4), "copy", 1.0, frozen), BATCH)
    before = student.stem[1].running_mean.clone()
    step.participants["student"].mode(True)
    step.forward("student")
    assert torch.equal(student.stem[1].running_mean, before) is frozen


# ---------------------------------------------------------------------- whole runs


@pytest.fixture
def tailed(recipe):
    """A recipe of a network of experts on a long tail of digits."""

    def make(method=None, **changes):
        whole = {"student": STUDENT, "data": {"name": "digits", "imbalance": 33.0}, "teacher": None, **changes}
        return recipe({"name": "shike", "many": 60, "few": 15, **(method or {})}, **whole)

    return make


def ends(finished, stage):
    _, state = checkpoint.load(next((finished.folder / "stages" / stage / "end").glob("step-*")))
    return state["models"]["student"]


def test_after_the_second_stage_all_but_the_balanced_heads_is_as_before(tailed, go):
    finished = go(tailed({"freeze_statistics": True}, epochs=3))
    first, second = ends(finished, "experts"), ends(finished, "balance")
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"balanced", *(f"balanced_heads.{i}.weight" for i in range(3))}
    rows = finished.report["findings"]["accuracy_by_class_size"]
    assert [(row["stage"], row["experts"]) for row in rows] == [
        (stage, who) for stage in ("experts", "balance") for who in ("together", "expert 1", "expert 2", "expert 3")
    ]
    # What is handed on predicts with the balanced heads, and is what the report is about.
    own = next(row for row in finished.report["rows"] if row["role"] == "recipient")
    assert rows[4]["all"] == pytest.approx(own["measures"]["quality"]["accuracy"]["value"], abs=1e-6)
    assert bool(load_model(finished.folder).balanced)
    assert resume(finished.folder).report["findings"] == finished.report["findings"]


@pytest.mark.slow
def test_rare_classes_gain_from_balanced_heads(tailed, go):
    method = {"rt_init": "copy", "balanced_share": 0.286, "balanced_lr_scale": 3.0}
    whole = tailed(method, student={**STUDENT, "width": 8}, epochs=28, batch_size=64)
    sgd = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    whole["train"] = {**whole["train"], "optimizer": sgd}
    rows = go(whole).report["findings"]["accuracy_by_class_size"]
    before, after = (r for r in rows if r["experts"] == "together")
    # Measured +26 and +22 points on two seeds, and +7 on all classes.
    assert after["few"] > before["few"] + 0.1
    assert after["all"] > before["all"] + 0.02
    assert before["many"] > before["few"] + 0.3


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("method", "changes", "text"),
    [
        ({}, {"student": {"model": "mlp"}}, "a MLP has no experts; shike trains `model: expert-resnet`"),
        ({}, {"epochs": 1}, "train.epochs: shike has two stages"),
        ({"many": 10}, {}, "a class of 10 samples would be frequent and rare"),
        ({}, {"stages": [{"train": {"epochs": 1}}]}, "its own two stages"),
        ({}, {"also": ["shike"]}, "its own two stages"),
        ({"rt_init": "coppy"}, {}, "Did you mean 'copy'"),
        ({"balanced_share": 1.0}, {}, "method.balanced_share"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(method, changes, text, tailed, go, tmp_path):
    with pytest.raises((RecipeError, InputError), match=text):
        go(tailed(method, **changes))
    assert not list((tmp_path / "runs").glob("*"))


def test_the_defaults_are_the_papers():
    own = SHIKE()
    assert (own.excavation.hns_weight, own.excavation.mutual_weight, own.balanced_share) == (10.0, 1.0, 0.1)

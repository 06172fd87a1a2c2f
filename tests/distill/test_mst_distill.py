"""MST-Distill: three stages, masks that move teachers to the student, a gate that learns what it should."""

from __future__ import annotations

import copy
import os
import signal

import pytest
import torch

from tutelage import api
from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.mst_distill import CoTraining, MaskTraining, MSTDistill, Routing
from tutelage.engine.listening import Silence
from tutelage.engine.method import Room, Step
from tutelage.engine.stopping import Interrupted
from tutelage.models.channels import see, seen
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((2, 8, 4), 10, tuple("0123456789"), "")
LABELS = torch.arange(10) % 10
BATCH = Batch(torch.randn(10, 2, 8, 4, generator=torch.Generator().manual_seed(0)), LABELS, LABELS, LABELS)


def models():
    torch.manual_seed(0)
    return {
        "teacher": MLP(INFO, hidden=(12, 9)),
        "auxiliary": see(ConvNet(seen(INFO, [1]), width=6, depth=2), [1]),
        "student": see(MLP(seen(INFO, [0]), hidden=(8,)), [0]),
    }


def step_of(modules, trained=(), gradients=()):
    participants = {
        name: Participant(name, module, trainable=name in trained, gradients=name in trained or name in gradients)
        for name, module in modules.items()
    }
    for one in participants.values():
        one.mode(True)
    return Step(BATCH, participants, 0, 0, 0.0)


def masks(modules, **layers):
    method = MaskTraining({"teacher": (), "auxiliary": (), **layers}, temperature=4.0, heads=3, factor=2)
    method.setup(Room(modules, INFO, BATCH, ()))
    return method


def routing(modules, **arguments):
    method = Routing(masks(modules).specialists, MSTDistill(**arguments))
    method.setup(Room(modules, INFO, BATCH, ["student"]))
    return method


def hooks(module):
    return sum(len(part._forward_hooks) for part in module.modules())


def test_every_pair_pulls_on_both_sides_in_co_training():
    modules = models()
    step = step_of(modules, trained=tuple(modules))
    terms = CoTraining(4.0).together(step)
    said = {name: step.forward(name).logits for name in modules}
    kl = torch.nn.functional.kl_div
    expected = sum(
        16 * kl((said[s] / 4).log_softmax(-1), (said[t] / 4).softmax(-1), reduction="batchmean")
        for s in said
        for t in said
        if s != t
    )
    assert terms["mutual"].mean().item() == pytest.approx(expected.item(), abs=1e-4)
    task = sum(torch.nn.functional.cross_entropy(one, LABELS) for one in said.values())
    assert terms["task"].mean().item() == pytest.approx(task.item(), abs=1e-4)
    terms["mutual"].sum().backward()
    assert all(p.grad is not None for module in modules.values() for p in module.parameters())


def test_the_last_two_blocks_of_each_teacher_are_masked_one_at_a_time():
    modules = models()
    method = masks(modules)
    assert [one.name for one in method.specialists] == [
        "teacher at blocks.0",
        "teacher at blocks.1",
        "auxiliary at blocks.0",
        "auxiliary at blocks.1",
    ]
    assert [turn.owns for turn in method.turns()] == [("mask0",), ("mask1",), ("mask2",), ("mask3",)]
    step = step_of(modules, gradients=("teacher", "auxiliary"))
    method.specialise(1, step).total().backward()
    moved = {name for name, p in method.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved
    assert {name.split(".")[0] for name in moved} == {"mask1"}
    assert all(p.grad is None for module in modules.values() for p in module.parameters())
    named = masks(modules, teacher=("embedding",), auxiliary=("blocks.1.3",))
    assert [one.name for one in named.specialists] == ["teacher at head:input", "auxiliary at blocks.1.3"]


def test_a_mask_of_ones_changes_nothing_and_no_hook_remains():
    modules = models()
    method = masks(modules)
    step = step_of(modules)
    for one in method.specialists:
        torch.nn.init.zeros_(one.mask.score.weight)
        torch.nn.init.constant_(one.mask.score.bias, 100.0)
        before = hooks(modules[one.teacher])
        assert torch.equal(one.logits(step), step.forward(one.teacher).logits)
        assert hooks(modules[one.teacher]) == before


def test_training_masks_brings_teachers_closer_to_the_student():
    modules = models()
    method = masks(modules)
    step = step_of(modules, gradients=("teacher", "auxiliary"))
    teachers = {name: copy.deepcopy(modules[name].state_dict()) for name in ("teacher", "auxiliary")}
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    history = []
    for _ in range(25):
        total = torch.stack([method.specialise(i, step)["divergence"].mean() for i in range(4)])
        history.append(total.detach())
        optimizer.zero_grad()
        total.sum().backward()
        optimizer.step()
    assert bool((history[-1] < history[0]).all())
    for name, state in teachers.items():
        assert all(torch.equal(state[key], value) for key, value in modules[name].state_dict().items())


@pytest.mark.parametrize(("w_lb", "weighted"), [(0.0, False), (1.0, False), (0.0, True)])
def test_what_the_gate_learns_from(w_lb, weighted):
    modules = models()
    method = routing(modules, w_lb=w_lb, gate_weighted=weighted)
    method.routed(step_of(modules, trained=("student",))).total().backward()
    gradients = [p.grad for p in method.gate.parameters()]
    learned = any(g is not None and bool(g.abs().sum() > 0) for g in gradients)
    assert learned is (w_lb > 0 or weighted)
    assert all(p.grad is None for p in method.masks.parameters())
    assert all(p.grad is not None for p in modules["student"].parameters())


def test_samples_are_routed_and_balanced_as_the_gates_say():
    modules = models()
    method = routing(modules, k=2, w_task=0.5, w_kl=2.0, w_lb=3.0)
    step = step_of(modules, trained=("student",))
    terms = method.routed(step)
    student = step.forward("student").logits
    gates = method.gate(student).softmax(-1)
    said = torch.stack([one.logits(step) for one in method.specialists], 1)
    for row in range(10):
        best = gates[row].topk(2).indices
        kl = torch.nn.functional.kl_div(
            (student[row] / 4).log_softmax(-1).expand(2, 10), (said[row, best] / 4).softmax(-1), reduction="sum"
        )
        assert terms["transfer"][row].item() == pytest.approx(16 * kl.item() / 2, abs=1e-4)
    parts = [0.5 * terms["task"].mean(), 2 * terms["transfer"].mean(), 3 * terms["balance"]]
    assert terms.total().item() == pytest.approx(sum(parts).item(), abs=1e-5)


SLOTS = {
    "teacher": {"model": "mlp", "hidden": [24, 18], "weights": {"train": {"epochs": 8}}},
    "auxiliary": {"model": "mlp", "hidden": [18, 12], "channels": [1], "weights": {"train": {"epochs": 8}}},
    "student": {"model": "mlp", "hidden": [16], "channels": [0]},
    "data": {"name": "halves", "of": "digits", "limit": 300},
}


def test_half_a_digit_is_learned_from_teachers_of_the_other_half(recipe, go):
    finished = go(recipe({"name": "mst-distill", "cotrain_epochs": 8, "k": 2}, **SLOTS, epochs=8))
    assert finished.report["arrived"]["after"]["value"] > 0.6
    stages = {path.name for path in (finished.folder / "stages").iterdir()}
    assert {"co-training", "masks", "transfer"} <= stages
    found = finished.report["findings"]
    assert [row["teacher"] for row in found["specialists"]] == [
        f"{name} at blocks.{i}" for name in ("teacher", "auxiliary") for i in (0, 1)
    ]
    assert sum(row["share"] for row in found["specialists"]) == pytest.approx(2.0)
    counted = sum(value for row in found["routing"] for key, value in row.items() if key != "class")
    assert counted == 2 * finished.report["arrived"]["after"]["n"]
    assert all(row["accuracy"] > 0.25 for row in found["specialists"])


@pytest.mark.slow
def test_interrupted_between_and_within_its_stages_it_ends_the_same(recipe, go, weights, tmp_path):
    content = recipe({"name": "mst-distill", "mask_epochs": 2}, **SLOTS, epochs=2)
    whole = go(content)

    class Leave(Silence):
        def __init__(self, task, step):
            self.task, self.step = task, step

        def advance(self, task, done, terms):
            if (task, done) == (self.task, self.step):
                os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "pieces"
    with pytest.raises(Interrupted):
        api.run(content, run_dir=folder, listener=Leave("masks", 4))
    with pytest.raises(Interrupted):
        api.resume(folder, listener=Leave("transfer", 7))
    one, two = weights(whole), weights(api.resume(folder))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"method": {"k": 5}}, InputError, "5 of 4 specialised teachers"),
        ({"method": {"teacher_layers": ["blocs.0"]}}, InputError, "blocs.0"),
        ({"method": {"balance": "entropy"}}, RecipeError, "balance"),
        ({"teacher": {**SLOTS["teacher"], "cache": True}}, RecipeError, "masks rewrite the teacher's features"),
        ({"auxiliary": {**SLOTS["auxiliary"], "store": {}}}, RecipeError, "masks rewrite the auxiliary's features"),
        ({"also": ["kd"]}, RecipeError, "no term that others can join"),
        ({"auxiliary": {"model": "mlp", "channels": [2]}}, InputError, "channels"),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, said, recipe, go):
    changes = {**SLOTS, **changes}
    name = {"name": "mst-distill", **changes.pop("method", {})}
    with pytest.raises(error, match=said):
        go(recipe(name, **changes))

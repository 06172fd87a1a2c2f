"""HARD: whose parameters move when, both signs, the cap, schedules, and a shift that reaches a student."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.digits import Digits
from tutelage.distill.hard_augmentations import HardAugmentations
from tutelage.distill.kd import KD
from tutelage.distill.samplers.hard import Hard
from tutelage.engine.method import Room, Step
from tutelage.models.augmentors import Affine, Color, Translate
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((1, 8, 8), 10, tuple("0123456789"), "")
BATCH = Batch(
    torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
    torch.arange(6),
    torch.arange(6),
    torch.arange(6) + 100,
)


def ready(method=None, student=None, teacher=None, sampler=None):
    torch.manual_seed(0)
    method = method or HardAugmentations(sampler=sampler or Hard(augmentor=(Translate(INFO, pixels=2.0),)))
    modules = {"teacher": teacher or MLP(INFO, hidden=[16]), "student": student or MLP(INFO, hidden=[8])}
    room = Room(modules, INFO, BATCH, ["student"])
    method.prepare(room)
    participants = {
        name: Participant(
            name, one, trainable=name == "student", gradients=True if name in room.differentiated else None
        )
        for name, one in modules.items()
    }
    return method, Step(BATCH, participants, 0, 0, 0.0)


def still(**changes):
    return Hard(augmentor=(Affine(INFO, translate=0.0, rotate=0.0, scale=0.0, shear=0.0),), **changes)


def test_augmentations_that_change_nothing_make_it_plain_distillation():
    method, step = ready(sampler=still())
    losses = method.compare(step)
    plain = KD(temperature=4.0, alpha=0.0).compare(step)
    assert losses.total().item() == pytest.approx(plain.total().item(), rel=1e-5)
    assert method.sampler.learn(step)["invariance"].abs().max() < 1e-6


def test_a_student_that_is_the_teacher_never_disagrees():
    teacher = MLP(INFO, hidden=[16])
    method, step = ready(teacher=teacher, student=teacher)
    losses = method.sampler.learn(step)
    assert losses["disagreement"].abs().max() < 1e-6
    assert losses["invariance"].mean() > 1e-5
    (whole,) = torch.autograd.grad(losses.total(), method.sampler.augmentors[0].chosen)
    (kept,) = torch.autograd.grad(method.sampler.learn(step)["invariance"].mean(), method.sampler.augmentors[0].chosen)
    assert torch.allclose(whole, kept, atol=1e-6)


def test_signs_weights_and_the_cap():
    method, step = ready(sampler=Hard(augmentor=(Translate(INFO),), invariance_weight=2.0, disagreement_weight=3.0))
    losses = method.sampler.learn(step)
    assert losses.weight("invariance") == 2.0
    assert losses.weight("disagreement") == -3.0
    capped, step = ready(sampler=Hard(augmentor=(Translate(INFO),), invariance_weight=0.0, disagreement_cap=1e-6))
    losses = capped.sampler.learn(step)
    assert losses["disagreement"].max().item() == pytest.approx(1e-6)
    (gradient,) = torch.autograd.grad(losses.total(), capped.sampler.augmentors[0].chosen)
    assert (gradient == 0).all()


def test_each_turn_reaches_only_its_own():
    method, step = ready(student=ConvNet(INFO, width=2, depth=1), teacher=ConvNet(INFO, width=4, depth=1))
    step.participants["student"].mode(True)
    statistics = {k: v.clone() for k, v in step.participants["student"].module.state_dict().items()}
    augmentor, transfer = method.turns()
    assert (augmentor.trains, augmentor.owns) == (("method",), ("sampler",))
    augmentor.loss(step).total().backward()
    own = method.sampler.augmentors[0].chosen
    assert (own.grad[:, :2] != 0).any()
    after = step.participants["student"].module.state_dict()
    # Running statistics of the student included.
    assert all(torch.equal(after[k], statistics[k]) for k in statistics)
    assert step.participants["student"].module.training
    own.grad = None
    transfer.loss(step).total().backward()
    assert own.grad is None
    assert all(p.grad is None for p in step.participants["teacher"].module.parameters())


def test_squared_distances_for_outputs_that_are_no_classes():
    method, step = ready(sampler=Hard(augmentor=(Translate(INFO),), distance="mse"))
    hard = step.on(method.sampler.augmented(BATCH, 0))
    apart = (hard.forward("student").logits - hard.forward("teacher").logits).square().mean(1)
    assert torch.allclose(method.sampler.learn(step)["disagreement"], apart.clamp(max=5.0), atol=1e-6)


def test_originals_are_handed_on_where_they_are_asked_for():
    method, step = ready(sampler=Hard(augmentor=(Translate(INFO),), clean=True))
    both = method.sampler.sample(step)
    assert torch.equal(both.inputs[:6], BATCH.inputs)
    assert torch.equal(both.ids, torch.arange(6).repeat(2))
    assert not both.inputs.requires_grad


def test_random_augmentations_come_before_the_learned_ones():
    from tutelage.data.augment import Shift

    method, step = ready(sampler=still(before=(Shift(pixels=2),)))
    made = method.sampler.sample(step)
    assert not torch.allclose(made.inputs, BATCH.inputs, atol=1e-3)
    assert torch.equal(made.seeds, BATCH.seeds)


def test_thresholds_hand_the_turn_to_and_fro():
    method, step = ready(
        sampler=Hard(augmentor=(Translate(INFO), Color(INFO)), schedule="thresholds", l_min=0.2, l_max=0.5)
    )
    finds, teaches = method.turns()[0].when, method.turns()[1].when
    seen = []
    for apart in (10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0):
        seen.append((finds(step), teaches(step)))
        method.sampler._observe(torch.tensor([apart]))
    # 1.0 after the first, then a tenth less with each: below 0.2 after sixteen more.
    assert seen[0] == (True, False)
    assert set(seen[1:]) == {(False, True)}
    for _ in range(6):
        method.sampler._observe(torch.tensor([0.0]))
    assert finds(step)
    assert "sampler.level" in method.state_dict()


# ---------------------------------------------------------------------- runs


def test_a_run_moves_both_and_shows_images(recipe, go):
    sampler = {"name": "hard", "augmentor": [{"name": "translate", "pixels": 2}, "color"]}
    method = {"name": "hard-augmentations", "sampler": sampler, "dump_images": 3}
    finished = go(recipe(method))
    assert finished.report["status"] == "done"
    assert len(list((finished.folder / "augmented").glob("*.png"))) == 2
    spreads = {one["augmentor"]: one["spread"] for one in finished.report["findings"]["spreads"]}
    assert spreads.keys() == {"translate", "color"}
    assert all(abs(spread - math.log(2.0)) > 1e-4 for spread in spreads.values())


def test_the_sampler_beside_another_method_and_thresholds(recipe, go):
    sampler = {"name": "hard", "clean": True, "schedule": "thresholds", "l_min": 0.01, "l_max": 0.02}
    assert go(recipe("kd", sampler=sampler, epochs=1)).report["status"] == "done"
    assert go(recipe("hard-augmentations", sampler=sampler, epochs=1)).report["status"] == "done"


@pytest.mark.slow
def test_a_teachers_invariance_reaches_a_student_that_never_saw_a_shift(recipe, go, tmp_path):
    """A convolutional teacher does not mind shifts; a perceptron taught on centred images alone is lost on them."""
    splits = Digits().load(0)
    train, test = splits.train.fetch(range(600)), splits.test.fetch(range(len(splits.test)))
    np.savez(tmp_path / "canvas.npz", x=pad(train.inputs, (2,) * 4).numpy(), y=train.labels.numpy())
    data = {"name": "npz", "path": str(tmp_path / "canvas.npz")}
    net = {"model": "convnet", "width": 8, "depth": 2}
    shifts = {**data, "augment": [{"name": "shift", "pixels": 2}]}
    teacher = go(recipe("supervised", student=net, teacher=None, data=shifts, epochs=10))
    moves = [(a, b) for a in (-2, 0, 2) for b in (-2, 0, 2) if (a, b) != (0, 0)]
    shifted = torch.cat([pad(test.inputs, (2,) * 4).roll(move, (2, 3)) for move in moves])
    found = {}
    sampler = {"name": "hard", "augmentor": [{"name": "translate", "pixels": 2}]}
    for method in ({"name": "kd", "alpha": 0.0}, {"name": "hard-augmentations", "sampler": sampler}):
        taught = {**net, "weights": str(teacher.folder)}
        run = go(recipe(method, teacher=taught, student={"model": "mlp", "hidden": [64]}, data=data, epochs=20))
        with torch.no_grad():
            answers = load_model(run.folder)(shifted).argmax(-1)
        found[method["name"]] = (answers == test.labels.repeat(len(moves))).float().mean().item()
    assert found["hard-augmentations"] > found["kd"] + 0.05, found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {"name": "hard-augmentations", "mix_clean": 2}}, "mix_clean: found 2"),
        ({"method": {"name": "hard-augmentations", "sampler": {"name": "hard", "l_max": 0.1}}}, "more than l_min"),
        ({"method": {"name": "hard-augmentations", "sampler": "had"}}, "'hard'"),
        ({"method": "kd", "also": ["hard-augmentations"]}, "batches of its own"),
    ],
)
def test_what_cannot_be(changes, said, recipe, go):
    with pytest.raises(InputError, match=said):
        go({**recipe("kd"), **changes})


def test_a_remembered_teacher_and_inputs_that_are_no_images(recipe, go):
    teacher = {**recipe("kd")["teacher"], "cache": True}
    with pytest.raises(RecipeError, match="inputs that are made anew"):
        go(recipe("hard-augmentations", teacher=teacher))


def test_an_augmentor_without_anything_to_learn():
    with pytest.raises(InputError, match="nothing to learn"):
        ready(sampler=Hard(augmentor=(torch.nn.Identity(),)))

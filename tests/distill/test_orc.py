"""ORC: elections, who moves when, what the pivot is shown, and that promotions follow strength."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tutelage.api import resume
from tutelage.data.batch import Batch
from tutelage.distill.orc import ORC
from tutelage.engine.method import Room, Step
from tutelage.losses import cross_entropy, kl_divergence
from tutelage.models.participant import Participant
from tutelage.recipe.errors import InputError, RecipeError

BATCH = Batch(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6) + 10, torch.zeros(6))


class Saying(nn.Module):
    """Gives the label's class (0) a probability whose logarithm is minus a loss, whatever it is shown."""

    def __init__(self, loss):
        super().__init__()
        p = math.exp(-loss)
        self.logits = nn.Parameter(torch.tensor([p, (1 - p) / 2, (1 - p) / 2]).log())

    def forward(self, inputs):
        return self.logits.expand(len(inputs), -1)


def group(modules, batch=BATCH, *, before=True, **method):
    """The method, set up, and a step of it whose roles are settled."""
    own = ORC(**method)
    own.setup(Room(modules, None, batch, list(modules)))
    step = Step(batch, {name: Participant(name, one, trainable=True) for name, one in modules.items()}, 0, 0, 0.0)
    for one in step.participants.values():
        one.mode(True)
    if before:
        own.before_step(step)
    return own, step


def networks(count=3):
    torch.manual_seed(0)
    names = ["teacher", *(f"assistants-{i}" for i in range(1, count)), "student"]
    return {
        name: nn.Sequential(nn.Linear(4, 9 - i), nn.BatchNorm1d(9 - i), nn.Linear(9 - i, 3))
        for i, name in enumerate(names)
    }


def repeated(step, repeat):
    return Step(step.batch, step.participants, 0, 0, 0.0, repeat=repeat)


# ---------------------------------------------------------------------- roles


@pytest.mark.parametrize(("temporary", "elected"), [(1, ("b",)), (2, ("b", "c"))])
def test_the_worked_election(temporary, elected):
    labels = Batch(torch.zeros(2, 4), torch.tensor([0, 0]), torch.arange(2), torch.zeros(2))
    modules = {"teacher": Saying(0.1), "a": Saying(0.9), "b": Saying(0.4), "c": Saying(0.7)}
    modules["student"] = Saying(1.5)
    method, _ = group(modules, labels, temporary=temporary)
    assert method._roles.temporary == elected
    assert method.promotions.tolist() == [0, 1, 1 if temporary == 2 else 0, 0]
    assert method.steps.item() == 1


def test_a_fixed_teacher_and_none():
    method, _ = group(networks(), role_change="fixed", fixed_teacher=2)
    assert method._roles.temporary == ("assistants-2",)
    method, _ = group(networks(), role_change="fixed", fixed_teacher=0)
    assert method._roles.temporary == ("student",)
    method, _ = group(networks(), role_change="none")
    assert method._roles.temporary == ()
    assert method._phases() == ["group"]


def test_looking_moves_no_statistics():
    modules = networks()
    before = {name: one[1].running_mean.clone() for name, one in modules.items()}
    group(modules)
    assert all(torch.equal(before[name], one[1].running_mean) for name, one in modules.items())


# ---------------------------------------------------------------------- losses


def test_independent_distillation_is_what_is_left_without_roles():
    modules = networks()
    for one in modules.values():
        one[1] = nn.Identity()
    method, step = group(modules, intensive="off", private=False, role_change="none", beta=0.3, temperature=2.0)
    assert [turn.name for turn in method.turns()] == ["teaching"]
    assert method.turns()[0].times == 1
    pivot = modules["teacher"](BATCH.inputs).detach()
    total = 0.0
    for name in ("assistants-1", "assistants-2", "student"):
        logits = modules[name](BATCH.inputs)
        total = total + 0.7 * cross_entropy(logits, BATCH.labels).mean()
        total = total + 0.3 * kl_divergence(logits, pivot, temperature=2.0).mean()
    assert method.teach(step).total().item() == pytest.approx(total.item(), abs=1e-5)


@pytest.mark.parametrize("share", [1.0, 0.0, 0.3])
def test_what_the_pivot_is_shown(share):
    modules = networks()
    modules["teacher"][1] = nn.Identity()
    method, step = group(modules)
    drawn = torch.tensor([5, 0, 0, 1, 2, 3])
    method._roles = type(method._roles)((), BATCH, drawn, share, torch.tensor(0.0))
    mixed = modules["teacher"](share * BATCH.inputs + (1 - share) * BATCH.inputs[drawn])
    own, theirs = cross_entropy(mixed, BATCH.labels), cross_entropy(mixed, BATCH.labels[drawn])
    expected = share * own + (1 - share) * theirs
    assert torch.allclose(method.learn_from_errors(step)["task"], expected, atol=1e-6)
    # A part of the step finds its partners in the whole.
    part = Batch(*(getattr(BATCH, f)[2:5] for f in ("inputs", "labels", "ids", "seeds")))
    assert torch.allclose(method.learn_from_errors(step.on(part))["task"], expected[2:5], atol=1e-6)


def test_the_pivot_is_shown_errors_only_where_that_is_wanted():
    wrong_on = torch.tensor([1, 2])
    modules = {"teacher": Saying(0.1), "student": Saying(0.2)}
    labels = torch.zeros(6, dtype=torch.long)
    labels[wrong_on] = 1
    batch = BATCH.with_(labels=labels)
    method, _ = group(modules, batch, intensive="feedback")
    assert set(method._roles.drawn.tolist()) <= {1, 2}
    assert method._roles.share == 0.0
    assert group(modules, batch, intensive="batch")[0]._roles.drawn is None
    assert 0 < group(modules, batch)[0]._roles.share < 1


def test_everybody_has_a_turn_of_their_own():
    modules = networks()
    method, step = group(modules)
    (temporary,) = method._roles.temporary
    moved = {}
    for name, loss in (
        ("intensive", lambda: method.learn_from_errors(step)),
        ("private", lambda: method.teach(repeated(step, 0))),
        ("group", lambda: method.teach(repeated(step, 1))),
    ):
        for one in modules.values():
            one.zero_grad()
        loss().total().backward()
        moved[name] = {n for n, one in modules.items() if any(p.grad is not None for p in one.parameters())}
    assert moved["intensive"] == {"teacher"}
    assert moved["private"] == {temporary}
    assert moved["group"] == set(modules) - {"teacher", temporary}
    assert [turn.trains for turn in method.turns()] == [("teacher",), ("assistants-1", "assistants-2", "student")]
    assert method.turns()[0].scales == {"teacher": 0.1}


def test_group_teaching_one_by_one_and_as_an_ensemble():
    modules = networks(2)
    for one in modules.values():
        one[1] = nn.Identity()
    said = {name: one(BATCH.inputs) for name, one in modules.items()}
    for kind in ("individual", "ensemble"):
        method, step = group(modules, role_change="fixed", fixed_teacher=1, group=kind, beta=1.0, temperature=3.0)
        teachers = [said["assistants-1"], said["teacher"]]
        if kind == "ensemble":
            teachers = [sum(teachers) / 2]
        expected = sum(kl_divergence(said["student"], t, temperature=3.0).mean() for t in teachers)
        assert method.teach(repeated(step, 1)).total().item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_single_student_is_taught_in_private():
    method, step = group(networks(1), beta=0.5, temperature=1.0)
    assert method._phases() == ["private"]
    assert list(method.teach(step)) == ["private.task", "private.transfer"]


# ---------------------------------------------------------------------- whole runs

ASSISTANTS = [{"model": "mlp", "hidden": [32]}, {"model": "mlp", "hidden": [24]}]


def test_without_roles_the_student_is_the_one_of_plain_distillation(recipe, go, weights):
    plain = {"name": "orc", "intensive": "off", "private": False, "role_change": "none", "temperature": 2.0}
    ours = weights(go(recipe(plain, assistants=ASSISTANTS[:1], epochs=1)))
    kd = weights(go(recipe({"name": "kd", "temperature": 2.0, "alpha": 0.5}, epochs=1)))
    assert all(torch.allclose(ours[key], kd[key], rtol=1e-4, atol=1e-6) for key in kd)


def test_accumulation_changes_nothing_and_a_finished_run_is_found_again(recipe, go, weights):
    method = {"name": "orc", "temperature": 2.0}
    first = go(recipe(method, assistants=ASSISTANTS, epochs=1))
    second = go(recipe(method, assistants=ASSISTANTS, epochs=1, accumulate=3))
    whole, cut = weights(first), weights(second)
    assert all(torch.allclose(whole[key], cut[key], rtol=1e-3, atol=1e-5) for key in whole)
    assert first.report["findings"]["promotions"] == second.report["findings"]["promotions"]
    assert resume(first.folder).report["findings"] == first.report["findings"]


def test_promotions_follow_strength_and_a_weak_pivot_rises(recipe, go):
    weak = {"train": {"epochs": 1, "batch_size": 100, "optimizer": {"name": "adam", "lr": 5e-3}}}
    report = go(
        recipe(
            {"name": "orc", "temperature": 2.0, "pivot_lr_scale": 1.0},
            teacher={"model": "mlp", "hidden": [64], "weights": weak},
            assistants=[{"model": "mlp", "hidden": [64]}, {"model": "mlp", "hidden": [16]}],
            student={"model": "mlp", "hidden": [4]},
            epochs=20,
        )
    ).report
    promotions = report["findings"]["promotions"]
    assert [row["network"] for row in promotions] == ["assistants-1", "assistants-2", "student"]
    shares = [row["share"] for row in promotions]
    assert sum(shares) == pytest.approx(1.0)
    assert shares[0] > shares[1] > shares[2]
    accuracy = {row["name"]: row["measures"]["quality"]["accuracy"]["value"] for row in report["rows"]}
    assert accuracy["teacher, trained on"] > accuracy["teacher"] + 0.2
    seen = [row["accuracy"] for row in report["findings"]["pivot_on_errors"]]
    assert len(seen) == 20
    assert sum(seen[-5:]) > sum(seen[:5])


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("method", "changes", "text"),
    [
        ({}, {"teacher": {"model": "mlp"}}, "has no weights, so it would teach noise"),
        ({"temporary": 4}, {}, "4 of 3 students cannot be promoted"),
        ({"role_change": "fixed", "fixed_teacher": 3}, {}, "there is no assistant 3.*1 to 2"),
        ({"role_change": "fixed"}, {"assistants": None}, "there is no assistant 1.*Name `assistants`"),
        ({"role_change": "fixed", "temporary": 2}, {}, "only one is promoted"),
        ({"fixed_teacher": 2}, {}, "'fixed_teacher' does nothing without"),
        ({"intensive": "batch", "mixup_alpha": 0.4}, {}, "'mixup_alpha' does nothing without"),
        ({"role_change": "none", "temporary": 2}, {}, "'temporary' does nothing"),
        ({"private": False, "temporary": 3}, {}, "everybody is promoted and nobody is taught"),
        ({}, {"stages": [{"train": {"epochs": 1}}]}, "in one stage of its own"),
        ({}, {"also": ["kd"]}, "in one stage of its own"),
        ({"role_change": "onlin"}, {}, "Did you mean 'online'"),
        ({"beta": 1.2}, {}, "method.beta"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(method, changes, text, recipe, go, tmp_path):
    with pytest.raises((RecipeError, InputError), match=text):
        go(recipe({"name": "orc", **method}, **{"assistants": ASSISTANTS, **changes}))
    assert not list((tmp_path / "runs").glob("*"))


def test_networks_of_other_classes_are_refused():
    modules = {**networks(2), "assistants-1": nn.Linear(4, 5)}
    with pytest.raises(InputError, match="the assistants-1 names 5 classes and the student 3"):
        group(modules, before=False)

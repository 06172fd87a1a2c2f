"""ClassroomKD: who may teach, how softly, and that bad mentors fall silent."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.classroomkd import ClassroomKD
from tutelage.engine.method import Step
from tutelage.losses import cross_entropy, kl_divergence
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError


def knowing(p, spread=(0.5, 0.3, 0.2)):
    """Logits of one sample of class 0 that give it probability p."""
    return torch.tensor([[p, *((1 - p) * s for s in spread)]]).log()


def step_of(labels=(0,), **logits):
    batch = Batch(torch.zeros(len(labels), 1), torch.tensor(labels), torch.arange(len(labels)), torch.zeros(1))
    return Step(batch, {name: lambda batch, z=z: Outputs(z[batch.ids]) for name, z in logits.items()}, 0, 0, 0.0)


CLASS = {
    "teacher": knowing(0.9),
    "mentors-1": knowing(0.4),
    "mentors-2": knowing(0.6),
    "student": knowing(0.5, (1 / 3,) * 3),
}


def test_the_worked_example():
    losses = ClassroomKD().compare(step_of(**CLASS))
    said = losses.means()
    assert [said[f"active.{n}"].item() for n in ("teacher", "mentors-1", "mentors-2")] == [1, 0, 1]
    assert said["softness.mentors-2"].item() == pytest.approx(3.0, abs=1e-5)
    assert said["softness.teacher"].item() == pytest.approx(6.333333, abs=1e-5)
    student = CLASS["student"]
    teacher = 1.125 * kl_divergence(student, CLASS["teacher"], temperature=19 / 3)
    mentor = 0.75 * kl_divergence(student, CLASS["mentors-2"], temperature=3.0)
    assert losses["teacher"].item() == pytest.approx(teacher.item(), abs=1e-5)
    assert losses["mentors"].item() == pytest.approx(mentor.item(), abs=1e-5)
    assert losses["task"].item() == pytest.approx(0.5 * -math.log(0.5), abs=1e-6)
    assert losses.total().item() == pytest.approx((teacher + mentor).item() - 0.5 * math.log(0.5), abs=1e-5)


def test_a_student_that_outdoes_all_hears_nobody():
    losses = ClassroomKD().compare(step_of(**{**CLASS, "student": knowing(0.95)}))
    assert losses.total().item() == pytest.approx(-0.95 * math.log(0.95), abs=1e-6)


def test_one_equal_mentor():
    student = knowing(0.5, (0.2, 0.2, 0.6))
    losses = ClassroomKD().compare(step_of(teacher=knowing(0.5), student=student))
    expected = 0.5 * math.log(2) + 0.5 * kl_divergence(student, knowing(0.5)).item()
    assert losses.total().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("granularity", ["batch", "sample"])
def test_order_does_not_matter_and_only_the_student_gets_a_gradient(granularity):
    draw = torch.Generator().manual_seed(0)
    one, two, three, student = torch.randn(4, 6, 5, generator=draw).requires_grad_().unbind()
    labels = (0, 1, 2, 3, 4, 0)
    method = ClassroomKD(granularity=granularity)
    first = method.compare(step_of(labels, teacher=one, **{"mentors-1": two, "mentors-2": three}, student=student))
    second = ClassroomKD(granularity=granularity).compare(
        step_of(labels, teacher=three, **{"mentors-1": one, "mentors-2": two}, student=student)
    )
    assert first.total().item() == pytest.approx(second.total().item(), abs=1e-6)
    grads = torch.autograd.grad(first.total(), [one, two, three, student], allow_unused=True)
    assert [g is None for g in grads] == [True, True, True, False]


def test_the_gradient_takes_ranks_as_constants():
    student = CLASS["student"].clone().double().requires_grad_()
    logits = {name: z.double() for name, z in CLASS.items()} | {"student": student}
    ClassroomKD().compare(step_of(**logits)).total().backward()
    label = torch.tensor([[1.0, 0, 0, 0]])
    wanted = 0.5 * (student.softmax(-1) - label)
    for name, weight, tau in (("teacher", 1.125, 19 / 3), ("mentors-2", 0.75, 3.0)):
        wanted = wanted + weight * tau * ((student / tau).softmax(-1) - (logits[name] / tau).softmax(-1))
    assert torch.allclose(student.grad, wanted.detach(), atol=1e-6)


def test_each_sample_ranked_alone_is_the_mean_of_batches_of_one():
    draw = torch.Generator().manual_seed(1)
    logits = {n: 2 * torch.randn(8, 5, generator=draw) for n in ("teacher", "mentors-1", "student")}
    labels = tuple(torch.randint(5, (8,), generator=draw).tolist())
    whole = ClassroomKD(granularity="sample").compare(step_of(labels, **logits)).total()
    singles = [
        ClassroomKD().compare(step_of(labels[i : i + 1], **{n: z[i : i + 1] for n, z in logits.items()})).total()
        for i in range(8)
    ]
    assert whole.item() == pytest.approx(sum(singles).item() / 8, abs=1e-5)
    assert whole.item() != pytest.approx(ClassroomKD().compare(step_of(labels, **logits)).total().item(), abs=1e-3)


def test_a_batch_is_ranked_by_the_geometric_mean_over_its_labelled_samples():
    # The teacher's geometric mean is 0.3, the student's 0.4; the last sample has no label.
    teacher = torch.cat([knowing(0.9), knowing(0.1), knowing(0.99)])
    student = torch.cat([knowing(0.4), knowing(0.4), knowing(0.01)])
    losses = ClassroomKD().compare(step_of((0, 0, -1), teacher=teacher, student=student))
    assert losses.means()["active.teacher"].item() == 0
    assert losses["task"].tolist() == pytest.approx([0.4 * -math.log(0.4)] * 2 + [0.0], abs=1e-5)


@pytest.mark.parametrize("granularity", ["batch", "sample"])
def test_without_any_label_all_teach_as_softly_as_can_be(granularity):
    logits = {name: z for name, z in CLASS.items() if name != "mentors-2"}
    losses = ClassroomKD(granularity=granularity, tau_max=4.0).compare(step_of((-1,), **logits))
    expected = [kl_divergence(logits["student"], logits[n], temperature=5.0).item() for n in ("teacher", "mentors-1")]
    assert losses.total().item() == pytest.approx(sum(expected), abs=1e-5)


def test_the_ablations():
    student = CLASS["student"]
    names = ("teacher", "mentors-1", "mentors-2")

    def total(**method):
        return ClassroomKD(ce_weight=0.0, **method).compare(step_of(**CLASS)).total().item()

    plain = [kl_divergence(student, CLASS[n]).item() for n in names]
    assert total(select="all", mentoring="none") == pytest.approx(sum(plain), abs=1e-5)
    assert total(select="uniform", mentoring="none") == pytest.approx(sum(plain) / 3, abs=1e-5)
    assert total(select="best", mentoring="none") == pytest.approx(1.125 * plain[0], abs=1e-5)
    weighted = total(mentoring="none", teacher_weight=1.5, mentor_weight=2.0)
    assert weighted == pytest.approx(1.5 * 1.125 * plain[0] + 2.0 * 0.75 * plain[2], abs=1e-5)
    extra = total(mentoring="none", plain_teacher_weight=1.0) - total(mentoring="none")
    assert extra == pytest.approx(plain[0], abs=1e-5)


@pytest.mark.parametrize(("scale", "factor"), [("performance", 0.5), ("one", 1.0), ("one_plus", 1.5)])
def test_the_label_losss_factor(scale, factor):
    losses = ClassroomKD(ce_scale=scale).compare(step_of(**CLASS))
    assert losses["task"].item() == pytest.approx(factor * math.log(2), abs=1e-6)


def test_dtkds_temperatures():
    student, teacher = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.5, 0.0]])
    method = ClassroomKD(mentoring="dtkd", select="all", ce_weight=0.0)
    found = method.compare(step_of(teacher=teacher, student=student)).total().item()
    p, q = (teacher / 2).log_softmax(-1), (student / 6).log_softmax(-1)
    assert found == pytest.approx(12 * (p.exp() * (p - q)).sum().item(), abs=1e-5)


# ---------------------------------------------------------------------- whole runs


def taught(epochs=1, **model):
    return {"model": "mlp", "hidden": [16], **model, "weights": {"train": {"epochs": epochs, "batch_size": 32}}}


def test_accumulation_changes_nothing(recipe, go, weights):
    changes = {"mentors": [taught()], "data": {"name": "digits", "limit": 100}, "epochs": 1}
    whole = weights(go(recipe("classroomkd", **changes)))
    cut = weights(go(recipe("classroomkd", **changes, accumulate=3)))
    assert all(torch.allclose(whole[key], cut[key], rtol=1e-3, atol=1e-5) for key in whole)


def test_good_mentors_teach_and_bad_ones_fall_silent(recipe, go):
    """The card's classroom: a teacher that saw everything, a mentor of one epoch, and one that is hardly trained."""
    from sklearn.datasets import load_digits

    assert load_digits().target.shape == (1797,)
    adam = {"batch_size": 32, "optimizer": {"name": "adam", "lr": 5e-3}, "schedule": "constant"}
    sgd = {"batch_size": 300, "epochs": 1, "optimizer": {"name": "sgd", "lr": 1e-6}, "schedule": "constant"}
    report = go(
        recipe(
            "classroomkd",
            teacher={"model": "mlp", "hidden": [64], "weights": {"train": {**adam, "epochs": 40}}},
            mentors=[
                {"model": "mlp", "hidden": [16], "weights": {"train": {**adam, "epochs": 1}}},
                {"model": "mlp", "hidden": [16], "weights": {"train": sgd}},
            ],
            data={"name": "digits", "limit": 300},
            epochs=20,
        )
    ).report
    active = {row["mentor"]: row["active"] for row in report["findings"]["mentors"]}
    assert active["teacher"] > 0.95
    assert active["mentors-2"] < 0.05
    assert active["mentors-1"] < 0.5
    temperature = {row["mentor"]: row["temperature"] for row in report["findings"]["mentors"]}
    assert 1 <= temperature["teacher"] < 13


@pytest.mark.parametrize(
    ("method", "changes", "text"),
    [
        ({}, {"mentors": [{"model": "mlp"}]}, "mentors.0: the mentor 'mlp' has no weights"),
        ({}, {"teacher": {"model": "mlp"}}, "the teacher 'mlp' has no weights"),
        ({}, {"mentors": []}, "mentors"),
        ({}, {"mentors": None}, "needs 'mentors': a list of models"),
        ({"mentoring": "none", "tau_max": 4.0}, {}, "'tau_max' does nothing without `mentoring: gap`"),
        ({"dtkd_temperature": 2.0}, {}, "'dtkd_temperature' does nothing without `mentoring: dtkd`"),
        ({"select": "filtre"}, {}, "Did you mean 'filter'"),
        ({"tau_max": -1.0}, {}, "method.tau_max"),
        ({}, {"also": ["kd"]}, "has no transfer term"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(method, changes, text, recipe, go, tmp_path):
    with pytest.raises((RecipeError, InputError), match=text):
        go(recipe({"name": "classroomkd", **method}, **{"mentors": [taught()], **changes}))
    assert not list((tmp_path / "runs").glob("*"))


def test_the_label_loss_alone_is_cross_entropy():
    losses = ClassroomKD(ce_scale="one").compare(step_of(**CLASS))
    assert losses["task"].item() == pytest.approx(cross_entropy(CLASS["student"], torch.tensor([0])).item())

"""Partial KD: each target at method level, the diagnosis, and on digits: ω follows the teacher's confidence."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.digits import Digits
from tutelage.data.splits import limit
from tutelage.distill.kd import KD
from tutelage.distill.partial_kd import PartialKD
from tutelage.distill.parts.partial_diagnosis import advice, diagnose
from tutelage.engine import checkpoint
from tutelage.engine.method import Room
from tutelage.losses import gradient_rescaling, similarity_agreement
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError

TEACHER = torch.tensor([[4.0, 2.0, 0.0, -1.0], [1.0, 3.0, 0.0, 2.0]])
STUDENT = torch.tensor([[1.0, 0.5, 0.0, -0.5], [0.0, 0.5, 1.0, 0.0]])
BATCH = Batch(torch.zeros(2, 1), torch.tensor([0, 3]), torch.arange(2), torch.arange(2))
ROWS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])


def room(classes=4):
    torch.manual_seed(0)
    modules = {name: nn.Sequential(nn.Linear(3, 2), nn.Linear(2, classes)) for name in ("teacher", "student")}
    with torch.no_grad():
        if classes == 4:
            modules["teacher"][1].weight.copy_(ROWS)
    example = Batch(torch.zeros(2, 3), BATCH.labels, BATCH.ids, BATCH.seeds)
    return Room(modules, DataInfo((3,), classes, tuple("abcd"[:classes]), ""), example, ["student"])


def by_hand(target, heat, weight=0.3):
    hard = torch.nn.functional.cross_entropy(STUDENT, BATCH.labels)
    soft = -(target * (STUDENT / heat).log_softmax(-1)).sum(-1).mean()
    return ((1 - weight) * hard + weight * soft).item()


SOFT = (TEACHER / 2).softmax(-1)
SIM = torch.tensor([[0.430673, 0.352606, 0.158436, 0.058285]])
EXPECTED = {
    "ls": (torch.tensor([[0.925, 0.025, 0.025, 0.025], [0.025, 0.025, 0.025, 0.925]]), 1.0),
    "pt": (
        torch.stack(
            [torch.tensor([a, *[(1 - a) / 3] * 3]) for a in (SOFT[0, 0].item(),)]
            + [torch.tensor([*[(1 - b) / 3] * 3, b]) for b in (SOFT[1, 3].item(),)]
        ),
        2.0,
    ),
    "topk": (
        torch.stack(
            [
                torch.tensor([*SOFT[0, :2].tolist(), *[(1 - SOFT[0, :2].sum().item()) / 2] * 2]),
                torch.tensor(
                    [
                        (1 - SOFT[1, 1].item() - SOFT[1, 3].item()) / 2,
                        SOFT[1, 1].item(),
                        (1 - SOFT[1, 1].item() - SOFT[1, 3].item()) / 2,
                        SOFT[1, 3].item(),
                    ]
                ),
            ]
        ),
        2.0,
    ),
    "kd": (SOFT, 2.0),
}


@pytest.mark.parametrize("variant", EXPECTED)
def test_the_loss_of_each_target(variant):
    method = PartialKD(variant=variant, weight=0.3, temperature=2.0, k=2)
    losses = method.loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses.total().item() == pytest.approx(by_hand(*EXPECTED[variant]), abs=1e-6)


def test_similarities_come_from_the_teachers_classifier_and_are_the_same_for_a_class():
    method = PartialKD(variant="sim", weight=0.3, temperature=2.0, kappa=1.0)
    method.setup(room())
    torch.testing.assert_close(method.target(TEACHER[:1], torch.tensor([0])), SIM, atol=1e-6, rtol=0)
    torch.testing.assert_close(method.target(-TEACHER[:1], torch.tensor([0])), SIM, atol=1e-6, rtol=0)
    assert "similarity" in method.state_dict()
    both = PartialKD(variant="pt+sim", temperature=2.0, kappa=1.0)
    both.setup(room())
    target = both.target(TEACHER[:1], torch.tensor([0]))
    assert target[0, 0].item() == pytest.approx(SOFT[0, 0].item())
    torch.testing.assert_close(target[0, 1:] / target[0, 1:].sum(), SIM[0, 1:] / SIM[0, 1:].sum(), atol=1e-5, rtol=0)


def test_all_classes_and_the_factor_give_classic_distillation_its_gradient():
    gradients = []
    for method in (PartialKD(variant="kd", weight=0.3, temperature=4.0, t2_scale=True), KD(temperature=4.0, alpha=0.7)):
        student = STUDENT.clone().requires_grad_()
        method.loss(Outputs(student), Outputs(TEACHER), BATCH).total().backward()
        gradients.append(student.grad)
    torch.testing.assert_close(*gradients)


def test_the_teachers_temperature_may_be_another():
    method = PartialKD(variant="kd", temperature=2.0, target_temperature=1.0)
    torch.testing.assert_close(method.target(TEACHER, BATCH.labels), TEACHER.softmax(-1))


def test_the_rescaling_is_logged_as_a_median_and_not_minimised():
    method = PartialKD(variant="kd", weight=0.3, temperature=2.0)
    losses = method.loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    factors = gradient_rescaling(STUDENT, SOFT, BATCH.labels, weight=0.3, temperature=2.0)
    assert factors[0].item() == pytest.approx(0.777310, abs=1e-6)
    assert losses.means()["rescaling"].item() == pytest.approx(factors.median().item())
    assert set(losses) == {"task", "transfer"}


def test_the_teacher_gets_no_gradient():
    teacher, student = TEACHER.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    PartialKD(variant="topk", k=2).loss(Outputs(student), Outputs(teacher), BATCH).total().backward()
    assert teacher.grad is None


def test_what_a_ladder_says():
    said = advice({"ls": 0.92, "pt": 0.91, "topk": 0.93, "kd": 0.91})
    assert [text.split(":")[0] for text in said] == [
        "kd is no better than label smoothing",
        "topk is better than kd",
        "pt is as good as kd",
    ]
    assert advice({"ls": 0.90, "pt": 0.88, "topk": 0.90, "kd": 0.93}) == []
    assert advice({"kd": 0.9}) == []
    assert "topk is better" not in " ".join(advice({"topk": 0.93, "kd": 0.92}, margin=0.02))


# ---------------------------------------------------------------------- digits


def trained(folder, stage, name):
    splits = Digits().load(0)
    model = MLP(splits.info, hidden=[16]) if name == "student" else ConvNet(splits.info, width=8, depth=2)
    _, state = checkpoint.load(next((folder / "stages" / stage / "end").glob("step-*")))
    model.load_state_dict(state["models"][name])
    return model.eval()


def test_relations_reach_the_students_classifier_and_factors_follow_the_teachers_confidence(recipe, go):
    found = {}
    train = {"epochs": 40, "batch_size": 30, "optimizer": {"name": "adam", "lr": 2e-3}, "schedule": "constant"}
    for name, weight in (("labels", 0.0), ("sim", 0.9)):
        finished = go(
            recipe(
                {"name": "partial-kd", "variant": "sim", "weight": weight, "temperature": 2.0},
                data={"name": "digits", "limit": 300},
                train=train,
                teacher={"model": "convnet", "width": 8, "depth": 2, "weights": {"train": {**train, "epochs": 15}}},
            )
        )
        teacher = trained(finished.folder, "teacher", "teacher")
        student = trained(finished.folder, "transfer", "student")
        found[name] = similarity_agreement(student.head.weight, teacher.head.weight).item()
    assert found["sim"] > found["labels"] + 0.1

    splits = Digits().load(0)
    few = limit(splits.train, 300, 0)
    batch = few.fetch(range(300))
    torch.manual_seed(0)
    fresh = MLP(splits.info, hidden=[16])
    with torch.no_grad():
        soft = (teacher(batch.inputs) / 2).softmax(-1)
        factor = gradient_rescaling(fresh(batch.inputs), soft, batch.labels, weight=0.7, temperature=2.0)
    confidence = soft.gather(-1, batch.labels[:, None]).squeeze(-1)
    assert spearmanr(factor, confidence).statistic > 0.9

    seen = diagnose(teacher, fresh, few, weight=0.7, temperature=2.0, groups=[0, 1] * 5)
    assert [row["tenth"] for row in seen["rescaling"]] == list(range(1, 11))
    assert seen["rescaling"][0]["median_factor"] < seen["rescaling"][-1]["median_factor"]
    assert sum(row["samples"] for row in seen["histogram"]) == 300
    assert -2 <= seen["superclass_contrast_teacher"] <= 2


# ---------------------------------------------------------------------- mistakes


def test_numbers_that_do_not_fit_the_classes_are_refused(recipe, go):
    with pytest.raises(InputError, match=r"method\.k: there are 10 classes, got 11"):
        go(recipe({"name": "partial-kd", "k": 11}))
    with pytest.raises(InputError, match=r"superclasses: expected one for each of 10 classes, got 2"):
        go(recipe({"name": "partial-kd", "superclasses": [0, 1]}))


def test_a_teacher_without_a_classifier_has_no_relations():
    there = room()
    there.modules["teacher"][1] = nn.Conv1d(1, 1, 1)
    there.modules["teacher"].forward = lambda inputs: torch.zeros(len(inputs), 4)
    with pytest.raises(InputError, match="no linear classifier"):
        PartialKD(variant="sim").setup(there)


def test_an_unknown_variant_is_refused(recipe, go):
    with pytest.raises(RecipeError, match=r"method\.variant: found 'top'.*'topk'"):
        go(recipe({"name": "partial-kd", "variant": "top"}))

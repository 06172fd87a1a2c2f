"""DistilDoc: the panel's members, the teacher's classifier that answers, and what is reported of each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.distildoc import macro_f1
from tutelage.distill.parts.panel import MiddleHint, Regressor, ReviewKD, SimKD, middle
from tutelage.engine.method import Room
from tutelage.measure import Predicted
from tutelage.models.convnet import ConvNet
from tutelage.models.participant import Participant
from tutelage.models.vit import ViT
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((1, 8, 8), 4, tuple("abcd"), "")
BATCH = Batch(torch.rand(6, 1, 8, 8), torch.arange(6) % 4, torch.arange(6), torch.arange(6))
PAGES = {"name": "documents", "count": 160, "size": 16}
SHIFTED = {**PAGES, "count": 80, "fonts": ["DejaVuSerif"], "noise": 0.2, "draw_seed": 1}
CONV = {
    "teacher": {"model": "convnet", "width": 6, "depth": 2, "weights": {"train": {"epochs": 2, "batch_size": 32}}},
    "student": {"model": "convnet", "width": 3, "depth": 2},
    "data": PAGES,
}


def ready(method, teacher, student):
    """The method set up, and both models' outputs."""
    room = Room({"teacher": teacher, "student": student}, INFO, BATCH, ["student"])
    method.setup(room)
    outputs = {
        name: Participant(name, module, trainable=name == "student", taps=room.taps(name))(BATCH)
        for name, module in room.modules.items()
    }
    return outputs["student"], outputs["teacher"]


def test_equal_features_reproduce_the_teachers_logits():
    teacher = ConvNet(INFO, width=4, depth=2).eval()
    for kind in ("cnn", "cls"):
        method = SimKD(kind)
        ours, theirs = ready(method, teacher, teacher)
        method.projector = nn.Identity()
        assert method.loss(ours, theirs, BATCH).total().item() == 0.0
        assert torch.equal(method.predict(teacher, BATCH.inputs), teacher(BATCH.inputs))


@pytest.mark.parametrize("kind", ["cnn", "cls", "dual"])
def test_simkd_answers_with_the_teachers_classifier_and_without_labels(kind):
    teacher, student = ConvNet(INFO, width=6, depth=2).eval(), ViT(INFO, patch=2, dim=10, depth=2, heads=2)
    method = SimKD(kind)
    ours, theirs = ready(method, teacher, student)
    losses = method.loss(ours, theirs, BATCH)
    assert set(losses) == ({"feature", "inverse"} if kind == "dual" else {"feature"})
    losses.total().backward()
    assert method.head.weight.grad is None
    assert teacher.head.weight.grad is None
    assert next(method.projector.parameters()).grad is not None
    assert student.patches.weight.grad is not None
    assert student.head.weight.grad is None
    assert method.projector.training
    student.eval()
    with torch.no_grad():
        found = method.predict(student, BATCH.inputs)
    assert method.projector.training
    tap = ours.taps[method.tap].detach()
    method.eval()
    expected = method.answer(tap[:, -16:].transpose(1, 2).unflatten(2, (4, 4)) if kind == "cnn" else tap)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("small", "large", "kind"), [(8, 4, nn.Conv2d), (4, 8, nn.ConvTranspose2d), (6, 4, nn.Conv2d), (4, 4, nn.Conv2d)]
)
def test_a_regressor_meets_the_teachers_size(small, large, kind):
    student, teacher = torch.rand(2, 3, small, small), torch.rand(2, 5, large, large)
    regressor = Regressor(student, teacher)
    assert isinstance(regressor[0], kind)
    assert regressor(student).shape == teacher.shape
    with pytest.raises(InputError, match="as many, or half"):
        Regressor(torch.rand(2, 3, 3, 3), torch.rand(2, 5, 8, 8))


@pytest.mark.parametrize(("depth", "place"), [(4, 1), (6, 2), (1, 0)])
def test_the_middle_of_a_transformer(depth, place):
    model = ViT(INFO, patch=2, dim=4, depth=depth, heads=1)
    room = Room({"student": model}, INFO, BATCH, ["student"])
    assert middle(room, "student") == f"blocks.{place}"


def test_the_middle_of_a_network_is_its_second_stage_of_three():
    model = ConvNet(INFO, width=2, depth=3)
    assert middle(Room({"student": model}, INFO, BATCH, ["student"]), "student") == "blocks.1"


@pytest.mark.parametrize("method", [MiddleHint(1.0, None, None), ReviewKD(1.0)], ids=["hint", "review"])
def test_maps_are_compared_beside_labels(method):
    teacher, student = ConvNet(INFO, width=6, depth=2).eval(), ConvNet(INFO, width=3, depth=2)
    ours, theirs = ready(method, teacher, student)
    losses = method.loss(ours, theirs, BATCH)
    assert losses["task"].shape == (6,)
    losses.without("task").total().backward()
    assert student.blocks[0][0].weight.grad.abs().sum() > 0
    assert student.head.weight.grad is None
    assert all(parameter.grad is not None for parameter in method.parameters())
    # Deeper stages reach shallower ones: all of the student is moved by the shallowest distance.
    assert all(p.grad is not None for p in student.blocks[1].parameters()) or isinstance(method, MiddleHint)


def test_macro_f1():
    logits = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 1, 2]), 3).float()
    one = Predicted("x", logits, torch.tensor([0, 1, 1, 1, 0]), torch.arange(5))
    from sklearn.metrics import f1_score

    assert macro_f1(one) == pytest.approx(f1_score(one.labels, one.classes, average="macro", labels=[0, 1]))


def test_the_panel_is_reported_on_its_own_data_and_on_others(recipe, go):
    panel = ["ce", "kd", "mse", "nkd", "fitnet", "simkd_cls", "simkd_cnn", "reviewkd"]
    method = {
        "name": "distildoc",
        "panel": panel,
        "per_class": 5,
        "ood": [SHIFTED],
        "kd_temperatures": [5.0],
        "gammas": [1.0],
        "downstream": f"{__name__}:score",
        "recipient": "simkd_cls",
    }
    whole = recipe(method, **CONV, epochs=1)
    report = go({**whole, "measure": ["accuracy", "selective"]}).report
    found = report["findings"]
    names = [*panel, "kd-0.5-5", "nkd-1"]
    assert [row["distiller"] for row in found["panel"]] == ["teacher", *names]
    rows = {row["distiller"]: row for row in found["panel"]}
    assert rows["ce"]["gain"] == 0.0
    assert rows["teacher"]["gap"] == 0.0
    assert rows["simkd_cnn"]["parameters"] > rows["simkd_cls"]["parameters"] > rows["ce"]["parameters"]
    assert all(0 <= row["ece"] <= 1 and 0 <= row["aurc"] <= 1 for row in found["panel"])
    shifted = {row["distiller"]: row for row in found["shifted"]}
    assert shifted["kd"]["drop"] == pytest.approx(rows["kd"]["accuracy"] - shifted["kd"]["accuracy"])
    assert {shifted[name]["rank"] for name in names} >= {1}
    assert next(row["coverage"] for row in found["coverage"]) == 1.0
    assert found["coverage"][0]["kd"] == pytest.approx(rows["kd"]["accuracy"])
    assert [row["score"] for row in found["downstream"]] == [8.0] * len(names)
    by_name = {row["name"]: row["measures"] for row in report["rows"]}
    assert by_name["student"]["quality"]["accuracy"]["value"] == pytest.approx(rows["simkd_cls"]["accuracy"])
    assert by_name["student"]["calibration"]["aurc"]["value"] == pytest.approx(rows["simkd_cls"]["aurc"])
    assert any("the projector and classifier that answer" in warning for warning in report["warnings"])


def score(classifier):
    """How many classes it names."""
    return classifier(torch.rand(2, 1, 16, 16)).shape[1]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"panel": ["ce", "kdd"]}, "'kd'"),
        ({"recipient": "mse", "panel": ["kd"]}, "is not in the panel"),
        ({"downstream": "score"}, "names no function"),
        ({"downstream": "tutelage.nothing:score"}, "cannot be imported"),
        ({"ood": [{**SHIFTED, "size": 24}]}, r"expected \[1, 16, 16\] in 8"),
        ({"student_tap": "blokcs"}, "blokcs"),
        ({"stages": [{"train": {"epochs": 1}}]}, "makes its own stages"),
    ],
)
def test_mistakes(changes, text, recipe, go):
    whole = {**CONV, **{k: v for k, v in changes.items() if k == "stages"}}
    method = {"name": "distildoc", **{k: v for k, v in changes.items() if k != "stages"}}
    with pytest.raises((RecipeError, InputError), match=text):
        go(recipe(method, **whole))

"""e²KD: the card's linear models, double backward, who is explained and how often, frozen maps, and an outcome."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tutelage.data.augment import Cutout, Shift
from tutelage.data.batch import Batch, DataInfo
from tutelage.data.loader import apply
from tutelage.distill.e2kd import E2KD
from tutelage.distill.parts.explainers import Bcos, Explainer, GradCam, InputGradient
from tutelage.distill.parts.frozen_maps import FrozenMaps
from tutelage.engine.method import Room, Step
from tutelage.losses import explanation_distance, kl_divergence, one_against_rest
from tutelage.models.bcos import BcosNet
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.models.vit import ViT
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((1, 8, 8), 10, tuple("0123456789"), "")
BATCH = Batch(torch.rand(4, 1, 8, 8), torch.arange(4), torch.arange(4), torch.arange(4))


def ready(teacher, student, batch=BATCH, index=0, **arguments):
    """The method and a step with both models, as the engine makes them."""
    method = E2KD(**arguments)
    room = Room({"teacher": teacher, "student": student}, INFO, batch, ["student"])
    method.setup(room)
    people = {}
    for name, module in room.modules.items():
        trained = name == "student"
        grown = trained or name in room.differentiated
        people[name] = Participant(name, module, trainable=trained, gradients=grown, taps=room.taps(name))
        people[name].mode(True)
    return method, Step(batch, people, index, 0, 0.0)


def linear(*rows):
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight = nn.Parameter(torch.tensor(rows))
    return layer


def test_the_linear_models_of_the_card():
    teacher, student = linear([1.0, 2.0, 0.0], [0.0, 1.0, 1.0]), linear([2.0, 1.0, 0.0], [0.0, 1.0, 0.0])
    batch = Batch(
        torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 3.0]]), torch.tensor([0, 1]), torch.arange(2), torch.arange(2)
    )
    method, step = ready(teacher, student, batch, explainer=InputGradient(), lambda_exp=5.0)
    losses = method.compare(step)
    assert losses["explanation"].tolist() == pytest.approx([0.2, 0.292893], abs=1e-6)
    assert losses["transfer"].mean().item() == pytest.approx(0.4680315, abs=1e-6)
    assert losses.total().item() == pytest.approx(1.7002646, abs=1e-6)
    losses["explanation"].mean().backward()
    expected = torch.tensor([[0.06, -0.12, 0.0], [0.0, 0.0, -0.353553]])
    torch.testing.assert_close(student.weight.grad, expected, atol=1e-6, rtol=0)
    assert teacher.weight.grad is None


@pytest.mark.parametrize("explainer", [GradCam(), GradCam(signed=True), InputGradient(times_input=True)])
def test_the_gradient_is_that_of_the_whole_loss(explainer):
    """Finite differences in float64 see the gradient that goes through the gradients in the map."""
    torch.manual_seed(0)
    teacher, student = ConvNet(INFO, width=3, depth=2).double(), ConvNet(INFO, width=2, depth=2).double()
    batch = BATCH.with_(inputs=BATCH.inputs.double())
    method, step = ready(teacher, student, batch, explainer=explainer)
    method.compare(step).total().backward()
    for weight in (student.head.weight, student.blocks[1][3].weight):
        for place in (0, weight.numel() // 2, weight.numel() - 1):
            values = []
            for move in (1e-6, -1e-6):
                with torch.no_grad():
                    weight.view(-1)[place] += move
                values.append(method.compare(step).total().item())
                with torch.no_grad():
                    weight.view(-1)[place] -= move
            assert weight.grad.view(-1)[place].item() == pytest.approx(
                (values[0] - values[1]) / 2e-6, rel=2e-3, abs=1e-7
            )


def test_without_the_gradient_in_the_map_it_would_be_another():
    student = ConvNet(INFO, width=4)
    method, step = ready(ConvNet(INFO), student, kd_weight=0.0)
    method.compare(step).total().backward()
    # The classifier's weight is in the map through the gradient alone.
    assert student.head.weight.grad.abs().sum() > 0


def test_the_same_model_costs_nothing_and_scale_does_not_count():
    teacher = ConvNet(INFO)
    student = copy.deepcopy(teacher)
    method, step = ready(teacher, student)
    step.participants["student"].mode(False)
    assert method.compare(step)["explanation"].abs().max() < 1e-5
    with torch.no_grad():
        student.head.weight *= 3.0
    assert method.compare(step)["explanation"].abs().max() < 1e-5


def test_an_opposite_signed_map_costs_two():
    teacher = ConvNet(INFO)
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.head.weight *= -1.0
    method, step = ready(teacher, student, explainer=GradCam(signed=True))
    step.participants["student"].mode(False)
    torch.testing.assert_close(method.compare(step)["explanation"], torch.full((4,), 2.0))


class Counting(Explainer):
    def __init__(self):
        self.calls = []

    def explain(self, name, outputs, inputs, score, *, graph):
        self.calls.append((name, graph))
        return inputs if name == "teacher" else inputs * outputs.logits.sum()


def test_without_weight_no_map_is_made_and_it_is_plain_kd():
    explainer = Counting()
    method, step = ready(ConvNet(INFO), ConvNet(INFO, width=4), explainer=explainer, lambda_exp=0.0, temperature=3.0)
    losses = method.compare(step)
    assert set(losses) == {"transfer"}
    assert explainer.calls == []
    with torch.no_grad():
        logits = [step.forward(name).logits for name in ("student", "teacher")]
    assert losses.total().item() == pytest.approx(kl_divergence(*logits, temperature=3.0).mean().item(), rel=1e-4)


def test_sparse_guidance_explains_every_nth_step():
    explainer = Counting()
    method, step = ready(ConvNet(INFO), ConvNet(INFO, width=4), explainer=explainer, every_n_batches=3)
    seen = []
    for index in range(7):
        losses = method.compare(Step(step.batch, step.participants, index, 0, 0.0))
        seen.append("explanation" in losses)
    assert seen == [True, False, False, True, False, False, True]
    assert explainer.calls == [("teacher", False), ("student", True)] * 3


@pytest.mark.parametrize("whose", ["teacher_top1", "label", "student_top1"])
def test_both_explain_the_class_that_was_asked_for(whose):
    """A head whose rows are unit vectors makes the gradient at the last layer tell the class."""
    torch.manual_seed(1)
    models = {name: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for name in ("teacher", "student")}
    method, step = ready(**models, explainer=InputGradient(), explain_class=whose)
    with torch.no_grad():
        tops = {name: step.forward(name).logits.argmax(1) for name in models}
    classes = {"teacher_top1": tops["teacher"], "student_top1": tops["student"], "label": BATCH.labels}[whose]
    rows = [models[name][1].weight[classes] for name in ("student", "teacher")]
    torch.testing.assert_close(method.compare(step)["explanation"], explanation_distance(*rows))


def test_the_teacher_stays_as_it_was():
    teacher = ConvNet(INFO)
    before = copy.deepcopy(teacher.state_dict())
    method, step = ready(teacher, ConvNet(INFO, width=4), explainer=InputGradient())
    method.compare(step).total().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(m.training for m in teacher.modules())
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())


@pytest.mark.parametrize("resize", ["image", "smaller"])
def test_a_transformer_explains_by_its_patches_and_is_differentiated_twice(resize):
    student = ViT(INFO, patch=2, dim=16, depth=1, heads=2, pool="token")
    # Behind the last block nothing mixes tokens, so the class token alone would have a gradient there.
    explainer = GradCam(feature="features") if resize == "image" else InputGradient()
    if resize == "image":
        student = ViT(INFO, patch=2, dim=16, depth=1, heads=2)
    method, step = ready(ConvNet(INFO, depth=2), student, explainer=explainer, resize=resize)
    method.compare(step).total().backward()
    assert student.blocks[0].attention.mix.weight.grad.isfinite().all()


def test_labels_beside_answers():
    teacher, student = ConvNet(INFO), ConvNet(INFO, width=4)
    for kind in ("ce", "bce"):
        method, step = ready(teacher, student, ce_weight=0.5, label_loss=kind, kd_weight=0.0, lambda_exp=0.0)
        step.participants["student"].mode(False)
        logits = step.forward("student").logits
        by_hand = nn.functional.cross_entropy(logits, BATCH.labels) if kind == "ce" else None
        expected = by_hand if by_hand is not None else one_against_rest(logits, BATCH.labels).mean()
        assert method.compare(step).total().item() == pytest.approx(0.5 * expected.item(), rel=1e-5)


# ---------------------------------------------------------------------- B-cos


def test_a_bcos_network_is_the_linear_map_that_it_is_explained_by():
    network = BcosNet(INFO, width=4, depth=2, b=2.5).double()
    batch = BATCH.with_(inputs=BATCH.inputs.double())
    method, step = ready(network, copy.deepcopy(network), batch, explainer=Bcos())
    classes = torch.tensor([3, 1, 4, 1])
    with method.viewing(step) as seen:
        outputs = seen.forward("student")
        maps = method.map_of("student", outputs, seen.batch, classes, graph=True)
    told = (maps * network.encode(batch.inputs)).sum((1, 2, 3)) + network.prior
    torch.testing.assert_close(told, outputs.logits.gather(1, classes[:, None])[:, 0])
    # Outside an explanation the factors have their gradient too.
    plain = torch.autograd.grad(outputs.logits.sum(), outputs.taps["encode"])[0]
    torch.testing.assert_close(plain.sum(), _slope(network, batch.inputs), rtol=1e-4, atol=1e-6)


def _slope(network, inputs):
    """Directional derivative of all logits along equal steps of every encoded number, by finite differences."""
    encoded = network.encode(inputs)
    values = []
    for move in (1e-6, -1e-6):
        values.append(network.scale * network.head(network.blocks(encoded + move)).mean((2, 3)).sum())
    return (values[0] - values[1]).detach() / 2e-6


def test_bcos_students_learn_through_their_factors():
    student = BcosNet(INFO, width=4, depth=2)
    method, step = ready(BcosNet(INFO, width=6, depth=2), student, explainer=Bcos(), kd_weight=0.0)
    losses = method.compare(step)
    losses.total().backward()
    assert set(losses) == {"transfer", "explanation"}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())


# ---------------------------------------------------------------------- frozen maps


def test_frozen_maps_move_with_their_images():
    maps = torch.rand(6, 1, 8, 8)
    images = Batch(maps[[4, 1]], torch.zeros(2).long(), torch.tensor([14, 11]), torch.tensor([5, 6]))
    chain = [Cutout(size=2), Shift(pixels=3)]
    frozen = FrozenMaps(torch.arange(10, 16), torch.arange(6.0)[:, None].repeat(1, 3), maps, chain)
    logits, found = frozen.look(apply(images, chain))
    assert logits[:, 0].tolist() == [4.0, 1.0]
    moved = apply(images, [lambda batch: batch, Shift(pixels=3)]).inputs
    assert torch.equal(found, moved)
    assert not torch.equal(found, maps[[4, 1]])
    with pytest.raises(InputError, match="none of sample 99"):
        frozen.look(images.with_(ids=torch.tensor([99, 11])))
    with pytest.raises(InputError, match="moves a map"):
        FrozenMaps(torch.arange(6), maps, maps, [lambda batch: batch])


CONVNETS = {
    "teacher": {"model": "convnet", "width": 6, "depth": 2, "weights": {"train": {"epochs": 3}}},
    "student": {"model": "convnet", "width": 4, "depth": 2},
}


@pytest.mark.slow
def test_frozen_maps_teach_what_live_maps_teach(recipe, go, weights, tmp_path):
    """Without augmentation the two are the same run; the file is found again, and refused for another teacher."""
    path = str(tmp_path / "new" / "maps.safetensors")
    runs = [
        weights(go(recipe({"name": "e2kd", "frozen_maps": frozen}, **CONVNETS, epochs=1)))
        for frozen in (False, path, path)
    ]
    for other in runs[1:]:
        for name, tensor in runs[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-4)
    teacher = {**CONVNETS["teacher"], "weights": {"train": {"epochs": 1}}}
    with pytest.raises(InputError, match="another teacher"):
        go(recipe({"name": "e2kd", "frozen_maps": path}, **{**CONVNETS, "teacher": teacher}, epochs=1))


# ---------------------------------------------------------------------- whole runs


def test_students_given_reasons_explain_more_like_their_teacher(recipe, go):
    found = {}
    for weight in (0.0, 10.0):
        finished = go(recipe({"name": "e2kd", "lambda_exp": weight}, **CONVNETS, epochs=8))
        found[weight] = finished.report["findings"]["mean cosine of explanations"]
    assert found[10.0] > found[0.0] + 0.03


def test_it_goes_beside_another_method(recipe, go):
    finished = go(recipe("kd", also=[{"name": "e2kd", "kd_weight": 0.0}], **CONVNETS, epochs=1))
    assert finished.report["status"] == "done"


@pytest.mark.parametrize(
    ("teacher", "arguments", "said"),
    [
        (MLP(INFO), {}, "expected a feature map"),
        (ConvNet(INFO), {"explainer": Bcos()}, "encode"),
        (ConvNet(INFO), {"explainer": Bcos(at="blocks.0")}, "no B-cos network"),
    ],
)
def test_explainers_that_do_not_fit_are_refused(teacher, arguments, said):
    with pytest.raises(InputError, match=said):
        ready(teacher, ConvNet(INFO), **arguments)


def test_what_has_no_influence_cannot_be_explained():
    method, step = ready(ConvNet(INFO), ConvNet(INFO), explainer=GradCam(feature="blocks.0"))
    step.participants["teacher"].gradients = False
    with pytest.raises(InputError, match=r"the tap 'blocks.0' of the teacher cannot be explained"):
        method.compare(step)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"name": "e2kd", "explainer": "gradcm"}, "gradcam"),
        ({"name": "e2kd", "frozen_maps": True, "explain_class": "student_top1"}, "before there is a student"),
        ({"name": "e2kd", "every_n_batches": 0}, "every_n_batches"),
    ],
)
def test_bad_recipes(recipe, go, method, said):
    with pytest.raises(RecipeError, match=said):
        go(recipe(method, **CONVNETS))


def test_frozen_maps_are_the_recipes_own_methods(recipe, go):
    with pytest.raises(InputError, match="not one of `also`"):
        go(recipe("kd", also=[{"name": "e2kd", "frozen_maps": True}], **CONVNETS, epochs=1))

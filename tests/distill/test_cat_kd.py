"""CAT-KD: maps by hooks against the rebuilt network, the paper's switches, and what maps teach without labels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.cat_kd import CATKD, render
from tutelage.engine.method import Room
from tutelage.losses import class_attention
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.models.resnet import ResNet
from tutelage.models.vit import ViT
from tutelage.recipe.errors import InputError

INFO = DataInfo((1, 8, 8), 10, tuple("0123456789"), "")
BATCH = Batch(torch.rand(4, 1, 8, 8), torch.arange(4), torch.arange(4), torch.arange(4))
CONVNETS = {
    "teacher": {"model": "convnet", "width": 8, "depth": 2, "weights": {"train": {"epochs": 12}}},
    "student": {"model": "convnet", "width": 8, "depth": 2},
}


def ready(teacher, student, **arguments):
    """The method set up, and both models' outputs."""
    method = CATKD(**arguments)
    room = Room({"teacher": teacher, "student": student}, INFO, BATCH, ["student"])
    method.setup(room)
    outputs = {}
    for name, module in room.modules.items():
        outputs[name] = Participant(name, module.eval(), trainable=name == "student", taps=room.taps(name))(BATCH)
    return method, outputs["student"], outputs["teacher"]


class Rebuilt(nn.Module):
    """The authors' form: the classifier as a convolution without bias before the average."""

    def __init__(self, network):
        super().__init__()
        self.body = network.blocks
        self.maps = nn.Conv2d(network.head.in_features, network.head.out_features, 1, bias=False)
        self.maps.weight = nn.Parameter(network.head.weight.detach()[:, :, None, None].clone())

    def forward(self, inputs):
        return self.maps(self.body(inputs))


@pytest.mark.parametrize("build", [ConvNet, lambda info: ResNet(info, depth=8, width=4)])
def test_maps_are_those_of_the_rebuilt_network(build):
    student = build(INFO)
    if isinstance(student, ResNet):
        student.blocks = nn.Sequential(student.stem, student.blocks)
        student.stem = nn.Identity()
    method, ours, theirs = ready(ConvNet(INFO), student)
    maps, targets = method.maps(ours, theirs)
    torch.testing.assert_close(maps, Rebuilt(student)(BATCH.inputs))
    torch.testing.assert_close(maps.mean((2, 3)) + student.head.bias, ours.logits)
    assert not targets.requires_grad


def test_tokens_have_maps_too():
    """A transformer that averages its tokens has exact maps, on the grid of its patches."""
    student = ViT(INFO, patch=(2, 4), dim=16, depth=1)
    method, ours, theirs = ready(ConvNet(INFO), student)
    maps, _ = method.maps(ours, theirs)
    assert maps.shape == (4, 10, 4, 2)
    torch.testing.assert_close(maps.mean((2, 3)) + student.head.bias, ours.logits)


def test_gradients_reach_the_students_body_and_classifier_but_not_the_teacher():
    teacher, student = ConvNet(INFO), ConvNet(INFO, width=8)
    method, ours, theirs = ready(teacher, student, ce_weight=0.0)
    method.loss(ours, theirs, BATCH).total().backward()
    assert student.head.weight.grad.abs().sum() > 0
    assert student.blocks[0][0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert list(method.parameters()) == []


def test_the_terms_and_their_weights():
    method, ours, theirs = ready(ConvNet(INFO), ConvNet(INFO), cat_weight=3.0, ce_weight=0.5)
    losses = method.loss(ours, theirs, BATCH)
    maps = class_attention(*method.maps(ours, theirs)).mean()
    cross = nn.functional.cross_entropy(ours.logits, BATCH.labels)
    assert losses.total().item() == pytest.approx((0.5 * cross + 3 * maps).item(), rel=1e-5)
    assert set(ready(ConvNet(INFO), ConvNet(INFO), ce_weight=0.0)[0].loss(ours, theirs, BATCH)) == {"maps"}


def test_the_same_network_costs_nothing_and_its_classes_can_be_chosen():
    teacher = ConvNet(INFO)
    for arguments in ({}, {"normalize": False}, {"classes": "top", "class_count": 3}):
        method, ours, theirs = ready(teacher, teacher, **arguments)
        assert method.loss(ours, theirs, BATCH)["maps"].abs().max() < 1e-9


@pytest.mark.parametrize(("classes", "largest"), [("top", True), ("bottom", False)])
def test_chosen_classes_are_the_teachers(classes, largest):
    method, ours, theirs = ready(ConvNet(INFO), ConvNet(INFO), classes=classes, class_count=2, normalize=False)
    maps, targets = method.maps(ours, theirs)
    expected = []
    for sample in range(4):
        order = theirs.logits[sample].argsort(descending=largest)[:2]
        pair = [torch.nn.functional.adaptive_avg_pool2d(m[sample][order], 2) for m in (maps, targets)]
        expected.append((pair[0] - pair[1]).square().mean().item())
    assert method.loss(ours, theirs, BATCH)["maps"].tolist() == pytest.approx(expected, rel=1e-4)


def test_binary_targets_are_compared_pooled():
    method, ours, theirs = ready(ConvNet(INFO), ConvNet(INFO), binarize=True, resolution=1, normalize=False)
    maps, targets = method.maps(ours, theirs)
    share = (targets > targets.abs().mean((2, 3), keepdim=True)).float().mean((2, 3))
    by_hand = (maps.mean((2, 3)) - share).square().mean(1)
    torch.testing.assert_close(method.loss(ours, theirs, BATCH)["maps"], by_hand)


def test_without_a_bias_logits_are_the_means_of_maps():
    student = ConvNet(INFO)
    method, ours, theirs = ready(ConvNet(INFO), student, bias=False)
    torch.testing.assert_close(method.maps(ours, theirs)[0].mean((2, 3)), ours.logits)
    assert not student.head.bias.requires_grad


@pytest.mark.parametrize(
    ("student", "arguments", "said"),
    [
        (MLP(INFO), {}, "expected a feature map"),
        (ViT(INFO, pool="token", patch=2), {}, "does not see the mean"),
        (ConvNet(INFO), {"feature": "blocks.0"}, "does not see the mean"),
        (ConvNet(INFO), {"classifier": "blocks.0"}, "expected its linear classifier"),
        (ConvNet(INFO), {"classes": "top"}, "got nothing with 'top'"),
        (ConvNet(INFO), {"class_count": 2}, "got 2 with 'all'"),
        (ConvNet(INFO), {"classes": "top", "class_count": 11}, "11 of 10 classes"),
    ],
)
def test_what_has_no_exact_maps_is_refused(student, arguments, said):
    with pytest.raises(InputError, match=said):
        ready(ConvNet(INFO), student, **arguments)


def test_maps_are_drawn_side_by_side(tmp_path):
    labels = torch.tensor([3, 1, 4, 1])
    path = render(ConvNet(INFO), ViT(INFO, patch=4), BATCH.with_(labels=labels), tmp_path / "new" / "maps.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="expected a feature map"):
        render(ConvNet(INFO), MLP(INFO), BATCH, tmp_path / "maps.png")


def test_maps_alone_teach_the_classes(recipe, go):
    """No label is seen by the student: what it knows came through the maps."""
    finished = go(
        recipe(
            {"name": "cat-kd", "ce_weight": 0.0, "cat_weight": 1.0, "normalize": False},
            **CONVNETS,
            epochs=20,
            batch_size=16,
            data={"name": "digits", "limit": 300},
        )
    )
    accuracy = finished.report["arrived"]["after"]["value"]
    assert accuracy > 0.7

"""TRG: which tokens are compared, how terms are weighted and scheduled, and an outcome on digits."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.trg import TRG
from tutelage.engine.method import Room
from tutelage.engine.ramps import Ramps
from tutelage.losses import context_distance, graph_divergence, kl_divergence, token_contrast
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.models.vit import ViT
from tutelage.recipe.errors import InputError

INFO = DataInfo((1, 8, 8), 10, tuple("0123456789"), "")
BATCH = Batch(torch.rand(4, 1, 8, 8), torch.arange(4), torch.arange(4), torch.arange(4))


def ready(teacher, student, **arguments):
    """The method set up, and both models' outputs."""
    method = TRG(**arguments)
    ramps = Ramps(method)
    room = Room({"teacher": teacher, "student": student}, INFO, BATCH, ["student"])
    method.setup(room)
    outputs = {}
    for name, module in room.modules.items():
        outputs[name] = Participant(name, module.eval(), trainable=name == "student", taps=room.taps(name))(BATCH)
    return method, outputs["student"], outputs["teacher"], ramps


def test_terms_and_weights():
    weights = {"inner_weight": 2.0, "local_weight": 3.0, "global_weight": 4.0, "logit_weight": 5.0, "task_weight": 0.5}
    method, ours, theirs, _ = ready(ConvNet(INFO), ConvNet(INFO, width=8), **weights, sample=1000, k=3, temperature=2.0)
    losses = method.loss(ours, theirs, BATCH)
    student, teacher = (o.features.flatten(2).transpose(1, 2) for o in (ours, theirs))
    every = [one.flatten(0, 1) for one in (student, teacher)]
    expected = {
        "task": nn.functional.cross_entropy(ours.logits, BATCH.labels),
        "transfer": kl_divergence(ours.logits, theirs.logits, temperature=2.0).mean(),
        "inner": context_distance(student, teacher).mean(),
        "local": graph_divergence(*every, neighbours=3).mean(),
        "global": token_contrast(method.projection(every[0]), every[1], temperature=0.5).mean(),
    }
    assert set(losses) == set(expected)
    for name, value in expected.items():
        assert losses.means()[name].item() == pytest.approx(value.item(), rel=1e-4), name
    factors = (0.5, 5.0, 2.0, 3.0, 4.0)
    total = sum(f * v.item() for f, v in zip(factors, expected.values(), strict=True))
    assert losses.total().item() == pytest.approx(total, rel=1e-4)


def test_a_turned_copy_of_the_teacher_costs_nothing_but_the_search():
    teacher = ConvNet(INFO)
    method, ours, _, _ = ready(teacher, teacher)
    turn = torch.linalg.qr(torch.randn(128, 128, generator=torch.Generator().manual_seed(0))).Q
    turned = torch.einsum("bchw,cd->bdhw", ours.features, turn)
    losses = method.loss(type(ours)(ours.logits, {"features": turned}), ours, BATCH)
    assert losses["inner"].abs().max() < 1e-6
    assert losses["local"].abs() < 1e-5
    assert losses["transfer"].abs().max() < 1e-5
    assert losses["global"] > 0


def test_both_sides_draw_the_same_places_and_as_many_of_each_image():
    """A token says in its features which image and place it is from; drawn ones agree on both sides."""
    method, _, _, _ = ready(ConvNet(INFO), ConvNet(INFO), sample=12, k=2)
    where = torch.arange(4 * 16, dtype=torch.float32).reshape(4, 16, 1)
    seen = []

    class Watch(nn.Module):
        def forward(self, tokens):
            seen.append(tokens[:, 0])
            return tokens

    method.projection = Watch()
    torch.manual_seed(0)
    found = [method._across(where, where) for _ in range(2)]
    assert [(s // 16).long().bincount().tolist() for s in seen] == [[3, 3, 3, 3]] * 2
    assert not torch.equal(*seen)
    # Neighbours on a line are the same on both sides only if the same places were drawn.
    assert all(one["local"].abs() < 1e-6 for one in found)


def test_transformers_give_patches_without_the_class_token():
    teacher, student = ViT(INFO, patch=2, dim=16, depth=1, pool="token"), ViT(INFO, patch=(4, 2), dim=8, depth=1)
    method, ours, theirs, _ = ready(teacher, student)
    mine, target = method.tokens(ours, theirs)
    assert (mine.shape, target.shape) == ((4, 8, 8), (4, 8, 16))
    by_hand = theirs.features[:, 1:].transpose(1, 2).reshape(4, 16, 4, 4)
    by_hand = nn.functional.avg_pool2d(by_hand, (2, 1)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(target, by_hand.detach())


def test_cells_are_averaged_and_grids_made_equal():
    method, ours, theirs, _ = ready(ConvNet(INFO, depth=1), ConvNet(INFO, depth=2), cell=2)
    mine, target = method.tokens(ours, theirs)
    assert mine.shape[:2] == target.shape[:2] == (4, 4)
    by_hand = nn.functional.avg_pool2d(theirs.features, 4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(target, by_hand)


def test_the_search_sharpens_with_training():
    method, _, _, ramps = ready(ConvNet(INFO), ConvNet(INFO), tau=(0.5, 0.1))
    seen = []
    for progress in (0.0, 0.5, 1.0):
        ramps.set(progress)
        seen.append(method.tau)
    assert seen == pytest.approx([0.5, 0.3, 0.1])


def test_one_image_of_one_place_has_no_neighbours():
    method, ours, theirs, _ = ready(ConvNet(INFO, depth=3), ConvNet(INFO, depth=3), cell=2)
    one = [type(o)(o.logits[:1], {"features": o.features[:1]}) for o in (ours, theirs)]
    losses = method.loss(*one, BATCH.with_(labels=BATCH.labels[:1]))
    assert set(losses) == {"task", "transfer", "inner"}
    assert losses.total().isfinite()


def test_the_teacher_gets_no_gradient():
    teacher, student = ConvNet(INFO), ConvNet(INFO, width=8)
    method, ours, theirs, _ = ready(teacher, student, task_weight=0.0, logit_weight=0.0, k=3)
    losses = method.loss(ours, theirs, BATCH)
    assert set(losses) == {"inner", "local", "global"}
    losses.total().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert student.blocks[0][0].weight.grad.abs().sum() > 0
    assert method.projection.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("student", "arguments", "said"),
    [
        (MLP(INFO), {}, "expected a feature map"),
        (ConvNet(INFO), {"cell": 5}, "method.cell: 5 is more"),
        (ConvNet(INFO), {"feature": "blokcs"}, "blocks"),
    ],
)
def test_layers_without_tokens_are_refused(student, arguments, said):
    with pytest.raises(InputError, match=said):
        ready(ConvNet(INFO), student, **arguments)


@pytest.mark.slow
def test_each_relation_is_learned(recipe, go):
    """All three terms fall from what they were in the first epoch; the search is for the same partner throughout."""
    weights = {"inner_weight": 50.0, "local_weight": 20.0, "global_weight": 1.0}
    finished = go(
        recipe(
            {"name": "trg", "tau": [0.3, 0.3], "temperature": 2.0, "sample": 64, **weights},
            teacher={"model": "convnet", "width": 8, "depth": 2, "weights": {"train": {"epochs": 10}}},
            student={"model": "convnet", "width": 8, "depth": 2},
            epochs=20,
            batch_size=16,
        )
    )
    history = json.loads((finished.folder / "stages" / "transfer" / "record.json").read_text())["history"]
    for term in ("inner", "local", "global"):
        values = [epoch["losses"][f"transfer/{term}"] for epoch in history]
        assert all(math.isfinite(value) for value in values)
        assert values[-1] < 0.8 * values[0], term
    (table,) = finished.report["findings"].values()
    assert [(row["images a class"], row["classes"]) for row in table] == [("medium, 20 to 100", 10)]
    assert table[0]["student"] == pytest.approx(finished.report["arrived"]["after"]["value"])

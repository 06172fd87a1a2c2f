"""FitNet: the projector, the two stages, and that four recipes of one kind differ in a few lines."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.fitnet import FitNet
from tutelage.distill.parts.features import Projector, same_positions
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "distill"


def test_the_hint_is_half_the_squared_distance_through_the_projector():
    method = FitNet(reduction="sum", hint_weight=2.0)
    ours, theirs = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    method.projector = Projector(ours, theirs)
    batch = Batch(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), torch.arange(2), torch.arange(2))
    outputs = [Outputs(torch.zeros(2, 2), {"features": f}) for f in (ours, theirs)]
    losses = method.loss(*outputs, batch)
    weight, bias = method.projector.map.weight[:, :, 0, 0], method.projector.map.bias
    by_hand = 0.5 * (torch.einsum("oc,bchw->bohw", weight, ours) + bias[:, None, None] - theirs).square().sum((1, 2, 3))
    assert torch.allclose(losses["hint"], by_hand, rtol=1e-5)
    assert losses.total().item() == pytest.approx(2.0 * by_hand.mean().item(), rel=1e-5)
    method.reduction = "mean"
    assert torch.allclose(method.loss(*outputs, batch)["hint"], by_hand / (5 * 4 * 4), rtol=1e-5)


def test_equal_widths_need_no_projector_and_maps_are_pooled_to_fit():
    assert not list(Projector(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 2, 2)).parameters())
    large = torch.arange(16.0).view(1, 1, 4, 4)
    for pair in (same_positions(large, small := torch.zeros(1, 1, 2, 2)), same_positions(small, large)[::-1]):
        assert pair[0].flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
        assert pair[1] is small


def test_layers_of_different_forms_are_refused():
    with pytest.raises(InputError, match="of the same form"):
        Projector(torch.zeros(1, 3), torch.zeros(1, 3, 2, 2))


def test_the_hint_comes_closer_and_the_head_waits(recipe, go):
    images = {"teacher": {"model": "convnet", "width": 6, "depth": 2, "weights": {"train": {"epochs": 1}}}}
    finished = go(
        recipe(
            {"name": "fitnet", "teacher_tap": "blocks.1", "student_tap": "blocks.1"},
            student={"model": "convnet", "width": 4, "depth": 2},
            epochs=6,
            **images,
        )
    )
    import json

    history = json.loads((finished.folder / "stages" / "transfer" / "record.json").read_text())["history"]
    hints = [epoch["losses"]["transfer/hint"] for epoch in history]
    assert hints[-1] < 0.7 * hints[0]


def test_two_stages_train_one_student(recipe, go):
    mapping = recipe(
        "fitnet",
        stages=[
            {"name": "hint", "train": {"epochs": 1}},
            {"name": "distil", "method": {"name": "kd"}, "train": {"epochs": 2}},
        ],
    )
    finished = go(mapping)
    assert {p.name for p in (finished.folder / "stages").iterdir()} == {"teacher", "hint", "distil"}


def test_a_tap_that_is_not_there(recipe, go):
    with pytest.raises(InputError, match="blokcs"):
        go(recipe({"name": "fitnet", "student_tap": "blokcs"}))


def test_four_kinds_of_transfer_differ_in_a_few_lines():
    """Classic, hints in two stages, attention and relations: the same file but for what the method needs."""
    classic = (RECIPES / "kd.yaml").read_text().splitlines()
    for other in ("fitnet", "attention-transfer", "rkd"):
        lines = difflib.unified_diff(classic, (RECIPES / f"{other}.yaml").read_text().splitlines(), n=0, lineterm="")
        changed = [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]
        assert 0 < len(changed) < 25, other

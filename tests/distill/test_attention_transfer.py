"""AT: what is compared, how it is weighted, and an outcome on digits."""

from __future__ import annotations

import json

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.distill.attention_transfer import AttentionTransfer
from tutelage.losses import attention_transfer
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError

BATCH = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.arange(2), torch.arange(2))


def test_pairs_are_averaged_and_weighted():
    taps = {"a": torch.randn(2, 3, 4, 4), "b": torch.randn(2, 6, 2, 2)}
    targets = {"x": torch.randn(2, 5, 4, 4), "y": torch.randn(2, 7, 4, 4)}
    method = AttentionTransfer(pairs=[("a", "x"), ("b", "y")], beta=10.0)
    losses = method.loss(Outputs(torch.zeros(2, 2), taps), Outputs(torch.zeros(2, 2), targets), BATCH)
    pooled = torch.nn.functional.avg_pool2d(targets["y"], 2)
    by_hand = (attention_transfer(taps["a"], targets["x"]) + attention_transfer(taps["b"], pooled)) / 2
    assert torch.allclose(losses["attention"], by_hand)
    assert losses.total().item() == pytest.approx(torch.log(torch.tensor(2.0)).item() + 10 * by_hand.mean().item())


def test_the_same_map_costs_nothing_whatever_its_scale_and_channels():
    seen = torch.rand(2, 1, 4, 4)
    student, teacher = {"features": 3.0 * seen.repeat(1, 4, 1, 1)}, {"features": seen}
    losses = AttentionTransfer().loss(Outputs(torch.zeros(2, 2), student), Outputs(torch.zeros(2, 2), teacher), BATCH)
    assert losses["attention"].abs().max() < 1e-12


def test_maps_come_closer_than_the_controls(recipe, go):
    finished = go(
        recipe(
            {"name": "attention-transfer", "pairs": [["blocks.0", "blocks.0"]]},
            teacher={"model": "convnet", "width": 6, "depth": 2, "weights": {"train": {"epochs": 2}}},
            student={"model": "convnet", "width": 4, "depth": 2},
            epochs=8,
        )
    )
    history = json.loads((finished.folder / "stages" / "transfer" / "record.json").read_text())["history"]
    maps = [epoch["losses"]["transfer/attention"] for epoch in history]
    assert maps[-1] < 0.7 * maps[0]


def test_a_tap_without_positions_is_refused(recipe, go):
    with pytest.raises(InputError, match="expected a feature map"):
        go(recipe({"name": "attention-transfer", "pairs": [["embedding", "embedding"]]}))


def test_no_pair_is_no_method(recipe, go):
    with pytest.raises(RecipeError, match="pairs"):
        go(recipe({"name": "attention-transfer", "pairs": []}))

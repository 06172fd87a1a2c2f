"""Optimisers and schedules by name do what torch's own do, and a tracker that is not there is said."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.conftest import distillation, run

from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import registry

TORCHS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {"amsgrad": True}),
    "adamw": ("AdamW", {"betas": (0.8, 0.99)}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "rmsprop": ("RMSprop", {"momentum": 0.5}),
    "adagrad": ("Adagrad", {}),
    "adafactor": ("Adafactor", {}),
}


def test_every_optimizer_is_compared() -> None:
    ours = {entry.name for entry in registry().entries("optimizer") if entry.package == "tutelage"}
    assert ours == set(TORCHS)


@pytest.mark.parametrize("name", TORCHS)
def test_an_optimizer_moves_as_torchs_does(name: str) -> None:
    kind, arguments = TORCHS[name]
    arguments = {**arguments, "lr": 0.02, "weight_decay": 0.01}
    ends = []
    for build in (registry().load("optimizer", name), getattr(torch.optim, kind)):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(4, 3))
        data, target = torch.randn(8, 4), torch.randn(8, 3)
        start = weight.detach().clone()
        optimizer = build([{"params": [weight]}], **arguments)
        for _ in range(5):
            optimizer.zero_grad()
            (data @ weight - target).square().mean().backward()
            optimizer.step()
        assert not torch.equal(weight, start)
        ends.append(weight.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-6)


def test_one_cycle_rises_to_the_base_and_ends_below_its_start() -> None:
    steps = 100
    ours = registry().load("schedule", "one-cycle")(steps, peak=0.3, start=0.04, end=0.0001)
    rates = [ours(step) for step in range(steps + 1)]
    assert rates[0] == pytest.approx(0.04)
    assert rates[30] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0001)
    assert rates[15] == pytest.approx((1.0 + 0.04) / 2)
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_named(tracker: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(tracker) is not None:
        pytest.skip(f"{tracker} is installed here")
    with pytest.raises(InputError, match=rf"{tracker} is not installed: pip install 'tutelage\[track\]'"):
        run(distillation(trackers=[tracker]), tmp_path / "run")


@pytest.mark.parametrize("name", TORCHS)
def test_a_parameter_may_get_its_first_gradient_late(name: str) -> None:
    """As when a term of the loss sets in after a warm-up."""
    early, late = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = registry().load("optimizer", name)([{"params": [early, late]}], lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        loss = early.square().sum() + (late.square().sum() if step == 2 else 0.0)
        loss.backward()
        optimizer.step()
        assert torch.equal(late, torch.ones(3)) == (step < 2)

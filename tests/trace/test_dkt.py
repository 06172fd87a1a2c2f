"""DKT: what it is worth on learning curves, its regularisers, resuming, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.api import Finished, resume
from tutelage.losses.tracing import answer_loss, waviness
from tutelage.recipe.errors import InputError, RecipeError

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]


def test_the_loss_is_a_mean_over_what_counts() -> None:
    logits = torch.tensor([[0.0, 2.0, 9.0], [1.0, -1.0, 0.0]], requires_grad=True)
    answers = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    counts = torch.tensor([[True, True, False], [False, True, False]])
    by_hand = (
        torch.log(torch.tensor(2.0))
        + torch.log1p(torch.exp(torch.tensor(2.0)))
        + torch.log1p(torch.exp(torch.tensor(-1.0)))
    ) / 3
    torch.testing.assert_close(answer_loss(logits, answers, counts), by_hand)
    none = answer_loss(logits, answers, torch.zeros_like(counts))
    none.backward()
    assert float(none) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_waviness_is_the_mean_change() -> None:
    chance = torch.tensor([[[0.1, 0.5], [0.3, 0.5], [0.9, 0.9]]])
    absolute, squared = waviness(chance, torch.tensor([[True, True, False]]))
    assert float(absolute) == pytest.approx(0.1)
    assert float(squared) == pytest.approx((0.04 / 2) ** 0.5)


def test_a_run_learns_and_reports(recipe: Make, go: Go) -> None:
    report = go(recipe("dkt", epochs=25, model={"model": "dkt", "width": 24})).report
    assert report["arrived"]["gain"]["low"] > 0.02
    quality = report["rows"][0]["measures"]["quality"]
    assert {"auc", "accuracy", "nll", "auc_ahead", "auc_after_0_to_4", "auc_after_20_to_49"} <= quality.keys()
    assert report["rows"][0]["measures"]["calibration"]["ece"]["value"] < 0.2
    # Answers are counted and not windows; learners are in no text.
    assert report["rows"][0]["n"] == 40


def test_parts_of_a_step_change_nothing(recipe: Make, go: Go) -> None:
    model = {"model": "dkt", "width": 8, "dropout": 0.0}
    data = {"name": "learning-curves", "learners": 60, "steps": 30, "window": 13}
    found = [
        go(recipe("dkt", epochs=2, model=model, data=data, accumulate=parts)).report["arrived"]["after"]["value"]
        for parts in (1, 3)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_regularisers_are_losses_of_their_own(recipe: Make, go: Go) -> None:
    finished = go(recipe({"name": "dkt", "reconstruction": 0.1, "absolute": 0.03, "squared": 3.0}, epochs=1))
    events = (finished.folder / "events.jsonl").read_text()
    assert "reconstruction" in events
    assert "squared" in events


def test_a_finished_run_is_found_again(recipe: Make, go: Go) -> None:
    finished = go(recipe("dkt"))
    before = (finished.folder / "model" / "model.safetensors").read_bytes()
    assert resume(Path(finished.folder)).report["arrived"] == finished.report["arrived"]
    assert (finished.folder / "model" / "model.safetensors").read_bytes() == before


def test_wrong_options_are_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match="absolute"):
        go(recipe({"name": "dkt", "absolute": -1}))
    with pytest.raises(InputError, match="use it with logs of answers"):
        go(recipe("dkt", data="digits"))

"""CAKT: decay, options of its studies, an outcome on learning curves, and what it refuses.

The card's sizes and frames are checked where the model is, in the tests of models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from tutelage.api import Finished
from tutelage.losses.tracing import curve_decay
from tutelage.models.cakt import Block
from tutelage.recipe.errors import RecipeError

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]


def test_experience_fades_exponentially() -> None:
    left = curve_decay(torch.tensor([0.0, 1.0, 3.0]), torch.tensor(1.0))
    assert left.tolist() == pytest.approx([1.0, 0.367879, 0.049787], abs=1e-6)
    # A strength below 0 would make old answers loom larger; it counts as none.
    assert curve_decay(torch.tensor([2.0]), torch.tensor(-1.0)).tolist() == [1.0]


def test_a_block_weighs_frames() -> None:
    torch.manual_seed(0)
    block = Block(1, 4, 4).eval()
    x = torch.randn(2, 1, 4, 3, 3)
    y = block.norms[1](block.second(torch.relu(block.norms[0](block.first(x)))))
    weight = torch.sigmoid(block.up(torch.relu(block.down(y.mean((3, 4))))))
    wanted = torch.relu(y * weight[:, :, :, None, None] + block.shortcut(x))
    torch.testing.assert_close(block(x), wanted)
    assert block(x).shape == (2, 4, 4, 3, 3)


@pytest.mark.slow
def test_a_run_learns_and_says_how_fast_experience_fades(recipe: Make, go: Go) -> None:
    data = {"name": "learning-curves", "learners": 300, "concepts": 10, "steps": 40}
    report = go(recipe("cakt", model={"model": "cakt", "side": 4}, data=data, epochs=6, batch_size=16)).report
    assert report["arrived"]["gain"]["low"] > 0.0
    assert 0 < report["findings"]["left_after_ten_steps"] < report["findings"]["left_after_a_step"] < 1


@pytest.mark.parametrize(
    "options", [{"anchor": "current"}, {"recent": "lstm"}, {"pool": "fc"}, {"rear": "fc"}, {"fusion": "average"}]
)
def test_ablations_run(recipe: Make, go: Go, options: dict[str, str]) -> None:
    data = {"name": "learning-curves", "learners": 40, "concepts": 5, "steps": 15}
    report = go(recipe("cakt", epochs=1, model={"model": "cakt", "side": 3, **options}, data=data)).report
    assert report["arrived"]["after"]["value"] > 0.3


def test_wrong_options_are_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match="anchor"):
        go(recipe("cakt", model={"model": "cakt", "anchor": "nxt"}))
    with pytest.raises(RecipeError, match="frames"):
        go(recipe("cakt", model={"model": "cakt", "frames": 1}))

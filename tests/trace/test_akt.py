"""AKT: difficulties of items are learnt and kept small, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tutelage.api import Finished
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]


@pytest.fixture
def items(tmp_path: Path) -> str:
    """Items of one concept that are hard or easy, whoever answers."""
    rng = np.random.default_rng(0)
    rows = ["learner,time,item,concept,correct"]
    for who in range(60):
        for step in range(20):
            item = int(rng.integers(0, 6))
            rows.append(f"{who},{step},q{item},c,{int(rng.random() < (0.9 if item < 3 else 0.1))}")
    path = tmp_path / "items.csv"
    path.write_text("\n".join(rows))
    return str(path)


def test_difficulties_tell_items_apart_that_concepts_do_not(recipe: Make, go: Go, items: str) -> None:
    whole = recipe(
        "akt", epochs=30, data={"name": "answers", "path": items}, model={"model": "akt", "width": 16, "heads": 2}
    )
    finished = go(whole)
    assert finished.report["arrived"]["after"]["value"] > 0.75
    assert finished.report["arrived"]["baseline"]["value"] == pytest.approx(0.5)
    model = load_model(finished.folder / "model")
    names = model.info.item_names  # type: ignore[union-attr]
    hard = model.difficulty.weight[1:, 0].detach().numpy()  # type: ignore[union-attr,index]
    easy = hard[[names.index(f"q{i}") for i in range(3)]]  # type: ignore[union-attr,operator]
    other = hard[[names.index(f"q{i}") for i in range(3, 6)]]  # type: ignore[union-attr,operator]
    assert easy.max() < other.min() or easy.min() > other.max()


def test_a_heavier_penalty_keeps_difficulties_smaller(recipe: Make, go: Go, items: str) -> None:
    sizes = []
    for weight in (0.0, 1.0):
        finished = go(recipe({"name": "akt", "difficulty": weight}, epochs=6, data={"name": "answers", "path": items}))
        model = load_model(finished.folder / "model")
        sizes.append(float(model.difficulty.weight.abs().sum()))  # type: ignore[union-attr,operator]
    assert sizes[1] < sizes[0]


def test_wrong_options_are_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match="difficulty"):
        go(recipe({"name": "akt", "difficulty": -1}))
    with pytest.raises(InputError, match="heads 5"):
        go(recipe("akt", model={"model": "akt", "heads": 5}))

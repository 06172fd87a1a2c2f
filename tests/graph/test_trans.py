"""TranS: the control beside it, what a relation between many pairs gains, and what it refuses.

The card's numbers are checked where the scores are, in the tests of models and losses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tutelage.api import Finished
from tutelage.models.weights import load_model
from tutelage.recipe.errors import RecipeError

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]
TRANSE = {"model": "transe", "width": 64, "margin": 6.0}


def scores(report: Mapping[str, Any]) -> dict[str, float]:
    return {row["name"]: row["measures"]["quality"]["mrr"]["value"] for row in report["rows"]}


@pytest.mark.slow
def test_a_synthetic_relation_beats_a_fixed_one_on_kinships(recipe: Make, go: Go) -> None:
    """After 1,200 steps the variants come in the card's order, and as far apart."""
    method = {"name": "trans", "temperature": 2.0}
    found: dict[str, float] = {}
    for variant in ("trans", "interht"):
        # 34 steps an epoch, and as many as the card's measurement.
        whole = recipe({**method, "variant": variant}, model=TRANSE, data="kinships", epochs=36)
        whole["train"]["optimizer"]["lr"] = 5e-3
        found |= scores(go({**whole, "baseline": variant == "trans"}).report)
    assert found["trans"] > found["interht"] > found["transe"]
    assert found["trans"] - found["transe"] >= 0.05


def test_the_control_is_the_recipes_own_translation(recipe: Make, go: Go) -> None:
    finished = go(recipe({"name": "trans", "negatives": 8}, epochs=4, baseline=True, measure=["links", "cost"]))
    report = finished.report
    assert [(row["name"], row["role"]) for row in report["rows"]] == [("trans", "recipient"), ("transe", "baseline")]
    parameters = [row["measures"]["cost"]["parameters"]["value"] for row in report["rows"]]
    assert parameters == [14 * 64 + 55 * 96, (14 + 55) * 32]
    assert report["arrived"]["gain"]["low"] is not None
    config = json.loads((finished.folder / "model" / "config.json").read_text())
    assert config["model"]["name"] == "synthetic-translation"
    assert load_model(finished.folder / "model").graph.entities == 14  # type: ignore[union-attr]


def test_a_synthetic_relation_is_worth_something_on_nations_too(recipe: Make, go: Go) -> None:
    whole = recipe({"name": "trans", "temperature": 2.0}, model=TRANSE, epochs=120, baseline=True)
    whole["train"]["optimizer"]["lr"] = 5e-3
    found = scores(go(whole).report)
    assert found["trans"] > found["transe"]


def test_no_control_where_none_is_asked_for(recipe: Make, go: Go) -> None:
    report = go(recipe({"name": "trans", "variant": "interht", "negatives": 4}, epochs=1)).report
    assert [row["name"] for row in report["rows"]] == ["interht"]


def test_only_translations_have_a_relation_to_put_together(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match=r"'rotate' is no translation.*Use `model: transe`"):
        go(recipe({"name": "trans"}, model={"model": "rotate"}))
    with pytest.raises(RecipeError, match="predicts no links"):
        go(recipe({"name": "trans"}, model={"model": "mlp"}))
    with pytest.raises(RecipeError, match="variant"):
        go(recipe({"name": "trans", "variant": "transz"}))

"""TranS: the control beside it, what a relation between many pairs gains, and what it refuses.

The card's numbers are checked where the scores are, in the tests of models and losses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from tutelage.api import Finished
from tutelage.data.node_pieces import pieces_of
from tutelage.data.triples import graph_info
from tutelage.models.nodepiece_translation import NodePieceTranslation
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError

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


def test_pieces_are_near_anchors_and_relations() -> None:
    # A line 0 - 1 - 2 - 3 with 4 beside 1, and 5 alone with 6; 1 and 2 have the most triples.
    facts = torch.tensor([[0, 0, 1], [1, 1, 2], [2, 0, 3], [4, 0, 1], [1, 2, 4], [2, 2, 1], [5, 1, 6]])
    found = pieces_of(facts, 7, anchors=2, nearest=2, context=2, furthest=2)
    # Anchor 0 is entity 1, anchor 1 is entity 2.
    assert found.anchors.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0], [0, 1], [-1, -1], [-1, -1]]
    assert found.distances.tolist() == [[1, 2], [0, 1], [0, 1], [1, 2], [1, 2], [2, 2], [2, 2]]
    assert [sorted(row) for row in found.context.tolist()] == [
        [-1, 0],
        [1, 2],
        [0, 2],
        [-1, -1],
        [-1, 0],
        [-1, 1],
        [-1, -1],
    ]
    graph = graph_info(list("abcdefg"), ["r", "s", "t"], "f")
    for variant in ("trans", "interht", "transe"):
        model = NodePieceTranslation(
            graph, width=4, variant=variant, anchors=2, nearest=2, context=2, furthest=2
        ).eval()
        with pytest.raises(InputError, match="has no pieces yet"):
            model.ready()
        model.take(found)
        model.ready()
        rows = model.rows()
        # Entities of the same pieces are the same, whatever they are called.
        assert torch.equal(rows[0], rows[4])
        assert not torch.equal(rows[0], rows[1])
        torch.testing.assert_close(model.rows(torch.tensor([3, 1])), rows[[3, 1]])
        assert not any(name == "entities" for name, _ in model.named_parameters())


def test_entities_of_pieces_are_learnt_with_fewer_numbers(recipe: Make, go: Go) -> None:
    method = {"name": "trans", "encoder": "nodepiece", "anchors": 20, "nearest": 5, "context": 4, "temperature": 1.0}
    finished = go(recipe(method, data="umls", epochs=10))
    report = finished.report
    assert report["arrived"]["after"]["value"] > 0.2
    again = load_model(finished.folder / "model")
    assert isinstance(again, NodePieceTranslation)
    assert again.anchors.shape[0] == 20
    assert int((again.near >= 0).sum()) > 0


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

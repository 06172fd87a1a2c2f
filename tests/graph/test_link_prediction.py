"""Link prediction: equal results in parts and after a pause, every model and loss, and what cannot be trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.api import Finished, look_over
from tutelage.models.weight_files import read_tensors
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.starter import starter

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]
PLAIN = {"name": "link-prediction", "negatives": 8}


def mrr(finished: Finished) -> float:
    return float(finished.report["arrived"]["after"]["value"])


@pytest.mark.parametrize(
    ("loss", "more"),
    [
        ("self_adversarial", {"subsampling": True, "corrupt": "bernoulli"}),
        ("logistic", {"corrupt": "alternate"}),
        ("margin", {"filtered": False}),
        ("softmax", {"penalty": 0.01}),
        ("one_vs_all", {"penalty": 0.01, "smoothing": 0.1}),
    ],
)
def test_parts_of_a_batch_give_what_the_whole_gives(loss: str, more: dict[str, Any], recipe: Make, go: Go) -> None:
    """Corruptions, weights and penalties do not depend on how a batch is cut."""
    method = {**PLAIN, "loss": loss, **more}
    found = []
    for parts in (1, 3):
        finished = go(recipe(method, model={"model": "complex", "width": 8}, epochs=2, accumulate=parts))
        found.append(dict(read_tensors(finished.folder / "model")[1]))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model", ["transe", "rotate", "distmult", "complex", "hake"])
def test_every_model_learns(model: str, recipe: Make, go: Go) -> None:
    """A chance ranking of UMLS has an MRR of 0.04."""
    slot = {"model": model, "width": 32}
    report = go(recipe({**PLAIN, "negatives": 16}, model=slot, data="umls", epochs=10)).report
    assert report["arrived"]["metric"] == "mrr"
    assert report["arrived"]["after"]["value"] > 0.3
    quality = report["rows"][0]["measures"]["quality"]
    assert {"hits@1", "hits@3", "hits@10", "amri", "mrr_head", "mrr_tail", "mrr_N-N"} <= set(quality)
    assert quality["hits@1"]["low"] < quality["hits@1"]["value"] < quality["hits@1"]["high"]
    assert any("give" in text for text in report["warnings"])


def test_inverse_relations_and_all_entities_at_once(recipe: Make, go: Go) -> None:
    method = {"name": "link-prediction", "loss": "one_vs_all"}
    model = {"model": "complex", "width": 32}
    finished = go(
        recipe(method, model=model, data={"name": "umls", "inverse": True}, epochs=6, measure=["links", "cost"])
    )
    assert mrr(finished) > 0.5
    config = json.loads((finished.folder / "model" / "config.json").read_text())
    assert len(config["data"]["relation_names"]) == 92
    assert finished.report["rows"][0]["measures"]["cost"]["parameters"]["value"] == (135 + 92) * 32


def test_the_sampled_protocol_is_easier(recipe: Make, go: Go) -> None:
    few = {"name": "links", "candidates": 5}
    whole, sampled = (mrr(go(recipe(PLAIN, data="umls", epochs=2, measure=[one]))) for one in ("links", few))
    assert sampled > whole


def test_equal_seeds_give_equal_models_and_others_do_not(recipe: Make, go: Go) -> None:
    runs = [dict(read_tensors(go(recipe(PLAIN, seed=s)).folder / "model")[1]) for s in (0, 0, 1)]
    assert all(torch.equal(runs[0][n], runs[1][n]) for n in runs[0])
    assert not torch.equal(runs[0]["entities"], runs[2]["entities"])


@pytest.mark.parametrize("name", ["link-prediction", "trans", "plm-kgc-inference", "temt"])
def test_a_starter_recipe_can_be_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / "starter.yaml"
    path.write_text(starter(name))
    look_over(load_recipe(path))


def test_what_cannot_be_trained_is_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match=r"predicts no links.*Choose among .*complex"):
        go(recipe(PLAIN, model={"model": "mlp"}))
    with pytest.raises(InputError, match="'accuracy' measures classes"):
        go(recipe(PLAIN, measure=["accuracy"]))
    with pytest.raises(InputError, match="predicts links of a graph"):
        go(recipe(PLAIN, data="digits"))
    with pytest.raises(RecipeError, match="temperature"):
        go(recipe({**PLAIN, "temperature": -1}))
    with pytest.raises(InputError, match="there is no file"):
        go(recipe(PLAIN, data={"name": "triples", "path": "nowhere.tsv"}))

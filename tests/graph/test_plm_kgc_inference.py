"""Twins of a graph's texts, what a score is made of, and that a model without texts does not notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.api import Finished
from tutelage.data.triples import graph_info
from tutelage.data.twins import SETTINGS, Texts, remaining, replacer, texts_of, twin
from tutelage.graph.plm_kgc_inference import PlmKgcInference
from tutelage.measure.link_prediction import Ranks
from tutelage.models.text_bilinear import TextBilinear
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]
TEXTS = Texts(
    ("oak", "oak tree", "Paris", "pine"),
    ("part of", "grows in"),
    ("An oak tree is a tree; OAK wood is hard.", "See oak.", "A city with an oakwood.", ""),
)


def test_a_virtual_world_permutes_names_and_follows_them() -> None:
    other = twin(TEXTS, "virtual-world", 0)
    assert sorted(other.names) == sorted(TEXTS.names)
    assert all(a != b for a, b in zip(TEXTS.names, other.names, strict=True))
    assert sorted(other.relations) == sorted(TEXTS.relations)
    now = dict(zip(TEXTS.names, other.names, strict=True))
    # Longer names first, in any case, and only whole words.
    assert other.descriptions[0] == f"An {now['oak tree']} is a tree; {now['oak']} wood is hard."
    assert other.descriptions[2] == "A city with an oakwood."
    back = replacer({new.lower(): old for old, new in now.items()})
    assert back(other.descriptions[0]) == "An oak tree is a tree; oak wood is hard."
    assert twin(TEXTS, "virtual-world", 0) == other
    assert any(twin(TEXTS, "virtual-world", seed) != other for seed in range(1, 5))


def test_a_permutation_stays_inside_its_groups() -> None:
    names = tuple(f"n{i}" for i in range(9))
    groups = [0, 0, 0, 1, 1, 1, 1, 2, 2]
    other = twin(Texts(names, ("r",), ("",) * 9), "virtual-world", 3, groups)
    for i, name in enumerate(other.names):
        assert groups[names.index(name)] == groups[i]
        assert name != names[i]


def test_anonymous_names_mean_nothing() -> None:
    other = twin(TEXTS, "anonymised", 1, length=8)
    assert not set(other.names) & set(TEXTS.names)
    assert len(set(other.names) | set(other.relations)) == 6
    assert all(len(name) == 8 for name in other.names)
    assert other.descriptions[1] == f"See {other.names[0]}."
    assert remaining(TEXTS, other) == 0


def test_inconsistent_descriptions_keep_names() -> None:
    other = twin(TEXTS, "inconsistent", 0)
    assert other.names == TEXTS.names
    assert sorted(other.descriptions) == sorted(TEXTS.descriptions)
    assert other.descriptions != TEXTS.descriptions


def test_full_anonymity_keeps_only_which_words_are_the_same() -> None:
    other = twin(TEXTS, "fully-anonymised", 0)
    first, second = other.names[0], other.names[1].split()[0]
    assert first == second
    assert other.descriptions[1].split()[1].rstrip(".") == first
    old = {word.lower() for text in (*TEXTS.names, *TEXTS.descriptions) for word in text.replace(";", "").split()}
    assert not old & {word for text in (*other.names, *other.descriptions) for word in text.split()}
    assert [len(text.split()) for text in other.descriptions] == [len(text.split()) for text in TEXTS.descriptions]


def test_what_remains_of_a_name_is_counted() -> None:
    assert remaining(TEXTS, TEXTS) == 4
    assert twin(TEXTS, "original", 0) is TEXTS
    assert set(SETTINGS) >= {"original", "virtual-world"}


def test_texts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("1\tstool, solid matter\n2\tpine\n")
    found = texts_of(["1", "2"], ["_part_of"], str(path))
    assert found == Texts(("stool", "pine"), ("part of",), ("solid matter", ""))
    assert found.told() == ["stool: solid matter", "pine"]
    with pytest.raises(InputError, match=r"says nothing of 1 of 3 entities, e\.g\. 'x'"):
        texts_of(["1", "2", "x"], ["r"], str(path))


def ranks_of(mrr: float) -> Ranks:
    """Ranks of four triples whose mean reciprocal is as given: through a share of a tie."""
    better = torch.zeros(4, 1, dtype=torch.long)
    found = Ranks(("tail",), better, better.clone(), better + 10, torch.tensor([0, 0, 1, 1]))
    object.__setattr__(found, "reciprocal", lambda ties="realistic": torch.full((4,), mrr, dtype=torch.float64))
    return found


def test_the_shares_of_the_card() -> None:
    made = PlmKgcInference(settings=("original", "virtual-world", "anonymised", "fully-anonymised"))
    trained = {"original": 0.60, "virtual-world": 0.45, "anonymised": 0.40, "fully-anonymised": 0.30}
    made._ranks = {(name, "trained"): ranks_of(value) for name, value in trained.items()}
    made._ranks["fully-anonymised", "random"] = ranks_of(0.22)
    shares = {row["share"]: row["mrr"].value for row in made.shares()}
    assert shares == pytest.approx(
        {
            "memory": 0.15,
            "meaning of names": 0.05,
            "meaning of descriptions": 0.10,
            "inference from pre-training, all hidden": 0.08,
        }
    )


def test_a_text_model_knows_entities_by_their_vectors_alone() -> None:
    graph = graph_info(["a", "b", "c"], ["r"], "f")
    model = TextBilinear(graph, width=4, text_width=3)
    model.text.copy_(torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]))
    scores = model.rank_scores("tail", torch.tensor([[2, 0, 0]]))[0]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]
    assert "entities" not in dict(model.named_parameters())


def test_worlds_are_compared_and_the_floor_does_not_notice(recipe: Make, go: Go) -> None:
    made: dict[str, Any] = {
        "name": "plm-kgc-inference",
        "encoder": "hashed",
        "settings": ["virtual-world", "anonymised"],
    }
    model = {"model": "complex", "width": 16}
    finished = go(recipe(made, model=model, data="umls", epochs=6, baseline=True))
    worlds = {row["world"]: row["mrr"]["value"] for row in finished.report["findings"]["worlds"]}
    # Words of UMLS's names are shared by kinds that are alike: hidden, they help no more.
    assert worlds["original"] > worlds["anonymised"]
    shares = {row["share"]: row["mrr"] for row in finished.report["findings"]["shares_of_mrr"]}
    assert shares["memory"]["value"] == pytest.approx(worlds["original"] - worlds["virtual-world"])
    assert [one["name"] for one in finished.report["figures"]["drawn"]] == ["worlds", "shares"]
    again = load_model(finished.folder / "model")
    assert isinstance(again, TextBilinear)
    other = go(recipe({**made, "settings": ["original"]}, model=model, data="umls", epochs=6, baseline=True))
    floors = [[r for r in f.report["findings"]["worlds"] if r["world"] == "graph alone"] for f in (finished, other)]
    assert floors[0] == floors[1]


def test_what_does_not_fit_is_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match="settings"):
        go(recipe({"name": "plm-kgc-inference", "settings": ["upside-down"]}))
    with pytest.raises(InputError, match="knows no texts yet"):
        go(recipe({"name": "link-prediction"}, model="text-bilinear"))
    with pytest.raises(InputError, match="cannot be read"):
        go(recipe({"name": "plm-kgc-inference", "texts": "nowhere.txt", "encoder": "hashed"}))

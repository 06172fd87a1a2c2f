"""DisWOT: scores of untrained pairs, the search and its budget, what is trained, and what the report says of it."""

from __future__ import annotations

import json

import pytest
import torch

from tutelage.api import resume
from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.diswot import Similarity
from tutelage.distill.parts.architecture_search import Space
from tutelage.distill.parts.untrained_pairs import Judge, similarities
from tutelage.engine.listening import Silence
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.models.convnet import ConvNet
from tutelage.models.outputs import Outputs
from tutelage.models.resnet import ResNet
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder

INFO = DataInfo((1, 8, 8), 10, tuple("0123456789"), "")
CONV = {
    "teacher": {"model": "convnet", "width": 6, "depth": 2, "weights": {"train": {"epochs": 1}}},
    "student": {"model": "convnet", "width": 3, "depth": 2},
}
SPACE = {"width": [2, 4], "depth": [1, 2], "convolutions": [1, 2]}


def outputs(seed, width=4):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(6, width, 2, 2, generator=generator)
    embedding = features.mean((2, 3))
    return Outputs(
        embedding @ torch.randn(width, 3, generator=generator), {"features": features, "embedding": embedding}
    )


BATCH = Batch(torch.zeros(6, 1), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6), torch.arange(6))


def test_a_pair_of_equals_is_as_alike_as_can_be():
    same = similarities(outputs(0), outputs(0), BATCH)
    assert all(score.item() == pytest.approx(0, abs=1e-6) for score in same.values())
    other = similarities(outputs(0), outputs(1), BATCH)
    assert all(score.item() < 0 for score in other.values())


def test_relations_see_neither_scale_nor_rotation_nor_order():
    ours, theirs = outputs(0), outputs(1)
    before = similarities(ours, theirs, BATCH)["relation"]
    rotation = torch.linalg.qr(torch.randn(16, 16))[0]
    turned = (5 * ours.features.flatten(1) @ rotation).view_as(ours.features)
    moved = Outputs(ours.logits, {**ours.taps, "features": turned})
    assert similarities(moved, theirs, BATCH)["relation"].item() == pytest.approx(before.item(), rel=1e-4)
    order = torch.randperm(6)
    mixed = [Outputs(o.logits[order], {k: v[order] for k, v in o.taps.items()}) for o in (ours, theirs)]
    batch = BATCH.with_(labels=BATCH.labels[order])
    assert similarities(*mixed, batch)["relation"].item() == pytest.approx(before.item(), rel=1e-4)


def test_as_further_terms_of_the_loss():
    ours, theirs = outputs(0), outputs(1)
    plain = Similarity(4.0, 0.1, 0.0, 0.0).loss(ours, theirs, BATCH).total()
    scores = similarities(ours, theirs, BATCH)
    whole = Similarity(4.0, 0.1, 2.0, 3.0).loss(ours, theirs, BATCH).total()
    assert whole.item() == pytest.approx((plain - 2 * scores["relation"] - 3 * scores["semantic"]).item(), rel=1e-5)


@pytest.fixture
def live(recipe, tmp_path):
    def make(**method):
        loaded = load_recipe(recipe({"name": "diswot", "space": SPACE, **method}, **CONV))
        run = Run(loaded, RunFolder.create(loaded, tmp_path / "live"), Silence(), Interruption())
        return run, run.method(loaded.method)

    return make


def test_scoring_trains_nothing_and_is_repeatable(live):
    run, method = live()
    batches = method._batches(run)
    assert len(batches[0]) == 64
    judge = Judge(run, batches, seeds=2)
    spec = run.recipe.slots["student"]
    before = {k: v.clone() for k, v in judge.teachers[0].named_parameters()}
    first = judge.scores(spec)
    assert all(torch.equal(before[k], v) for k, v in judge.teachers[0].named_parameters())
    assert judge.scores(spec) == first
    same = judge._pair(judge.teachers[0], judge.teachers[0], batches[0])
    assert all(abs(score) < 1e-5 for score in same.values())
    assert judge.cost(spec)["parameters"] == sum(p.numel() for p in ConvNet(INFO, width=3, depth=2).parameters())


def test_any_distillation_is_a_score(live):
    run, method = live(proxy={"name": "rkd"}, iterations=4, population=4)
    found = method._search(run, Space(run.recipe.slots["student"], SPACE))
    assert all(one.scores["overall"] == one.scores["proxy"] < 0 for one in found)


@pytest.mark.parametrize("search", ["evolution", "random", "exhaustive"])
def test_what_is_found_is_within_the_budget_and_in_order(search, live):
    run, method = live(search=search, max_parameters=2000, aggregate="ranks", population=4, iterations=20)
    found = method._search(run, Space(run.recipe.slots["student"], SPACE))
    assert all(one.cost["parameters"] <= 2000 for one in found)
    overall = [one.scores["overall"] for one in found]
    assert overall == sorted(overall, reverse=True)


def test_the_best_is_trained_saved_and_found_again(recipe, go):
    method = {"name": "diswot", "space": SPACE, "population": 4, "iterations": 8}
    finished = go(recipe(method, **CONV, epochs=1))
    seen = json.loads((finished.folder / "search.json").read_text())
    model = load_model(finished.folder)
    assert sum(p.numel() for p in model.parameters()) == seen[0]["cost"]["parameters"]
    roles = {row["name"]: row["role"] for row in finished.report["rows"]}
    assert roles == {
        "teacher": "source",
        "student without transfer": "baseline",
        "given student": "other",
        "student": "recipient",
    }
    assert resume(finished.folder).report["rows"] == finished.report["rows"]


def test_scores_are_held_against_what_came_out(recipe, go):
    method = {"name": "diswot", "space": SPACE, "search": "exhaustive", "verify": 3, "verify_labels": True, "top": 2}
    found = go(recipe(method, **CONV, epochs=1)).report["findings"]
    assert len(found["candidates"]) == 2
    assert found["candidates_seen"] == 8
    assert len(found["verified"]) == 3
    scores = [row["score"] for row in found["rank_agreement"]]
    assert {"overall", "relation", "semantic", "parameters", "flops", "nwot", "synflow", "labels"} <= set(scores)
    assert all(row["kendall"] is None or -1 <= row["kendall"] <= 1 for row in found["rank_agreement"])


def test_blocks_of_each_stage():
    net = ResNet(INFO, width=2, blocks=(1, 3, 2))
    assert [len(stage) for stage in net.blocks] == [1, 3, 2]
    assert net(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"space": {"widht": [2]}}, "'width'"),
        ({"space": {"width": [0]}}, "space.width holds 0"),
        ({"max_parameters": 3}, "no candidate is within the budget.*parameters"),
        ({"proxy": "supervised"}, "compares no teacher with a student"),
        ({"search": "exhaustive", "seconds": 1.0}, "does nothing"),
        ({"stages": [{"train": {"epochs": 1}}]}, "makes its own stages"),
        ({"student": {"model": "mlp"}, "space": None}, "there is no space for 'mlp'"),
        ({"student": {**CONV["student"], "weights": {"train": {"epochs": 1}}}}, "starts anew"),
    ],
)
def test_mistakes(changes, text, recipe, go):
    whole = {**CONV, **{k: v for k, v in changes.items() if k in ("student", "stages")}}
    method = {"name": "diswot", "space": SPACE, **{k: v for k, v in changes.items() if k not in whole}}
    with pytest.raises((RecipeError, InputError), match=text):
        go(recipe({k: v for k, v in method.items() if v is not None}, **whole))

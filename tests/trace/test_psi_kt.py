"""PSI-KT: what holds of any parameters, the filter against plain loops, the graph it finds, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tutelage.api import Finished
from tutelage.data.answers import AnswerWindows, TraceInfo, one
from tutelage.data.simulated_answers import Prerequisites
from tutelage.losses.ornstein_uhlenbeck import positive
from tutelage.models.psi_kt import PsiKT
from tutelage.models.weights import load_model
from tutelage.recipe.errors import RecipeError

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]
DATA = {"name": "prerequisites", "learners": 80, "steps": 24}


@pytest.fixture(params=["filter", "amortised"])
def model(request: pytest.FixtureRequest) -> PsiKT:
    torch.manual_seed(0)
    info = TraceInfo((1,), 0, (), "x", concept_names=tuple("abcde"))
    made = PsiKT(info, inference=request.param, influence=4.0).eval()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    return made


def batch(learners: int = 6) -> Any:
    splits = Prerequisites(learners=learners + 6, concepts=5, steps=30).load(0)
    assert isinstance(splits.train, AnswerWindows)
    return splits.train.fetch(range(learners))


def test_no_answer_influences_its_own_prediction(model: PsiKT) -> None:
    data = batch()
    with torch.no_grad():
        plain = model.trace(*data.arguments)
        for step in (0, 11):
            labels = data.labels.clone()
            labels[:, step] = 1 - labels[:, step]
            other = model.trace(*data.with_(labels=labels).arguments)
            assert torch.equal(plain[:, : step + 1], other[:, : step + 1])
            assert not torch.equal(plain[:, step + 1 :], other[:, step + 1 :])


def test_predictions_ahead_see_no_later_answer(model: PsiKT) -> None:
    data = batch()
    found = model.ahead(data, 12)
    labels = data.labels.clone()
    labels[:, 12:] = 1 - labels[:, 12:]
    assert torch.equal(found, model.ahead(data.with_(labels=labels), 12))
    with torch.no_grad():
        seen = model.trace(*data.arguments).sigmoid()
    torch.testing.assert_close(found[:, :12], seen[:, :12], rtol=1e-4, atol=1e-5)
    assert model.ahead(data, 0).shape == seen.shape


def test_states_are_what_questions_are_answered_with(model: PsiKT) -> None:
    data = batch()
    with torch.no_grad():
        seen = model.trace(*data.arguments).sigmoid()
    state = model.mastery(data)
    assert state.shape == (6, 31, 5)
    read = state[:, :-1].gather(-1, data.inputs)[..., 0]
    torch.testing.assert_close(read, seen, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.latest(data), state[:, -1], rtol=1e-4, atol=1e-5)
    assert (model.beliefs(data).variance > 0).all()


def test_without_transfer_concepts_go_their_own_ways() -> None:
    torch.manual_seed(0)
    info = TraceInfo((1,), 0, (), "x", concept_names=tuple("abc"))
    for options in ({"traits": 3}, {"graph": "none"}):
        model = PsiKT(info, **options).eval()  # type: ignore[arg-type]
        torch.nn.init.normal_(model.character[-1].weight, std=0.0)
        histories = [model.beliefs(one([0, 0, 1], [right, right, 1])).mean for right in (0, 1)]
        # Traits are equal, so that answers on the first concept tell nothing of the third.
        torch.testing.assert_close(histories[0][..., 2], histories[1][..., 2])
        assert not torch.equal(histories[0][..., 0], histories[1][..., 0])


def test_the_filter_is_the_plain_recursion() -> None:
    torch.manual_seed(1)
    info = TraceInfo((1,), 0, (), "x", concept_names=tuple("abc"))
    model = PsiKT(info, influence=3.0).eval()
    torch.nn.init.normal_(model.ease.weight)
    concepts, answers, days = [0, 2, 0, 1], [1, 0, 1, 1], [0.0, 0.5, 2.0, 2.0]
    data = one(concepts, answers, times=[86_400 * d for d in days])
    traits = torch.randn(1, 4, 4)
    with torch.no_grad():
        found = model.filtered(data.inputs, data.labels, data.times, traits)[0][0]
        edges, ease = model.edges().double().numpy(), model.ease.weight[:, 0].double().numpy()
        mean = np.full(3, float(model.first_state)) + ease
        variance = np.full(3, float(positive(model.first_variance)))
        wanted = []
        for step, (c, y) in enumerate(zip(concepts, answers, strict=True)):
            s = traits[0, step].double().numpy()
            alpha, gamma = max(s[0], 0.0) + 1e-6, 3.0 / (1 + math.exp(-s[3]))
            if step:
                gap = days[step] - days[step - 1]
                left = math.exp(-alpha * gap)
                pulled = np.array(
                    [s[1] + ease[k] + gamma / 3 * sum(edges[i, k] * mean[i] for i in range(3)) for k in range(3)]
                )
                mean = left * mean + (1 - left) * pulled
                variance = left**2 * variance + s[2] ** 2 * (1 - left**2) / (2 * alpha)
            logit = mean[c] / math.sqrt(1 + math.pi * variance[c] / 8)
            wanted.append(logit)
            chance = 1 / (1 + math.exp(-logit))
            variance[c] = variance[c] / (1 + variance[c] * chance * (1 - chance))
            mean[c] += variance[c] * (y - chance)
    assert found.tolist() == pytest.approx(wanted, abs=1e-4)


@pytest.mark.slow
def test_prerequisites_of_the_simulation_are_found_again(recipe: Make, go: Go) -> None:
    data = {"name": "prerequisites", "learners": 500, "steps": 40}
    whole = recipe("psi-kt", model={"model": "psi-kt", "influence": 12.0}, data=data, epochs=12, batch_size=64)
    whole["train"]["optimizer"]["lr"] = 1e-2
    finished = go(whole)
    model = load_model(finished.folder / "model")
    _, truth = Prerequisites(learners=500, steps=40).drawn()
    apart = ~np.eye(8, dtype=bool)
    edges = model.edges().detach().numpy()  # type: ignore[operator,union-attr]
    assert roc_auc_score(truth.edges[apart], edges[apart]) > 0.7
    assert finished.report["arrived"]["gain"]["low"] > 0
    assert {"prerequisite", "of", "probability"} == finished.report["findings"]["prerequisites"][0].keys()


def test_the_papers_objective_is_trained_too(recipe: Make, go: Go) -> None:
    whole = recipe("psi-kt", model={"model": "psi-kt", "inference": "amortised"}, data=DATA, epochs=3)
    finished = go(whole)
    events = (finished.folder / "events.jsonl").read_text()
    assert all(name in events for name in ("traits", "states", "entropy", "cluster"))
    assert math.isfinite(finished.report["arrived"]["after"]["value"])


@pytest.fixture(autouse=True)
def quiet() -> None:
    torch.manual_seed(0)


def test_wrong_options_are_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match="traits"):
        go(recipe("psi-kt", model={"model": "psi-kt", "traits": 5}))
    with pytest.raises(RecipeError, match="sparsity"):
        go(recipe({"name": "psi-kt", "sparsity": -1}))

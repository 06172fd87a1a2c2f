"""BKT: expectation-maximisation against plain loops, what it recovers, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from tutelage.api import Finished
from tutelage.data.answers import windows
from tutelage.data.simulated_answers import HiddenMastery
from tutelage.losses.hidden_mastery import PARAMETERS, expected, fit, ragged
from tutelage.models.weights import load_model
from tutelage.recipe.errors import RecipeError
from tutelage.trace.bkt import sequences

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]


def parameters(concepts: int, **values: float) -> dict[str, torch.Tensor]:
    start = {"prior": 0.3, "learn": 0.2, "forget": 0.1, "guess": 0.25, "slip": 0.15} | values
    return {name: torch.full((concepts,), start[name], dtype=torch.float64) for name in PARAMETERS}


def by_hand(answers: list[int], p: dict[str, float]) -> tuple[dict[str, float], float]:
    """Expected counts of one sequence by summing over all paths of hidden states."""
    n = len(answers)
    total, sums = 0.0, dict.fromkeys(("prior", "learn", "forget", "guess", "slip", "left", "had"), 0.0)
    for code in range(2**n):
        path = [(code >> i) & 1 for i in range(n)]
        chance = p["prior"] if path[0] else 1 - p["prior"]
        for i in range(1, n):
            move = {(0, 1): p["learn"], (0, 0): 1 - p["learn"], (1, 0): p["forget"], (1, 1): 1 - p["forget"]}
            chance *= move[path[i - 1], path[i]]
        for state, right in zip(path, answers, strict=True):
            hit = 1 - p["slip"] if state else p["guess"]
            chance *= hit if right else 1 - hit
        total += chance
        sums["prior"] += chance * path[0]
        sums["learn"] += chance * sum(a == 0 and b == 1 for a, b in pairwise(path))
        sums["forget"] += chance * sum(a == 1 and b == 0 for a, b in pairwise(path))
        sums["guess"] += chance * sum(s == 0 and r == 1 for s, r in zip(path, answers, strict=True))
        sums["slip"] += chance * sum(s == 1 and r == 0 for s, r in zip(path, answers, strict=True))
        sums["left"] += chance * sum(s == 0 for s in path[:-1])
        sums["had"] += chance * sum(path)
    return {name: value / total for name, value in sums.items()}, float(np.log(total))


def test_expected_counts_are_sums_over_all_paths() -> None:
    cases = [[1, 0, 1, 1], [0], [0, 0], [1, 1, 0, 1, 1, 0]]
    own = parameters(1)
    plain = {name: float(value[0]) for name, value in own.items()}
    whole = [by_hand(case, plain) for case in cases]
    flat = torch.tensor([a for case in cases for a in case])
    who = torch.tensor([i for i, case in enumerate(cases) for _ in case])
    counts, likelihood = expected(ragged(who, torch.zeros(len(flat), dtype=torch.long), flat), own)
    assert float(likelihood) == pytest.approx(sum(one for _, one in whole), abs=1e-10)
    for name in PARAMETERS:
        assert float(counts[name][0][0]) == pytest.approx(sum(w[name] for w, _ in whole), abs=1e-10)
    assert float(counts["learn"][1][0]) == pytest.approx(sum(w["left"] for w, _ in whole), abs=1e-10)
    assert float(counts["slip"][1][0]) == pytest.approx(sum(w["had"] for w, _ in whole), abs=1e-10)


def test_concepts_do_not_touch_each_other_and_likelihood_only_rises() -> None:
    log, _ = HiddenMastery(learners=80, concepts=3, steps=40, forgetting=0.1).drawn()
    data = sequences(windows(log, steps=200))
    start = parameters(3)
    together, history = fit(data, start, forgets=True, iterations=30, tolerance=0.0)
    assert all(b >= a - 1e-9 for a, b in pairwise(history))
    for concept in range(3):
        mine = log.concepts[:, 0] == concept
        who = np.repeat(np.arange(80), 40)[mine]
        alone = ragged(
            torch.from_numpy(who), torch.zeros(mine.sum(), dtype=torch.long), torch.from_numpy(log.correct[mine])
        )
        found, _ = fit(alone, parameters(1), forgets=True, iterations=30, tolerance=0.0)
        for name in PARAMETERS:
            assert float(found[name][0]) == pytest.approx(float(together[name][concept]), abs=1e-9)


def test_the_simulations_parameters_are_found_again() -> None:
    log, truth = HiddenMastery(learners=3_000, concepts=4, steps=60).drawn()
    found, _ = fit(sequences(windows(log, steps=200)), parameters(4, forget=0.0), iterations=300, tolerance=1e-9)
    for name in ("prior", "learn", "guess", "slip"):
        assert np.abs(found[name].numpy() - truth.parameters[name]).max() < 0.05, name


def test_a_run_beats_the_average_and_its_model_is_found_again(recipe: Make, go: Go) -> None:
    whole = recipe("bkt", data={"name": "hidden-mastery", "learners": 200})
    finished = go(whole)
    arrived = finished.report["arrived"]
    assert arrived["metric"] == "auc"
    assert arrived["gain"]["low"] > 0.1
    model = load_model(finished.folder / "model")
    assert model.info.concept_names == tuple(f"concept {i}" for i in range(5))  # type: ignore[union-attr]
    assert 0.5 < float(model.prior.mean()) + float(model.learn.mean()) * 4 < 3  # type: ignore[union-attr,operator]
    assert go(whole).report["arrived"] == arrived


def test_other_models_and_wrong_options_are_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match=r"'bkt' trains the model 'bkt', not 'dkt'"):
        go(recipe("bkt", model={"model": "dkt"}))
    with pytest.raises(RecipeError, match="iterations"):
        go(recipe({"name": "bkt", "iterations": 0}))
    with pytest.raises(RecipeError, match=r"'accuracy' measures"):
        go(recipe("bkt", measure=["accuracy"]))

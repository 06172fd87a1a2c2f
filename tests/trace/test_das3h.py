"""DAS3H: times matter to it, where they matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from tutelage.api import Finished
from tutelage.data.answers import AnswerLog, TraceInfo, windows
from tutelage.measure.answers import predictions
from tutelage.models.additive_tracer import DAS3H, PFA
from tutelage.recipe.errors import RecipeError
from tutelage.trace.das3h import SkillHistory
from tutelage.trace.pfa import PerformanceFactors

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]


def forgetful(learners: int, seed: int) -> AnswerLog:
    """Who practised within a day is right; who did not has forgotten."""
    rng = np.random.default_rng(seed)
    steps = 12
    gaps = np.where(rng.random((learners, steps)) < 0.5, 3_600.0, 20 * 86_400.0)
    chance = np.where(gaps < 86_400, 0.9, 0.2)
    chance[:, 0] = 0.2
    right = (rng.random((learners, steps)) < chance).astype(np.uint8).reshape(-1)
    size = learners * steps
    return AnswerLog(
        np.arange(learners + 1, dtype=np.int64) * steps, np.zeros((size, 1), dtype=np.int32), right,
        rng.integers(0, 3, size).astype(np.int32), gaps.cumsum(1).reshape(-1),
    )  # fmt: skip


def test_time_since_practice_is_used() -> None:
    info = TraceInfo((1,), 0, (), "x", concept_names=("a",), item_names=("p", "q", "r"))
    train, test = (windows(forgetful(200, seed), steps=50) for seed in (0, 1))
    areas = {}
    for name, model, method in (
        ("das3h", DAS3H(info), SkillHistory(strength=100.0)),
        ("pfa", PFA(info), PerformanceFactors(strength=100.0)),
    ):
        method.fit_all(model, train, 0)
        areas[name] = float(predictions(model, test).auc().mean())
    assert areas["das3h"] > 0.8
    assert areas["das3h"] > areas["pfa"] + 0.1


def test_it_has_a_weight_for_each_item_and_one_for_unknown_ones() -> None:
    info = TraceInfo((1,), 0, (), "x", concept_names=("a", "b"), item_names=("p", "q", "r"))
    assert len(DAS3H(info).weight) == 4 + 2 * (1 + 2 * 5)
    assert len(DAS3H(info, days=(1.0, 7.0)).weight) == 4 + 2 * (1 + 2 * 3)


def test_a_run_beats_the_average(recipe: Make, go: Go) -> None:
    report = go(recipe("das3h")).report
    assert report["arrived"]["gain"]["low"] > 0


def test_wrong_options_are_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match="days"):
        go(recipe("das3h", model={"model": "das3h", "days": [0]}))

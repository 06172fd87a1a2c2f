"""PFA: the regression is scikit-learn's on counts made by hand, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tutelage.api import Finished
from tutelage.data.answers import windows
from tutelage.data.simulated_answers import LearningCurves
from tutelage.models.additive_tracer import PFA
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.trace.pfa import PerformanceFactors

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]


def test_the_fit_is_a_regression_on_counts() -> None:
    data = LearningCurves(learners=40, concepts=4, steps=25, active=3)
    splits = data.load(0)
    log, _ = data.drawn()
    train = windows(log, steps=200)
    model = PFA(splits.info)
    PerformanceFactors().fit_all(model, train, 0)
    rows = []
    for who in range(40):
        tried, right = np.zeros(4), np.zeros(4)
        for at in range(25 * who, 25 * (who + 1)):
            c, row = int(log.concepts[at, 0]), np.zeros(12)
            row[c], row[4 + c], row[8 + c] = 1, right[c], tried[c] - right[c]
            rows.append(row)
            tried[c] += 1
            right[c] += log.correct[at]
    wanted = LogisticRegression(C=1.0, max_iter=1000).fit(np.array(rows), log.correct)
    assert np.abs(model.weight.detach().numpy() - wanted.coef_[0]).max() < 1e-3


def test_right_answers_are_worth_more_where_they_are() -> None:
    splits = LearningCurves(learners=200, concepts=5, steps=40, active=5).load(0)
    model = PFA(splits.info)
    PerformanceFactors(strength=10.0).fit_all(model, splits.train, 0)  # type: ignore[arg-type]
    weights = model.weight.detach().view(3, 5)
    assert (weights[1] > weights[2]).all()


def test_a_run_beats_the_average(recipe: Make, go: Go) -> None:
    report = go(recipe("pfa")).report
    assert report["arrived"]["gain"]["low"] > 0
    assert [row["name"] for row in report["rows"]] == ["pfa", "concept average"]
    assert {"concept", "answers", "auc"} <= report["findings"]["concepts"][0].keys()


def test_wrong_options_are_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match="strength"):
        go(recipe({"name": "pfa", "strength": 0}))
    with pytest.raises(InputError, match="use it with logs of answers"):
        go(recipe("pfa", data="digits"))

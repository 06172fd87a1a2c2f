"""Real predictions: two logistic regressions on scikit-learn's digits, one taught well and one taught little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tutelage.measure import Predicted


@pytest.fixture(scope="session")
def predict() -> Callable[[str, str], Predicted]:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    ids = np.arange(len(labels))
    splits = {"large": slice(0, 1000), "small": slice(0, 150), "test": slice(1000, None)}
    models = {
        who: LogisticRegression(max_iter=200).fit(images[splits[who]] / 16, labels[splits[who]])
        for who in ("large", "small")
    }

    def at(who: str, split: str) -> Predicted:
        rows = splits[split]
        return Predicted(who, models[who].decision_function(images[rows] / 16), labels[rows], ids[rows])

    return at


@pytest.fixture(scope="session")
def teacher(predict: Callable[[str, str], Predicted]) -> Predicted:
    return predict("large", "test")


@pytest.fixture(scope="session")
def student(predict: Callable[[str, str], Predicted]) -> Predicted:
    return predict("small", "test")

"""Evidence from real models: scikit-learn classifiers on its digits, a large one, a taught one and an untaught one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tutelage.measure import Predicted
from tutelage.measure.calibration import Calibration
from tutelage.measure.cost import Cost
from tutelage.measure.fidelity import Agreement, KullbackLeibler
from tutelage.measure.leakage import Membership
from tutelage.measure.quality import Accuracy
from tutelage.report.answers import build
from tutelage.report.evidence import Evidence, Row

MEASURES = (Accuracy(), Calibration(), Agreement(), KullbackLeibler(), Membership(), Cost())
TEST = slice(1000, None)


@pytest.fixture(scope="session")
def predict() -> Callable[..., Predicted]:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    ids, trained = np.arange(len(labels)), {}

    def predicted(name: str, samples: int, rows: slice = TEST) -> Predicted:
        if samples not in trained:
            trained[samples] = LogisticRegression(max_iter=200).fit(images[:samples] / 16, labels[:samples])
        return Predicted(name, trained[samples].decision_function(images[rows] / 16), labels[rows], ids[rows])

    return predicted


@pytest.fixture(scope="session")
def curves() -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for stage, name in (("teacher", "teacher"), ("transfer", "student")):
        for step in range(700):
            events.append(
                {"stage": stage, "name": name, "step": step, "losses": {"task": 2.3 / (1 + step), "transfer": 1.5}}
            )
            if step % 100 == 0:
                events.append({"stage": stage, "name": name, "step": step, "validation": {"accuracy": step / 1000}})
    return events


@pytest.fixture(scope="session")
def evidence(predict: Callable[..., Predicted], curves: list[dict[str, Any]]) -> Evidence:
    rows = (
        Row(
            "teacher",
            "source",
            predict("teacher", 1000),
            predict("teacher", 1000, slice(0, 1000)),
            cost={"parameters": 9610},
        ),
        Row(
            "student",
            "recipient",
            predict("student", 400),
            predict("student", 400, slice(0, 400)),
            before=predict("student before", 60),
            cost={"parameters": 650, "wall_time": 130.0, "peak_memory": 34e6, "latency": None},
        ),
        Row("student without transfer", "baseline", predict("alone", 120), cost={"parameters": 650}),
    )
    return Evidence(
        "wttm",
        "distill",
        "done",
        rows,
        MEASURES,
        artifacts={"model": "model/"},
        warnings=("A warning.",),
        curves=curves,
    )


@pytest.fixture(scope="session")
def report(evidence: Evidence) -> dict[str, Any]:
    return build(evidence)

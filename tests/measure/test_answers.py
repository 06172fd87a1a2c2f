"""Scores of predicted answers against scikit-learn, and their intervals over learners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tutelage.measure.answers import Answered, by_concept
from tutelage.measure.bootstrap import weights


def drawn(learners: int = 40, each: int = 25, seed: int = 0) -> Answered:
    rng = np.random.default_rng(seed)
    n = learners * each
    level = np.repeat(rng.normal(0, 1, learners), each)
    logit = rng.normal(0, 1, n) + level
    chance = np.round(1 / (1 + np.exp(-logit)), 2)
    right = (rng.random(n) < chance).astype(float)
    return Answered(
        torch.from_numpy(chance), torch.from_numpy(right), torch.arange(learners).repeat_interleave(each),
        torch.arange(each).repeat(learners), torch.from_numpy(rng.integers(0, 3, n)),
    )  # fmt: skip


def test_auc_is_scikit_learns_with_ties() -> None:
    found = drawn()
    assert float(found.auc().mean()) == pytest.approx(roc_auc_score(found.right, found.chance), abs=1e-12)
    who, values = found.over_learners(found.auc())
    assert len(who) == 40
    assert float(values.mean()) == pytest.approx(roc_auc_score(found.right, found.chance), abs=1e-12)


def test_its_interval_is_that_of_resampled_learners() -> None:
    found = drawn()
    number = found.mean(found.auc())
    areas = []
    for row in next(iter(weights(40, resamples=400, seed=3))):
        own = np.repeat(row, 25)
        areas.append(roc_auc_score(found.right, found.chance, sample_weight=own))
    low, high = np.quantile(areas, [0.025, 0.975])
    assert number.low == pytest.approx(low, abs=0.01)
    assert number.high == pytest.approx(high, abs=0.01)
    assert number.n == 1000


def test_perfect_and_reversed_order() -> None:
    right = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    zero = torch.zeros(4, dtype=torch.int64)
    for chance, area in (([0.1, 0.2, 0.8, 0.9], 1.0), ([0.9, 0.8, 0.2, 0.1], 0.0), ([0.5] * 4, 0.5)):
        found = Answered(torch.tensor(chance, dtype=torch.float64), right, zero, zero, zero)
        assert float(found.auc().mean()) == pytest.approx(area)
    with pytest.raises(ValueError, match="right and wrong"):
        Answered(torch.tensor([0.5, 0.6]).double(), torch.ones(2).double(), zero[:2], zero[:2], zero[:2]).auc()


def test_calibration_error_of_the_truth_is_small() -> None:
    found = drawn(200, 100)
    error = found.ece()
    assert error.value < 0.02
    off = Answered(found.chance.sqrt(), found.right, found.learners, found.positions, found.concepts)
    assert off.ece().value > 0.1


def test_concepts_apart() -> None:
    rows = by_concept(drawn(), ("a", "b", "c"), least=20)
    assert len(rows) == 3
    assert sum(int(row["answers"]) for row in rows) == 1000  # type: ignore[call-overload]

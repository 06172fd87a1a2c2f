"""Selective prediction and calibration under several schemes: the card's numbers, and plain formulations."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.measure import Predicted
from tutelage.measure.calibration import Calibration, calibration_error
from tutelage.measure.selective import Selective, aurc, coverage_accuracy, error_detection

CONFIDENCE = [0.9, 0.1, 0.3, 1.0, 0.1]


@pytest.mark.parametrize(
    ("correct", "released", "mean"),
    [([1, 0, 0, 1, 0], 0.21, 0.2867), ([1, 1, 0, 1, 0], 0.19, 0.1967), ([0, 1, 1, 1, 0], 0.34, 0.2967)],
)
def test_the_cards_areas(correct, released, mean):
    assert aurc(CONFIDENCE, correct, ties="released") == pytest.approx(released)
    assert aurc(CONFIDENCE, correct, ties="mean") == pytest.approx(mean, abs=1e-4)


def test_merged_ties_do_not_depend_on_their_order():
    draw = np.random.default_rng(0)
    confidence, correct = draw.integers(0, 5, 40) / 5, draw.integers(0, 2, 40)
    order = draw.permutation(40)
    assert aurc(confidence, correct) == pytest.approx(aurc(confidence[order], correct[order]))
    # The curve itself: risk among what is at least as confident, by straight lines, level below the last point.
    levels = np.unique(confidence)
    coverage = [(confidence >= level).mean() for level in levels]
    risk = [1 - correct[confidence >= level].mean() for level in levels]
    area = np.trapezoid(risk[::-1], coverage[::-1]) + coverage[-1] * risk[-1]
    assert aurc(confidence, correct) == pytest.approx(area)


def test_perfect_order_is_best_and_certainty_about_nothing_is_the_error():
    correct = np.array([1, 1, 1, 0, 0])
    assert aurc([5, 4, 3, 2, 1], correct) < aurc([1, 2, 3, 4, 5], correct)
    assert aurc([1, 1, 1, 1, 1], correct) == pytest.approx(0.4)
    assert aurc([3, 2, 1], [1, 1, 1]) == 0.0


def test_coverage_and_detection():
    assert coverage_accuracy([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], [1.0, 0.5, 0.25]) == [0.5, 1.0, 1.0]
    assert error_detection([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0]).value == 1.0
    assert error_detection([0.9, 0.8], [1, 1]) is None
    with pytest.raises(ValueError, match="expected confidence"):
        aurc([0.5], [1, 0])


def test_the_cards_calibration():
    confidence, correct = [0.95, 0.9, 0.8, 0.75, 0.6, 0.55], [1, 1, 0, 1, 0, 1]
    assert calibration_error(confidence, correct, bins=3, scheme="mass") == pytest.approx(0.1416667)
    assert calibration_error(confidence, correct, bins=3, scheme="mass", proxy="upper") == pytest.approx(0.15)
    # Five bins of equal numbers for six samples: one holds two.
    assert calibration_error(confidence, correct, bins=None, scheme="mass") == pytest.approx(
        calibration_error(confidence, correct, bins=5, scheme="mass")
    )
    wide = calibration_error(confidence, correct, bins=2, scheme="width", proxy="upper")
    assert wide == pytest.approx(1 - 4 / 6)


def test_the_usual_scheme_is_that_of_the_measure(teacher):
    confidence, correct = teacher.probabilities.amax(1).numpy(), teacher.correct.numpy()
    found = Calibration()(teacher)
    assert calibration_error(confidence, correct) == pytest.approx(found["ece"].value)
    assert calibration_error(confidence, correct, scheme="mass") == pytest.approx(found["adaptive_ece"].value)


def test_the_measure(teacher):
    found = Selective()(teacher)
    confidence, correct = teacher.probabilities.amax(1).numpy(), teacher.correct.numpy()
    assert found["aurc"].value == pytest.approx(aurc(confidence, correct))
    assert found["error_auroc"].low < found["error_auroc"].value < found["error_auroc"].high
    right = Predicted("x", np.eye(3) * 5, np.arange(3), np.arange(3))
    assert list(Selective(ties="mean")(right)) == ["aurc"]
    broken = Predicted("x", np.full((3, 3), np.nan), np.arange(3), np.arange(3))
    assert np.isnan(Selective()(broken)["aurc"].value)

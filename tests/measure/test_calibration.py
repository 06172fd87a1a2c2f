from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.measure import Predicted
from tutelage.measure.calibration import Calibration, equal_mass, equal_width, reliability


def binary(confidence: list[float], correct: list[int]) -> Predicted:
    """Predictions of class 0 with these confidences, right where asked."""
    p = torch.tensor(confidence, dtype=torch.float64)
    logits = torch.stack([p.log(), (1 - p).log()], dim=1)
    return Predicted("worked", logits, 1 - torch.tensor(correct), torch.arange(len(confidence)))


def test_worked_example() -> None:
    # Bins of width 0.2: {0.55, 0.58} has accuracy 0.5, confidence 0.565; {0.7, 0.7} 1.0 and 0.7; {0.9} 0 and 0.9.
    predicted = binary([0.55, 0.58, 0.7, 0.7, 0.9], [1, 0, 1, 1, 0])
    numbers = Calibration(bins=5)(predicted)
    assert numbers["ece"].value == pytest.approx((2 * 0.065 + 2 * 0.3 + 1 * 0.9) / 5, abs=1e-6)
    # Equal mass, one sample a bin: every sample's own gap.
    assert numbers["adaptive_ece"].value == pytest.approx((0.45 + 0.58 + 0.3 + 0.3 + 0.9) / 5, abs=1e-6)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_agrees_with_torchmetrics(student: Predicted, teacher: Predicted, bins: int) -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    for predicted in (student, teacher):
        theirs = multiclass_calibration_error(predicted.probabilities, predicted.labels, 10, n_bins=bins, norm="l1")
        number = Calibration(bins=bins)(predicted)["ece"]
        assert number.value == pytest.approx(float(theirs), abs=1e-6)
        assert number.low < number.value < number.high


def test_the_diagram_agrees_with_scikit_learn(student: Predicted) -> None:
    from sklearn.calibration import calibration_curve

    top, right = student.probabilities.amax(1).numpy(), student.correct.numpy()
    accuracy, confidence = calibration_curve(right, top, n_bins=15, strategy="uniform")
    diagram = reliability(student)
    assert diagram.accuracy == pytest.approx(accuracy)
    assert diagram.confidence == pytest.approx(confidence)
    assert diagram.count.sum() == len(student)
    ece = (diagram.count * np.abs(diagram.accuracy - diagram.confidence)).sum() / len(student)
    assert Calibration()(student)["ece"].value == pytest.approx(ece)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.integers(1, 20))
@settings(max_examples=80, deadline=None)
def test_bins_are_in_range_ordered_and_even(values: list[float], bins: int) -> None:
    confidence = np.array(values)
    for bin_of in (equal_width(confidence, bins), equal_mass(confidence, bins)):
        assert bin_of.min() >= 0
        assert bin_of.max() < bins
        assert (np.diff(bin_of[np.argsort(confidence, kind="stable")]) >= 0).all()
    sizes = np.bincount(equal_mass(confidence, bins), minlength=bins)
    assert sizes.max() - sizes.min() <= 1


def test_a_calibrated_model_has_an_error_near_zero_and_an_overconfident_one_its_overconfidence() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 0.99, size=20_000)
    right = (rng.random(20_000) < confidence).astype(int)
    assert Calibration()(binary(confidence.tolist(), right.tolist()))["ece"].value < 0.015
    sure = Calibration()(binary([0.99] * 5000, (rng.random(5000) < 0.8).astype(int).tolist()))
    assert sure["ece"].low < 0.19 < sure["ece"].high
    assert sure["ece"].high - sure["ece"].low < 0.03


def test_the_interval_covers_the_expected_estimate() -> None:
    rng = np.random.default_rng(1)

    def draw() -> Predicted:
        confidence = rng.uniform(0.5, 0.99, size=300)
        return binary(confidence.tolist(), (rng.random(300) < confidence - 0.1).astype(int).tolist())

    numbers = [Calibration()(draw())["ece"] for _ in range(120)]
    expected = np.mean([number.value for number in numbers])
    assert 0.88 <= np.mean([number.low <= expected <= number.high for number in numbers]) <= 1.0


def test_a_nan_output_has_no_calibration() -> None:
    broken = Predicted("broken", torch.full((4, 3), torch.nan), torch.zeros(4), torch.arange(4))
    assert np.isnan(Calibration()(broken)["ece"].value)
    assert reliability(broken).count.sum() == 0

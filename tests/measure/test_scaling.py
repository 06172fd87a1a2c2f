"""Temperature scaling: it finds the temperature that was taken away, and repairs calibration."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize_scalar

from tutelage.measure.calibration import Calibration
from tutelage.measure.predicted import Predicted
from tutelage.measure.scaling import fitted_temperature, scaled


def honest(count: int = 4000, factor: float = 1.0) -> Predicted:
    """Labels drawn from what the logits say, which are then multiplied."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    return Predicted("model", factor * logits, labels, torch.arange(count))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_taken_away_is_found(factor):
    said = honest(factor=factor)
    found = fitted_temperature(said)
    assert found == pytest.approx(factor, rel=0.05)
    loss = minimize_scalar(lambda t: float(scaled(said, t).losses.mean()), bounds=(0.05, 20), method="bounded")
    assert found == pytest.approx(loss.x, rel=1e-3)


def test_scaling_repairs_calibration_and_leaves_what_is_predicted():
    said = honest(factor=3.0)
    repaired = scaled(said, fitted_temperature(said))
    assert torch.equal(repaired.classes, said.classes)
    before, after = (Calibration()(one)["ece"].value for one in (said, repaired))
    assert after < 0.03 < before


def test_certain_and_right_has_no_calibration_error_and_80_for_60_has_20():
    sure = Predicted("model", 100 * torch.eye(4), torch.arange(4), torch.arange(4))
    assert Calibration()(sure)["ece"].value == pytest.approx(0.0, abs=1e-9)
    logits = torch.tensor([[0.8, 0.2]]).log().repeat(5, 1)
    boastful = Predicted("model", logits, torch.tensor([0, 0, 0, 1, 1]), torch.arange(5))
    assert Calibration()(boastful)["ece"].value == pytest.approx(0.2, abs=1e-6)


def test_what_cannot_be_fitted_stays_within_bounds():
    always_right = Predicted("model", torch.eye(3), torch.arange(3), torch.arange(3))
    assert fitted_temperature(always_right) == pytest.approx(0.05)
    broken = Predicted("model", torch.full((2, 3), float("nan")), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    assert fitted_temperature(broken) == 1.0


def test_bad_bounds_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        fitted_temperature(honest(10), low=2.0, high=1.0)
    with pytest.raises(ValueError, match="temperature"):
        scaled(honest(10), 0.0)

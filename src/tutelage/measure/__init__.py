"""Measures: quality, fidelity, calibration, retention, leakage and cost, each with how sure it is."""

from __future__ import annotations

from tutelage.measure.base import Measure
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.measure.scored import Scored
from tutelage.measure.summary import GROUPS, evaluate

__all__ = ["GROUPS", "Measure", "Number", "Predicted", "Scored", "evaluate"]

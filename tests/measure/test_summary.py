from __future__ import annotations

from dataclasses import replace

import pytest

from tutelage.measure import GROUPS, Measure, Number, Predicted, evaluate
from tutelage.measure.calibration import Calibration
from tutelage.measure.cost import UNITS, Cost
from tutelage.measure.fidelity import Agreement, KullbackLeibler
from tutelage.measure.leakage import Membership
from tutelage.measure.quality import Accuracy, Brier, NegativeLogLikelihood
from tutelage.measure.retention import Retention

PREDICTIONS = [Retention(), Calibration(), Agreement(), KullbackLeibler(), Accuracy(), NegativeLogLikelihood(), Brier()]
EVERY = [Cost(), Membership(), *PREDICTIONS]


def test_everything_is_measured_in_its_group(predict, student: Predicted, teacher: Predicted) -> None:
    found = evaluate(EVERY, student, teacher, predict("small", "small"), {"wall_time": 2.5, "parameters": 650})
    assert tuple(found) == GROUPS
    assert list(found["quality"]) == ["accuracy", "nll", "brier"]
    assert {"agreement", "kl", "reverse_kl"} == set(found["fidelity"])
    assert found["cost"] == {"parameters": Number(650.0), "wall_time": Number(2.5)}
    assert found["leakage"]["membership_auc"].n == 150 + len(student)


def test_what_cannot_be_measured_is_absent(student: Predicted) -> None:
    assert set(evaluate(EVERY, student)) == {"quality", "calibration"}
    assert "cost" not in evaluate(EVERY, student, cost={"latency": None})


def test_unknown_costs_come_after_the_known_ones(student: Predicted) -> None:
    numbers = Cost()(student, cost={"carbon": 1.0, "wall_time": 3.0, "parameters": 2, "flops": None})
    assert list(numbers) == ["parameters", "wall_time", "carbon"]
    assert set(numbers) - set(UNITS) == {"carbon"}


def test_the_same_name_twice_is_refused(student: Predicted) -> None:
    with pytest.raises(ValueError, match="accuracy measured twice"):
        evaluate([Accuracy(), Accuracy()], student)


def test_another_split_is_refused(student: Predicted, teacher: Predicted) -> None:
    with pytest.raises(ValueError, match="different samples"):
        evaluate([Agreement()], student, replace(teacher, ids=teacher.ids + 5))


def test_a_measure_of_ones_own_needs_a_group_and_a_call(student: Predicted) -> None:
    class Entropy(Measure):
        group = "sharpness"

        def __call__(self, subject: Predicted, source: Predicted | None = None) -> dict[str, Number]:
            return {"entropy": Number(float(-(subject.probabilities * subject.log_probabilities).sum(1).mean()))}

    found = evaluate([Entropy(), Accuracy()], student)
    assert list(found) == ["quality", "sharpness"]
    assert 0 < found["sharpness"]["entropy"].value < 2.31


def test_a_number_survives_its_dictionary() -> None:
    for number in (Number(0.5, 0.4, 0.6, 10), Number(3.0)):
        assert Number.from_dict(number.to_dict()) == number

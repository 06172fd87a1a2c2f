from __future__ import annotations

import pytest

from tutelage.measure import GROUPS, Measure
from tutelage.recipe.registry import registry

NAMES = registry().names("measure")


def test_every_measure_is_found_by_name() -> None:
    known = {"accuracy", "nll", "brier", "calibration", "agreement", "kl", "retention", "membership", "cost"}
    assert known <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_source_says_is_what_the_class_does(name: str) -> None:
    entry = registry().get("measure", name)
    measure = registry().load("measure", name)()
    assert isinstance(measure, Measure)
    assert measure.group in GROUPS
    assert entry.facts["group"] == measure.group
    assert entry.summary
    assert entry.positional == ()
    assert all(hasattr(measure, param.name) for param in entry.params)
    given = (param for param in entry.params if param.default is not None)
    assert all(getattr(measure, param.name) is not None for param in given)

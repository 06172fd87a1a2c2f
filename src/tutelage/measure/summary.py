"""All the measures of a recipe, taken of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tutelage.measure.base import Measure
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.measure.scored import Scored

GROUPS = ("quality", "fidelity", "calibration", "retention", "leakage", "cost")


def evaluate(
    measures: Sequence[Measure],
    subject: Predicted | Scored,
    source: Predicted | None = None,
    train: Predicted | None = None,
    cost: Mapping[str, float | None] | None = None,
    triggered: Predicted | None = None,
) -> dict[str, dict[str, Number]]:
    """Measure one model.

    Args:
        measures: What to measure, in order.
        subject: Its predictions on the split that is reported.
        source: The source's predictions on the same samples; without it, measures that compare are left out.
        train: The subject's predictions on its training split; without it, leakage is left out.
        cost: What the engine counted; ``None`` values were not counted.
        triggered: The subject's predictions on samples that bear a trigger; without it, no backdoor is looked for.

    Returns:
        Numbers by group (in the order of `GROUPS`, then the measures' own) and name. What could not be measured is
        absent.

    Raises:
        ValueError: Two measures report the same name in the same group, or source and subject are about different
            samples.
    """
    extras = {"train": train, "cost": cost, "triggered": triggered}
    found: dict[str, dict[str, Number]] = {}
    for measure in measures:
        given = {name: extras[name] for name in getattr(measure, "takes", ())}
        if any(value is None for value in given.values()) or (
            source is None and getattr(measure, "requires_source", False)
        ):
            continue
        numbers = measure(subject, source, **given)  # type: ignore[arg-type]  # only what fits the subject may be asked for
        group = found.setdefault(measure.group, {})
        twice = sorted(set(numbers) & set(group))
        if twice:
            raise ValueError(f"{', '.join(twice)} measured twice in group '{measure.group}'")
        group.update(numbers)
    order = [*(name for name in GROUPS if name in found), *(name for name in found if name not in GROUPS)]
    return {name: found[name] for name in order if found[name]}

"""Cost: what using and making the recipient takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tutelage.measure.base import Measure
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.recipe.registry import component

UNITS: Mapping[str, str] = {
    "parameters": "",
    "flops": "FLOP",
    "latency": "s",
    "peak_memory": "B",
    "wall_time": "s",
    "cpu_time": "s",
}
"""The costs that are known, in the order they are shown, with their units: FLOPs and latency of one sample, memory and
times of
training."""


@component("measure", "cost")
class Cost(Measure):
    """Parameters, FLOPs and latency of one prediction, peak memory, wall and processor time, as the engine counted."""

    group: ClassVar[str] = "cost"
    subject: ClassVar[str] = "any"
    takes: ClassVar[tuple[str, ...]] = ("cost",)

    def __call__(
        self, subject: Predicted, source: Predicted | None = None, *, cost: Mapping[str, float | None] | None = None
    ) -> dict[str, Number]:
        """The costs that were counted, known ones first; one that was not is absent."""
        counted = cost or {}
        names = [*(name for name in UNITS if name in counted), *(name for name in counted if name not in UNITS)]
        return {name: Number(float(value)) for name in names if (value := counted[name]) is not None}

"""A number that knows how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A measured value with its 95 % bootstrap interval.

    Args:
        value: The estimate.
        low: Lower end of the interval; ``None`` for a count or a cost, which is not an average over samples.
        high: Upper end.
        n: Number of samples it averages; ``None`` likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def to_dict(self) -> dict[str, float | int | None]:
        """The four fields by name: how a number stands in ``report.json``."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def from_dict(cls, fields: Mapping[str, float | int | None]) -> Number:
        """The number that `to_dict` wrote."""
        value, n = fields["value"], fields.get("n")
        return cls(
            float("nan") if value is None else float(value),
            fields.get("low"),
            fields.get("high"),
            None if n is None else int(n),
        )

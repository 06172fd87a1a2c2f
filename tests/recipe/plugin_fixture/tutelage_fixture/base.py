"""What the plugin's components share."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge, Gt

Positive = Annotated[float, Gt(0)]
HALF = 0.5


class Base:
    """Shared constructor.

    Args:
        weight: Weight of the transfer term.
        warmth: Temperature of both distributions.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}

    def __init__(self, *, weight: Annotated[float, Ge(0)] = HALF, warmth: Positive = 4) -> None:
        self.weight, self.warmth = weight, warmth

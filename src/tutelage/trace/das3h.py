"""DAS3H: difficulty, ability and student skill history (arXiv:1905.06873, EDM 2019)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge, Gt

from tutelage.recipe.registry import method
from tutelage.trace.pfa import Regression


@method("das3h", paper="arXiv:1905.06873", route="trace")
class SkillHistory(Regression):
    """Fit the difficulty of items and concepts, and what attempts in the last hour, day, week and month are worth.

    Args:
        strength: Inverse of the weight of the squared coefficients, as scikit-learn's ``C``.
        iterations: The most iterations of the solver.
    """

    wanted: ClassVar[str] = "das3h"

    def __init__(self, *, strength: Annotated[float, Gt(0)] = 1.0, iterations: Annotated[int, Ge(1)] = 1000) -> None:
        super().__init__(strength=strength, iterations=iterations)

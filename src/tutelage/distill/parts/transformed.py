"""What TTM and WTTM share: the power that a teacher's probabilities are raised to, however it is given."""

from __future__ import annotations

from tutelage.distill.base import LogitDistillation
from tutelage.recipe.errors import Problem
from tutelage.recipe.spec import Recipe

_EXPONENT = 0.25


class Transformed(LogitDistillation):
    """A distillation from the power-transformed teacher (arXiv:2402.11148).

    Args:
        exponent: The power; ``None`` for 1 / temperature, or 0.25 where there is none of these.
        temperature: The teacher's.
    """

    def __init__(self, exponent: float | None, temperature: float | None) -> None:
        super().__init__()
        self.exponent, self.temperature = exponent, temperature

    @property
    def power(self) -> float:
        """The power, in (0, 1]."""
        if self.temperature is not None:
            return 1.0 / self.temperature
        return _EXPONENT if self.exponent is None else self.exponent

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Also a power that is given twice."""
        problems = super().check(recipe)
        every = [recipe.method, *recipe.also]
        every += [spec for stage in recipe.stages for spec in (stage.method, *stage.also)]
        for spec in dict.fromkeys(every):
            args, where = spec.args, spec.place
            if spec.name in ("ttm", "wttm") and None not in (args["exponent"], args["temperature"]):
                text = (
                    f"{spec.name} has an exponent and a temperature, which are one number: temperature = 1 / exponent."
                )
                path, hint = ("method", "temperature"), "Leave out one of them."
                problems.append(Problem(text, path, where.file, where.line, where.column, hint))
        return problems

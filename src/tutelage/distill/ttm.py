"""TTM: transformed-teacher matching (arXiv:2402.11148, ICLR 2024)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from tutelage.data.batch import Batch
from tutelage.distill.parts.transformed import Transformed
from tutelage.engine.terms import Losses
from tutelage.losses import power_sum, ttm
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("ttm", paper="arXiv:2402.11148", route="distill")
class TTM(Transformed):
    """Match the student's plain distribution to the teacher's power-transformed one.

    The student is not softened and nothing is multiplied by a temperature: gradients are of order one as they are,
    and ``beta`` is
    larger than the weights that plain distillation needs.

    Args:
        exponent: Power that the teacher's probabilities are raised to; null for 1 / temperature, or for 0.25.
        temperature: Of the teacher, another way to give the exponent: 10 is 0.1.
        beta: Weight of the transfer term.
        ce_weight: Weight of the label term.
    """

    def __init__(
        self,
        *,
        exponent: Annotated[float, Gt(0), Le(1), Ramped()] | None = None,
        temperature: Annotated[float, Ge(1), Ramped()] | None = None,
        beta: Annotated[float, Ge(0), Ramped()] = 4.0,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
    ) -> None:
        super().__init__(exponent, temperature)
        self.beta, self.ce_weight = beta, ce_weight

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``ce_weight * CE + beta * KL(teacher^exponent, student)``."""
        transfer = ttm(student.logits, teacher.logits, exponent=self.power)
        terms = self.task(student, batch) | Losses(transfer=transfer)
        terms = terms.weighted(task=self.ce_weight, transfer=self.beta)
        return terms.noting(softness=power_sum(teacher.logits, self.power))

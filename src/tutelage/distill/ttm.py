"""TTM: transformed-teacher matching (arXiv:2402.11148, ICLR 2024)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.engine.terms import Losses
from tutelage.losses import ttm
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("ttm", paper="arXiv:2402.11148", route="distill")
class TTM(LogitDistillation):
    """Match the student's plain distribution to the teacher's power-transformed one.

    The student is not softened and nothing is multiplied by a temperature: gradients are of order one as they are,
    and ``beta`` is
    larger than the weights that plain distillation needs.

    Args:
        exponent: Power that the teacher's probabilities are raised to; 1 / exponent is its temperature.
        beta: Weight of the transfer term.
        ce_weight: Weight of the label term.
    """

    def __init__(
        self,
        *,
        exponent: Annotated[float, Gt(0), Le(1), Ramped()] = 0.25,
        beta: Annotated[float, Ge(0), Ramped()] = 4.0,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
    ) -> None:
        super().__init__()
        self.exponent, self.beta, self.ce_weight = exponent, beta, ce_weight

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``ce_weight * CE + beta * KL(teacher^exponent, student)``."""
        transfer = ttm(student.logits, teacher.logits, exponent=self.exponent)
        terms = self.task(student, batch) | Losses(transfer=transfer)
        return terms.weighted(task=self.ce_weight, transfer=self.beta)

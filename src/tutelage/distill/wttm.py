"""WTTM: weighted transformed-teacher matching (arXiv:2402.11148, ICLR 2024)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.engine.terms import Losses
from tutelage.losses import wttm
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("wttm", paper="arXiv:2402.11148", route="distill")
class WTTM(LogitDistillation):
    """Match the student's plain distribution to the teacher's power-transformed one, weighted per sample.

    A sample counts for as much as the teacher is soft on it: its weight is the power sum of the teacher's
    probabilities, 1 for a
    one-hot teacher and classes^(1 - exponent) for a uniform one.

    Args:
        exponent: Power that the teacher's probabilities are raised to; 1 / exponent is its temperature.
        beta: Weight of the transfer term.
        ce_weight: Weight of the label term.
        normalize_weights: Divide the weights by their mean over the batch (not in the paper).
    """

    def __init__(
        self,
        *,
        exponent: Annotated[float, Gt(0), Le(1), Ramped()] = 0.25,
        beta: Annotated[float, Ge(0), Ramped()] = 2.0,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        normalize_weights: bool = False,
    ) -> None:
        super().__init__()
        self.exponent, self.beta, self.ce_weight = exponent, beta, ce_weight
        self.normalize_weights = normalize_weights

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``ce_weight * CE + beta * U(teacher) * KL(teacher^exponent, student)``."""
        transfer = wttm(student.logits, teacher.logits, exponent=self.exponent, normalize=self.normalize_weights)
        terms = self.task(student, batch) | Losses(transfer=transfer)
        return terms.weighted(task=self.ce_weight, transfer=self.beta)

"""WTTM: weighted transformed-teacher matching (arXiv:2402.11148, ICLR 2024)."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from tutelage.data.batch import Batch
from tutelage.distill.parts.transformed import Transformed
from tutelage.engine.terms import Losses
from tutelage.losses import power_sum, ttm
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("wttm", paper="arXiv:2402.11148", route="distill")
class WTTM(Transformed):
    """Match the student's plain distribution to the teacher's power-transformed one, weighted per sample.

    A sample counts for as much as the teacher is soft on it: its weight is the power sum of the teacher's
    probabilities, 1 for a
    one-hot teacher and classes^(1 - exponent) for a uniform one.

    Args:
        exponent: Power that the teacher's probabilities are raised to; null for 1 / temperature, or for 0.25.
        temperature: Of the teacher, another way to give the exponent: 10 is 0.1.
        beta: Weight of the transfer term.
        ce_weight: Weight of the label term.
        weighting: By the ``power_sum``; ``none`` is TTM.
        normalize_weights: Divide the weights by their mean over the batch (not in the paper).
    """

    def __init__(
        self,
        *,
        exponent: Annotated[float, Gt(0), Le(1), Ramped()] | None = None,
        temperature: Annotated[float, Ge(1), Ramped()] | None = None,
        beta: Annotated[float, Ge(0), Ramped()] = 2.0,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        weighting: Literal["power_sum", "none"] = "power_sum",
        normalize_weights: bool = False,
    ) -> None:
        super().__init__(exponent, temperature)
        self.beta, self.ce_weight = beta, ce_weight
        self.weighting, self.normalize_weights = weighting, normalize_weights

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``ce_weight * CE + beta * U(teacher) * KL(teacher^exponent, student)``."""
        softness = power_sum(teacher.logits.detach(), self.power)
        transfer = ttm(student.logits, teacher.logits, exponent=self.power)
        if self.weighting == "power_sum":
            transfer = (softness / softness.mean() if self.normalize_weights else softness) * transfer
        terms = self.task(student, batch) | Losses(transfer=transfer)
        terms = terms.weighted(task=self.ce_weight, transfer=self.beta)
        return terms.noting(softness=softness)

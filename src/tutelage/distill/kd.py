"""KD: distilling the knowledge in a neural network (arXiv:1503.02531)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.engine.terms import Losses
from tutelage.losses import kl_divergence
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("kd", paper="arXiv:1503.02531", route="distill")
class KD(LogitDistillation):
    """Match the student's softened distribution to the teacher's, beside the labels (section 2).

    The soft term keeps its factor temperature² whatever the weights, so that changing the temperature does not
    change how much the
    two terms count.

    Args:
        temperature: Softens both distributions.
        alpha: Weight of the label term; the transfer term has the rest.
    """

    def __init__(
        self,
        *,
        temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        alpha: Annotated[float, Ge(0), Le(1), Ramped()] = 0.5,
    ) -> None:
        super().__init__()
        self.temperature, self.alpha = temperature, alpha

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``alpha * CE + (1 - alpha) * T² * KL(teacher / T, student / T)``."""
        transfer = kl_divergence(student.logits, teacher.logits, temperature=self.temperature)
        terms = self.task(student, batch) | Losses(transfer=transfer)
        return terms.weighted(task=self.alpha, transfer=1.0 - self.alpha)

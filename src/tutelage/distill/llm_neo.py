"""LLM-Neo: distillation into low-rank adapters (arXiv:2411.06839)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from tutelage.distill.base import mistake
from tutelage.distill.parts.language import LanguageDistillation
from tutelage.losses.tokens import DivergenceName
from tutelage.recipe.errors import Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe, Spec


@method("llm-neo", paper="arXiv:2411.06839", route="distill")
class LLMNeo(LanguageDistillation):
    """Only adapters of the student are trained, by labels and teacher: ``(1 - k) CE + k KL(teacher ‖ student)``.

    What is adapted and how is the student's ``adapter``; the published one is of rank 64 on all linear layers, counted
    twice, with ten times the learning rate of full training. It is merged when the student is saved.

    Args:
        kd_ratio: k, the weight of the divergence; 0 is training of the adapters on labels alone.
        divergence: Between the two distributions of a token.
        temperature: Of both sides of the divergence.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}

    def __init__(
        self,
        *,
        kd_ratio: Annotated[float, Ge(0), Le(1)] = 0.5,
        divergence: DivergenceName = "forward-kl",
        temperature: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__(divergence=divergence, temperature=temperature, task_weight=1 - kd_ratio)

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher; a student without an adapter."""
        problems, student = super().check(recipe), recipe.slots.get("student")
        if isinstance(student, Spec) and student.extras.get("adapter") is None:
            hint = "Give it `adapter: {name: lora, rank: 64, alpha: 128.0}`, or take gkd with lmbda 0."
            problems.append(mistake(student, "llm-neo trains an adapter, and the student has none.", hint, "student"))
        return problems

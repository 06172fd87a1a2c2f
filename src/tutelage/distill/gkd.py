"""GKD: on-policy distillation of language models (arXiv:2306.13649, ICLR 2024)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from tutelage.distill.parts.language import LanguageDistillation, written_anew
from tutelage.distill.samplers.on_policy import OnPolicy
from tutelage.losses.tokens import DivergenceName
from tutelage.recipe.errors import Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped


@method("gkd", paper="arXiv:2306.13649", route="distill")
class GKD(LanguageDistillation):
    """The student is taught on what it writes itself, by a divergence between forward and reverse KL.

    ``(1 - lmbda) E_data[D] + lmbda E_student[D]`` with ``D`` the mean over an answer's tokens (equation 3), one draw a
    step. No gradient flows through the student's writing.

    Args:
        lmbda: How often the student writes the answers.
        divergence: ``jsd`` of the paper, or another.
        beta: The teacher's share of the mixture of ``jsd``: 0 is the forward and 1 the reverse KL (equation 1).
        temperature: Of both sides of the divergence.
        seq_kd: Whether the teacher writes the answers when the student does not, in place of the data.
        sampling_temperature: Of what is written.
        top_p: Of what is written.
        max_new_tokens: Most tokens of an answer.
        task_weight: Weight of the cross-entropy with the data's own tokens, which the paper does without; on answers
            that the student wrote there is none.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher; one that is to remember answers which are written anew."""
        return [*super().check(recipe), *written_anew(recipe, recipe.method.args.get("lmbda") != 0)]

    def __init__(
        self,
        *,
        lmbda: Annotated[float, Ge(0), Le(1), Ramped()] = 0.5,
        divergence: DivergenceName = "jsd",
        beta: Annotated[float, Ge(0), Le(1)] = 0.5,
        temperature: Annotated[float, Gt(0)] = 1.0,
        seq_kd: bool = False,
        sampling_temperature: Annotated[float, Ge(0)] = 1.0,
        top_p: Annotated[float, Gt(0), Le(1)] = 1.0,
        max_new_tokens: Annotated[int, Ge(1)] = 128,
        task_weight: Annotated[float, Ge(0), Le(1)] = 0.0,
    ) -> None:
        super().__init__(divergence=divergence, beta=beta, temperature=temperature, task_weight=task_weight)
        self.sampler = OnPolicy(
            share=lmbda,
            else_teacher=seq_kd,
            temperature=sampling_temperature,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
        )

"""DistiLLM: skewed divergences and adaptive off-policy sampling (arXiv:2402.03898, ICML 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Le, Lt

from tutelage.distill.parts.language import LanguageDistillation, look, written_anew
from tutelage.distill.samplers.adaptive import Adaptive, Replay
from tutelage.losses.tokens import DivergenceName
from tutelage.recipe.errors import Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("distillm", paper="arXiv:2402.03898", route="distill")
class DistiLLM(LanguageDistillation):
    """A divergence that stays bounded, on the data and on answers of the student as often as they are needed.

    ``KL(p ‖ α p + (1 − α) q)`` or its reverse (equations 4 and 5), with p the teacher and q the student.

    Args:
        divergence: ``skew-kl``, ``skew-reverse-kl``, or another.
        alpha: How much of the distribution that diverges is mixed into the other.
        temperature: Of both sides of the divergence.
        kd_ratio: Weight of the divergence, beside one minus it for the cross-entropy with the data's answers; on
            answers of the student there is none.
        init_threshold: How often the student's answers are used at first.
        threshold_step: What that grows by when validation gets worse.
        loss_eps: By how much it must.
        capacity: Answers that are kept to be used again.
        replay_ratio: How often new ones are written, as training goes on.
        sampling_temperature: Of what is written.
        top_p: Of what is written.
        max_new_tokens: Most tokens of an answer.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}

    def __init__(
        self,
        *,
        divergence: DivergenceName = "skew-reverse-kl",
        alpha: Annotated[float, Ge(0), Lt(1)] = 0.1,
        temperature: Annotated[float, Gt(0)] = 1.0,
        kd_ratio: Annotated[float, Gt(0), Le(1)] = 1.0,
        init_threshold: Annotated[float, Ge(0), Le(1)] = 0.0,
        threshold_step: Annotated[float, Ge(0), Le(1)] = 0.1,
        loss_eps: Annotated[float, Ge(0)] = 0.1,
        capacity: Annotated[int, Ge(1)] = 1000,
        replay_ratio: Replay = "decreasing",
        sampling_temperature: Annotated[float, Ge(0)] = 1.0,
        top_p: Annotated[float, Gt(0), Le(1)] = 1.0,
        max_new_tokens: Annotated[int, Ge(1)] = 128,
    ) -> None:
        super().__init__(divergence=divergence, alpha=alpha, temperature=temperature, task_weight=1 - kd_ratio)
        self.sampler = Adaptive(
            initial=init_threshold,
            increase=threshold_step,
            tolerance=loss_eps,
            capacity=capacity,
            replay=replay_ratio,
            temperature=sampling_temperature,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
        )

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher; one that is to remember answers which are written anew."""
        return [*super().check(recipe), *written_anew(recipe, True)]

    def survey(self, run: Run) -> None:
        """How well the student foretells the validation texts before anything moves."""
        if run.splits.validation is None:
            run.warnings.append("distillm: without validation data the student's own answers are never called for.")
        elif isinstance(self.sampler, Adaptive):
            device = torch.device("cpu")
            self.sampler.begin(look(run.source("student"), run.splits.validation, device)["loss"])

    def validated(self, scores: Mapping[str, float]) -> None:
        """More of the student's own answers, where it has got worse."""
        if isinstance(self.sampler, Adaptive) and "loss" in scores:
            self.sampler.judge(scores["loss"])

    def findings(self, run: Run) -> dict[str, Any]:
        """How often the student's own answers were used in the end, and how many were written."""
        if not isinstance(self.sampler, Adaptive):
            return {}
        return {"share of own answers": float(self.sampler.threshold), "answers written": int(self.sampler.held)}

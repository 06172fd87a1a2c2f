"""CED: consistent ensemble distillation (arXiv:2308.11957, ICASSP 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation, LogitDistillation, mistake
from tutelage.engine.method import Method, Step
from tutelage.engine.terms import Losses
from tutelage.losses import binary_cross_entropy, soft_cross_entropy
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe, Spec


@method("ced", paper="arXiv:2308.11957", route="distill")
class CED(LogitDistillation):
    """Learn a teacher's scores of the very views that the student sees, from a store, and no label.

    The paper's teacher is an ``ensemble`` whose scores are stored beforehand: ``store: {views: 40, top_k: 20, fill:
    zero}`` under ``teacher``. Its ``consistent: false`` is the paper's ablation. A teacher without a store is asked at
    every step, which is the same at a price.

    Args:
        scores: What the teacher's logits mean: a probability for each class by itself (``sigmoid``), or of one class
            among all (``softmax``).
        objective: ``bce``: binary cross-entropy of each class, averaged over classes; ``ce``: cross-entropy with the
            distribution, which needs ``softmax`` scores.
        mixup_alpha: Blend each sample with its partner in the reversed batch, by a share from Beta(alpha, alpha); 0
            for none. The paper's smaller set has 0.5.
    """

    def __init__(
        self,
        *,
        scores: Literal["sigmoid", "softmax"] = "sigmoid",
        objective: Literal["bce", "ce"] = "bce",
        mixup_alpha: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        super().__init__()
        self.scores, self.objective, self.mixup_alpha = scores, objective, mixup_alpha

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Targets that are no distribution, and a store that completes scores of another kind."""
        problems = super().check(recipe)

        spec, teacher = recipe.method, recipe.slots.get("teacher")
        if spec.name != "ced":
            return problems
        scores = spec.args["scores"]
        if spec.args["objective"] == "ce" and scores == "sigmoid":
            hint = "Set `scores: softmax`, or leave the objective at bce."
            message = "sigmoid scores are no distribution, so there is no cross-entropy with them."
            problems.append(mistake(spec, message, hint, "method", "objective"))
        store = teacher.extras.get("store") if isinstance(teacher, Spec) else None
        if store is not None and store.top_k is not None and store.scale != scores:
            hint = f"Set `scale: {scores}` in the store, or `scores: {store.scale}` in the method."
            message = f"the store fills up {store.scale} scores, but the method takes them for {scores} scores."
            assert isinstance(teacher, Spec)
            problems.append(mistake(teacher, message, hint, "teacher", "store", "scale"))
        return problems

    def stacked_with(self, others: Sequence[Method]) -> Distillation:
        """As every distillation, unless inputs are mixed: others would compare outputs of different inputs.

        Raises:
            InputError: Inputs are mixed, or one of the others compares no teacher with a student.
        """
        if self.mixup_alpha != 0:
            raise InputError("also: 'ced' with mixup_alpha shows the student other inputs than the teacher; use 0")
        return super().stacked_with(others)

    def targets(self, logits: Tensor) -> Tensor:
        """``[batch, classes]`` probabilities."""
        logits = logits.detach().float()
        return logits.sigmoid() if self.scores == "sigmoid" else logits.softmax(-1)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``transfer``, per sample; labels are not read."""
        return self._against(student, self.targets(teacher.logits))

    def _against(self, student: Outputs, targets: Tensor) -> Losses:
        compare = binary_cross_entropy if self.objective == "bce" else soft_cross_entropy
        return Losses(transfer=compare(student.logits, targets))

    def compare(self, step: Step) -> Losses:
        """The teacher on the views, then both views and scores blended where asked, then the student."""
        if self.mixup_alpha == 0:
            return super().compare(step)
        if self.sampler is not None:
            step = step.on(self.sampler.sample(step))
        batch, targets = step.batch, self.targets(step.forward("teacher").logits)
        alpha = torch.full((len(batch),), float(self.mixup_alpha), device=targets.device)
        share = torch.distributions.Beta(alpha, alpha).sample()
        blended = step.on(batch.with_(inputs=reversed_mixup(batch.inputs, share)))
        return self._against(blended.forward("student"), reversed_mixup(targets, share))

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits whose softmax is what the student learned of the classes.

        A student of softmax scores that learned each class by itself says the odds of each: its probabilities are the
        sigmoids, and the most probable class is the same.
        """
        logits = super().predict(model, inputs)
        return logsigmoid(logits.float()) if (self.objective, self.scores) == ("bce", "softmax") else logits


def reversed_mixup(values: Tensor, share: Tensor) -> Tensor:
    """λ · (the reversed batch) + (1 − λ) · (the batch).

    Args:
        values: ``[batch, ...]``.
        share: ``[batch]``: λ in [0, 1].
    """
    share = share.to(values.dtype).view(-1, *(1 for _ in values.shape[1:]))
    return share * values.flip(0) + (1 - share) * values

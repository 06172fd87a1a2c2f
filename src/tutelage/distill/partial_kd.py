"""Partial KD: a teacher's universe, domain and instance knowledge apart (arXiv:2002.03532, 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.partial_diagnosis import diagnose
from tutelage.engine.method import Finding, Room
from tutelage.engine.terms import Losses
from tutelage.losses import (
    confidence_target,
    confident_similarity_target,
    gradient_rescaling,
    similarity_target,
    smoothed_labels,
    soft_cross_entropy,
    top_target,
)
from tutelage.models.outputs import Outputs
from tutelage.models.participant import observing
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("partial-kd", paper="arXiv:2002.03532", route="distill")
class PartialKD(LogitDistillation):
    """Learn from a target that keeps only some of what the teacher knows, to see which of it helps.

    Compare variants with the same weight and temperature. The report has the factor by which the teacher rescales the
    gradient of samples that it is more and less sure of, and how alike student and teacher see the classes.

    Args:
        variant: ``ls``: smoothed labels, no teacher at all; ``pt``: the teacher's confidence in the label; ``sim``:
            which classes its classifier finds alike, the same for all samples of a class; ``pt+sim``: both; ``topk``:
            its largest probabilities; ``kd``: all of them.
        weight: λ, the share of the soft target; the labels have the rest.
        temperature: Of the student's side of the soft term, and of the teacher's probabilities; ``ls`` has none.
        target_temperature: Of the teacher's probabilities alone; null for ``temperature``.
        k: How many probabilities ``topk`` keeps; null for a fifth of the classes.
        epsilon: ``ls``'s share that is spread over all classes.
        kappa: Temperature of the similarities of ``sim`` and ``pt+sim``: choose it so that the label gets about what
            the teacher gives it.
        t2_scale: Multiply the soft term by temperature², as `kd` does and the paper does not.
        superclasses: The super-class of each class, in label order, for the report.
    """

    hard_labels: ClassVar[bool] = True

    similarity: Tensor

    def __init__(
        self,
        *,
        variant: Literal["ls", "pt", "sim", "pt+sim", "topk", "kd"] = "topk",
        weight: Annotated[float, Ge(0), Le(1), Ramped()] = 0.5,
        temperature: Annotated[float, Gt(0), Ramped()] = 2.0,
        target_temperature: Annotated[float, Gt(0)] | None = None,
        k: Annotated[int, Ge(1)] | None = None,
        epsilon: Annotated[float, Ge(0), Le(1)] = 0.1,
        kappa: Annotated[float, Gt(0)] = 0.3,
        t2_scale: bool = False,
        superclasses: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.variant, self.weight, self.temperature = variant, weight, temperature
        self.target_temperature, self.k, self.epsilon, self.kappa = target_temperature, k, epsilon, kappa
        self.t2_scale, self.superclasses = t2_scale, superclasses

    def setup(self, room: Room) -> None:
        """Read the teacher's classifier where its similarities are the target.

        Raises:
            InputError: The classes differ, k or the super-classes do not fit them, or the teacher has no linear
                classifier with a row for each class.
        """
        super().setup(room)
        classes = room.look("student").logits.shape[-1]
        if self.k is not None and self.k > classes:
            raise InputError(f"method.k: there are {classes} classes, got {self.k}")
        if self.superclasses is not None and len(self.superclasses) != classes:
            raise InputError(
                f"method.superclasses: expected one for each of {classes} classes, got {len(self.superclasses)}"
            )
        if "sim" in self.variant:
            example = room.example.inputs
            with observing("teacher", room.modules["teacher"], example=example) as teacher:
                rows = teacher.classifier(example).weight
            if len(rows) != classes:
                raise InputError(f"method.variant: the teacher's classifier has {len(rows)} rows for {classes} classes")
            self.register_buffer("similarity", similarity_target(rows, temperature=self.kappa))

    def target(self, teacher: Tensor, labels: Tensor) -> Tensor:
        """``[batch, classes]``: what the soft term compares with, from teacher's logits and class indices."""
        classes = teacher.shape[-1]
        if self.variant == "ls":
            return smoothed_labels(labels, classes, epsilon=self.epsilon)
        if self.variant == "sim":
            return self.similarity[labels]
        soft = (teacher.detach().float() / (self.target_temperature or self.temperature)).softmax(-1)
        if self.variant == "pt":
            return confidence_target(soft, labels)
        if self.variant == "pt+sim":
            return confident_similarity_target(soft, labels, self.similarity)
        return top_target(soft, self._kept(classes) if self.variant == "topk" else classes)

    def _kept(self, classes: int) -> int:
        return max(1, round(classes / 5)) if self.k is None else self.k

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``(1 - weight) * CE + weight * H(target, student / T)``."""
        heat = 1.0 if self.variant == "ls" else self.temperature
        target = self.target(teacher.logits, batch.labels)
        transfer = soft_cross_entropy(student.logits.float() / heat, target)
        factor = gradient_rescaling(
            student.logits, target, batch.labels, weight=self.weight, temperature=heat, scale=self.t2_scale
        )
        terms = self.task(student, batch) | Losses(transfer=transfer * heat**2 if self.t2_scale else transfer)
        # The median: a sample that the student is certain of has no bound.
        return terms.weighted(task=1.0 - self.weight, transfer=self.weight).noting(rescaling=factor.median())

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """`diagnose` on the training set, once the student is trained."""
        return diagnose(
            run.models["teacher"],
            run.models["student"],
            run.splits.train,
            weight=self.weight,
            temperature=self.temperature,
            scale=self.t2_scale,
            groups=self.superclasses,
        )

"""ND: regularising feature norm and direction, KD++ (arXiv:2305.17007, 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.class_means import ClassMeans
from tutelage.distill.parts.features import as_tokens, captured, held_out
from tutelage.engine.method import Finding, Room, Step
from tutelage.engine.terms import Losses
from tutelage.losses import (
    decoupled,
    interclass_correlation,
    intraclass_correlation,
    kl_divergence,
    norm_and_direction,
)
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs
from tutelage.models.participant import observing
from tutelage.models.remembered import see
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("nd", paper="arXiv:2305.17007", route="distill")
class ND(LogitDistillation):
    """Turn embeddings to the teacher's mean of their class and make them as long as its own, beside a distiller.

    With its partners it is the paper's KD++, DKD++ and DIST++; ``also`` puts it beside any other method (``partner:
    none``, or a weight that the other takes over). The teacher's class means are measured once, on the training images
    without augmentation. A projector lies between embeddings of different widths only: the student's logits never pass
    it, and it is dropped afterwards.

    Args:
        nd_weight: Weight of the norm and direction.
        variant: Both (``nd``), or the earlier studies of one alone: ``direction``, ``norm``.
        partner: The distiller of the logits: ``kd``, ``dkd``, ``dist``, or ``none``.
        partner_weight: Weight of the partner, once it is warm.
        warm_up_epochs: Epochs in which the partner's weight grows from 0; 20 on CIFAR, 5 on ImageNet.
        ce_weight: Weight of the label term.
        temperature: Of the partner; 4 on CIFAR, 1 on ImageNet.
        target_weight: ``dkd``'s weight of the target class.
        others_weight: ``dkd``'s weight of the other classes.
        inter_weight: ``dist``'s weight of the relations between classes.
        intra_weight: ``dist``'s weight of the relations within classes.
        means: Class means of the teacher from the training set (``train``), of the views seen so far (``running``), or
            from ``means_file``.
        means_file: A safetensors file with ``class_means``, ``[classes, width]``.
        teacher_tap: The teacher's embedding; maps and tokens are averaged over their positions.
        student_tap: The student's embedding.
        projector: ``none`` refuses embeddings of different widths.
        dropout: Of the projector, in training.
        projector_std: Deviation of the projector's first weights, 0.01 on ImageNet; null for PyTorch's own.
    """

    hard_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        nd_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        variant: Literal["nd", "direction", "norm"] = "nd",
        partner: Literal["kd", "dkd", "dist", "none"] = "kd",
        partner_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        warm_up_epochs: Annotated[int, Ge(0)] = 20,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        target_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        others_weight: Annotated[float, Ge(0), Ramped()] = 8.0,
        inter_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        intra_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        means: Literal["train", "running", "file"] = "train",
        means_file: Path | None = None,
        teacher_tap: str = "embedding",
        student_tap: str = "embedding",
        projector: Literal["bn-dropout-linear", "none"] = "bn-dropout-linear",
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
        projector_std: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        super().__init__()
        self.nd_weight, self.variant, self.ce_weight = nd_weight, variant, ce_weight
        self.partner, self.partner_weight, self.warm_up_epochs = partner, partner_weight, warm_up_epochs
        self.temperature, self.target_weight, self.others_weight = temperature, target_weight, others_weight
        self.inter_weight, self.intra_weight = inter_weight, intra_weight
        self.means, self.means_file = means, means_file
        self.teacher_tap, self.student_tap = teacher_tap, student_tap
        self.projection, self.dropout, self.projector_std = projector, dropout, projector_std
        self._epoch = 0
        self._measured: tuple[Tensor, Tensor] | None = None

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Also class means from a file that is not named, or named in vain."""
        problems = super().check(recipe)
        for spec in (recipe.method, *recipe.also, *(stage.method for stage in recipe.stages)):
            if spec.name != "nd" or (spec.args["means"] == "file") == (spec.args["means_file"] is not None):
                continue
            found = "'means: file' names no file." if spec.args["means"] == "file" else "'means_file' is not read."
            where, hint = spec.place, "Give both `means: file` and `means_file`, or neither."
            problems.append(Problem(found, ("method", "means_file"), where.file, where.line, where.column, hint))
        return problems

    def survey(self, run: Run) -> None:
        """One pass of the teacher over the training images, without augmentation, for its class means."""
        if self.means != "train" or self._measured is not None:
            return
        example = run.example().inputs
        model = run.source("teacher").to(example.device)
        with observing("teacher", model, (self.teacher_tap,), example=example) as teacher:
            seen = see(teacher, run.splits.train, example.device)
        self._measured = self._vectors(seen.outputs, self.teacher_tap), seen.labels

    def setup(self, room: Room) -> None:
        """Tap both embeddings, build the projector, and bring in the teacher's class means.

        Raises:
            InputError: A tap does not fit, widths differ without a projector, or the file's means do not fit.
        """
        if self.partner != "none":
            super().setup(room)
        theirs = as_tokens(captured(room, "teacher", self.teacher_tap)).shape[-1]
        ours = as_tokens(captured(room, "student", self.student_tap)).shape[-1]
        if ours != theirs and self.projection == "none":
            raise InputError(
                f"method.projector: the student's embedding has the width {ours} and the teacher's {theirs}; use "
                "'bn-dropout-linear'"
            )
        self.projector = nn.Identity() if ours == theirs else self._projector(ours, theirs)
        self.class_means = ClassMeans(room.info.classes, theirs, room.example.inputs.device)
        if self.means_file is not None:
            self.class_means.read(self.means_file)
        elif self._measured is not None:
            self.class_means.add(*self._measured)

    def _projector(self, ours: int, theirs: int) -> nn.Sequential:
        linear = nn.Linear(ours, theirs)
        nn.init.zeros_(linear.bias)
        if self.projector_std is not None:
            nn.init.normal_(linear.weight, std=self.projector_std)
        return nn.Sequential(_Normalisation(ours), nn.Dropout(self.dropout), linear)

    def embeddings(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """``[batch, width]`` of both, the student's in the teacher's width."""
        ours, theirs = self._vectors(student, self.student_tap), self._vectors(teacher, self.teacher_tap)
        return self.projector(ours), theirs.detach()

    @staticmethod
    def _vectors(outputs: Outputs, tap: str) -> Tensor:
        return as_tokens(outputs.taps[tap]).mean(1)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``ce * CE + nd * ND + partner * min(1, epoch / warm-up) * partner's``."""
        ours, theirs = self.embeddings(student, teacher)
        if self.means == "running":
            self.class_means.note(theirs, batch.labels)
        apart = norm_and_direction(ours, theirs, self.class_means()[batch.labels], variant=self.variant)
        lengths = [one.detach().float().norm(dim=-1).mean() for one in (ours, theirs)]
        terms = self.task(student, batch) | Losses(nd=apart).noting(norm_ratio=lengths[0] / lengths[1].clamp(min=1e-12))
        terms = terms.weighted(task=self.ce_weight, nd=self.nd_weight)
        if self.partner == "none":
            return terms
        warm = min(1.0, self._epoch / self.warm_up_epochs) if self.warm_up_epochs else 1.0
        partner = Losses(transfer=self._transfer(student.logits, teacher.logits, batch.labels))
        return terms | partner.weighted(transfer=self.partner_weight * warm)

    def _transfer(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        heat = self.temperature
        if self.partner == "kd":
            return kl_divergence(student, teacher, temperature=heat)
        if self.partner == "dkd":
            return decoupled(
                student, teacher, labels, alpha=self.target_weight, beta=self.others_weight, temperature=heat
            )
        between = interclass_correlation(student, teacher, temperature=heat)
        within = intraclass_correlation(student, teacher, temperature=heat)
        return self.inter_weight * between + self.intra_weight * within

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """On the test set: the student's lengths beside the teacher's, and its cosines to the means of its classes."""
        lengths, cosines = [], []
        with evaluating(self):
            for batch, said in held_out(run, {"student": (self.student_tap,), "teacher": (self.teacher_tap,)}):
                ours, theirs = self.embeddings(said["student"], said["teacher"])
                lengths.append(ours.norm(dim=-1) / theirs.norm(dim=-1).clamp(min=1e-12))
                apart = norm_and_direction(ours, theirs, self.class_means()[batch.labels], variant="direction")
                cosines.append(1 - apart)
        return {
            "norm_ratio": float(torch.cat(lengths).mean()),
            "cosine_to_class_mean": float(torch.cat(cosines).mean()),
        }

    def before_step(self, step: Step) -> None:
        """Note the epoch, which the warm-up follows.

        Raises:
            InputError: Nobody asked for the class means that the first step needs.
        """
        self._epoch = step.epoch
        if step.index == 0 and self.means == "train" and not self.class_means.counts.any():
            raise InputError(
                "nd: the teacher's class means were not measured, for the method that it is a part of changes "
                "teachers; use `means: running`"
            )

    def after_step(self, step: Step) -> None:
        """Running means take in the step's samples."""
        self.class_means.settle()


class _Normalisation(nn.BatchNorm1d):
    """Batch normalisation that lets a last batch of one sample pass, by the statistics of those before."""

    def forward(self, input: Tensor) -> Tensor:
        if len(input) > 1:
            return super().forward(input)
        return nn.functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

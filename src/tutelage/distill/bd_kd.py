"""BD-KD: balancing the divergences for online knowledge distillation (arXiv:2212.12965)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation, LogitDistillation, same_classes, untaught
from tutelage.engine.method import Finding, Method, Room, Step, Turn
from tutelage.engine.predicting import predict
from tutelage.engine.terms import Losses
from tutelage.losses import balanced_divergence, entropy, kl_divergence
from tutelage.measure.calibration import Calibration
from tutelage.measure.predicted import Predicted
from tutelage.measure.quality import Brier, NegativeLogLikelihood
from tutelage.measure.scaling import fitted_temperature, scaled
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("bd-kd", paper="arXiv:2212.12965", route="distill")
class BDKD(LogitDistillation):
    """Student and teacher learn together; the divergence that corrects the student's confidence counts more.

    Each learns from what the other said in the same pass, and nothing of its loss reaches the other, so that one move
    is as good as one for each. The student learns from the mean over the teacher and its ``peers``, who learn from it
    as the teacher does. The report says how well calibrated it is, before and after temperature scaling. A teacher of
    a run that is done needs ``online: false``.

    Args:
        delta: Weight of the divergence that is needed; the other has 1. With 1, both count alike.
        alpha: Weight of the student's transfer term.
        beta: Weight of the transfer terms of teacher and peers.
        temperature: Of divergences and entropies.
        online: Train teacher and peers too, from any start; or let them be, as they were trained.
        weighting: Decide for each ``sample``, for the mean of the ``batch``, or not at all (``off``).
        student_term: ``balanced``, or KL(teacher ‖ student) alone, which is plain mutual learning.
        teacher_term: The teacher's own: KL(student ‖ teacher), KL(teacher ‖ student), or none; the student is the
            constant in each.
        teacher_rate: Learning rate of teacher and peers, as a multiple of the student's.
        ce_weight: Weight of all label terms.
        report_calibration: Report the calibration of every network, before and after temperature scaling.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "peers": "model*?", "data": "data"}

    def __init__(
        self,
        *,
        delta: Annotated[float, Ge(1), Ramped()] = 3.0,
        alpha: Annotated[float, Ge(0), Ramped()] = 1.0,
        beta: Annotated[float, Ge(0), Ramped()] = 1.0,
        temperature: Annotated[float, Gt(0), Ramped()] = 1.0,
        online: bool = True,
        weighting: Literal["sample", "batch", "off"] = "sample",
        student_term: Literal["balanced", "kl_t_s"] = "balanced",
        teacher_term: Literal["kl_s_t", "kl_t_s", "none"] = "kl_s_t",
        teacher_rate: Annotated[float, Gt(0)] = 1.0,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        report_calibration: bool = True,
    ) -> None:
        super().__init__()
        self.delta, self.alpha, self.beta, self.temperature = delta, alpha, beta, temperature
        self.online, self.weighting = online, weighting
        self.student_term, self.teacher_term = student_term, teacher_term
        self.teacher_rate, self.ce_weight, self.report_calibration = teacher_rate, ce_weight, report_calibration
        self._others: tuple[str, ...] = ("teacher",)

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Untaught teachers that are not trained either, and a place where they cannot be."""
        alone = [recipe.method, *(stage.method for stage in recipe.stages)]
        beside = [*recipe.also, *(spec for stage in recipe.stages for spec in stage.also)]
        problems: list[Problem] = []
        for spec in beside if any(s.name == "bd-kd" and s.args["online"] for s in [*alone, *beside]) else ():
            where, hint = spec.place, "Set `online: false`, or leave out `also`."
            text = "bd-kd trains its teacher too, which it cannot beside another method."
            problems.append(Problem(text, ("also",), where.file, where.line, where.column, hint))
        if beside and "peers" in recipe.slots:
            where, hint = recipe.method.place, "Leave out `peers` or `also`."
            text = "beside another method, bd-kd learns from the teacher alone."
            problems.append(Problem(text, ("peers",), where.file, where.line, where.column, hint))
        if all(s.args["online"] for s in alone if s.name == "bd-kd") and not problems:
            return problems
        others = {name: spec for name, spec in recipe.models.items() if name != "student"}
        return problems + [problem for name, spec in others.items() for problem in untaught(name, spec, name)]

    def survey(self, run: Run) -> None:
        """Learn who takes part."""
        self._others = ("teacher", *run.members("peers"))

    def setup(self, room: Room) -> None:
        """Refuse networks of different classes.

        Raises:
            InputError: The classes of one of them are not the student's.
        """
        self._others = ("teacher", *(name for name in room.modules if name.rpartition("-")[0] == "peers"))
        same_classes(room, "student", *self._others)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """The student's: ``ce * CE + alpha * T² * (w_F * KL(teacher, student) + w_R * KL(student, teacher))``."""
        return self.terms(student, (teacher,), batch)

    def terms(self, student: Outputs, others: Sequence[Outputs], batch: Batch) -> Losses:
        """The student's terms, the transfer averaged over the networks that it learns from."""
        apart = torch.stack([self._transfer(student.logits, other.logits) for other in others]).mean(0)
        terms = self.task(student, batch) | Losses(transfer=apart)
        mine = entropy(student.logits.detach(), temperature=self.temperature)
        theirs = [entropy(other.logits.detach(), temperature=self.temperature) for other in others]
        # How often the student is the surer one, so that the forward divergence is the stronger.
        surer = (torch.stack(theirs) > mine).float().mean(0)
        return terms.weighted(task=self.ce_weight, transfer=self.alpha).noting(surer=surer)

    def _transfer(self, student: Tensor, other: Tensor) -> Tensor:
        if self.student_term == "kl_t_s":
            return kl_divergence(student, other.detach(), temperature=self.temperature)
        return balanced_divergence(
            student, other, boost=self.delta, temperature=self.temperature, weighting=self.weighting
        )

    def other_terms(self, name: str, other: Outputs, student: Outputs, batch: Batch) -> Losses:
        """The terms of a network that the student learns from, under its name."""
        terms = self.task(other, batch).weighted(task=self.ce_weight)
        if self.teacher_term != "none":
            # The student stands where a teacher's logits usually do.
            apart = kl_divergence(
                other.logits,
                student.logits.detach(),
                temperature=self.temperature,
                direction="forward" if self.teacher_term == "kl_s_t" else "reverse",
            )
            terms = (terms | Losses(transfer=apart)).weighted(transfer=self.beta)
        return terms.prefixed(name)

    def compare(self, step: Step) -> Losses:
        """One pass of each network, then the terms of all that are trained."""
        if self.sampler is not None:
            step = step.on(self.sampler.sample(step))
        others = {name: step.forward(name) for name in self._others}
        student = step.forward("student")
        terms = self.terms(student, list(others.values()), step.batch)
        for name, other in others.items() if self.online else ():
            terms = terms | self.other_terms(name, other, student, step.batch)
        return terms

    def turns(self) -> Sequence[Turn]:
        """What the sampler learns; then the student moves, and online all others with it."""
        (*first, last) = super().turns()
        if not self.online:
            return (*first, last)
        rates = dict.fromkeys(self._others, self.teacher_rate)
        return (*first, replace(last, trains=("student", *self._others, "method"), scales=rates))

    def stacked_with(self, others: Sequence[Method]) -> Distillation:
        """Offline, this method with the transfer terms of others added to its loss.

        Raises:
            InputError: It trains its teacher, or one of them compares no teacher with a student.
        """
        if self.online:
            raise InputError("also: bd-kd trains its teacher too, which it cannot beside another method")
        return super().stacked_with(others)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """Calibration on the test set, as it is, and at the temperature that fits the validation set."""
        if not self.report_calibration:
            return {}
        rows = []
        for name in ("student", *self._others):
            module, validation = run.models[name], run.splits.validation
            said = [
                Predicted(name, *predict(module, (module,), part, run.accelerator.device))
                for part in (run.splits.test, validation)
                if part is not None
            ]
            rows.append({"model": name, "temperature": 1.0, **_calibration(said[0])})
            if len(said) == 2:
                fitted = fitted_temperature(said[1])
                rows.append({"model": name, "temperature": fitted, **_calibration(scaled(said[0], fitted))})
        return {"calibration": rows}


def _calibration(predicted: Predicted) -> dict[str, float]:
    measures = (Calibration(), NegativeLogLikelihood(), Brier())
    found = {name: number.value for measure in measures for name, number in measure(predicted).items()}
    return {name: found[name] for name in ("ece", "nll", "brier")}

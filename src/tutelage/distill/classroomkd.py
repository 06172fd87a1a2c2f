"""ClassroomKD: mentors ranked against their student at every step (arXiv:2409.20237)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tutelage.distill.base import Distillation, same_classes, sequence, untaught
from tutelage.engine.agreement import summed
from tutelage.engine.method import Finding, Method, Result, Room, Step, Train, Turn
from tutelage.engine.terms import Losses
from tutelage.losses import Mentoring, cross_entropy, rank_mentors, relative_temperatures, tempered_divergence
from tutelage.models.participant import Participant
from tutelage.recipe.errors import Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("classroomkd", paper="arXiv:2409.20237", route="distill")
class ClassroomKD(Method):
    """Learn from a teacher and other trained mentors, of whom only those teach that are better than the student now.

    At every step, mentors and student are ranked by the probability that they give the labels. Mentors below the
    student are silent; the further above it the others are, the softer they speak and the more they count. The student
    counts its own label loss by how good it is, so that it leans on its mentors while it is weak. A sample without a
    label (below 0) is taught by all mentors with weight 1, as softly as can be.

    Args:
        tau_max: What the largest gap adds to a mentor's temperature of 1: 12 on CIFAR-100, 4 on ImageNet.
        select: Who teaches: mentors that pass the ``filter``; or, as ablations, ``all`` with weight 1, all
            ``uniform``-ly, or only the ``best``.
        mentoring: How a mentor's temperature is found: by its ``gap`` to the student, ``none`` (always 1), or by
            ``dtkd``'s rule, for each sample from the largest logits.
        dtkd_temperature: Mean of the two temperatures under ``mentoring: dtkd``.
        granularity: Rank for the whole ``batch``, as the released code does, or each ``sample`` alone, as the paper
            says.
        ce_scale: Factor of the label loss: the student's ``performance`` in (0, 1], ``one``, or their sum
            (``one_plus``), which the released code uses for ensembles of one architecture.
        ce_weight: Weight of the label loss.
        teacher_weight: Weight of the teacher's divergence, beside its rank's.
        mentor_weight: Weight of the other mentors', likewise.
        plain_teacher_weight: Weight of one more divergence from the teacher, at temperature 1 and whatever its rank; 1
            in the released code for ensembles of one architecture.
        round_shares: Round each share of the ranking to two decimals, as the released code does.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "mentors": "model*", "student": "model", "data": "data"}

    hard_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        tau_max: Annotated[float, Ge(0), Ramped()] = 12.0,
        select: Literal["filter", "all", "uniform", "best"] = "filter",
        mentoring: Literal["gap", "none", "dtkd"] = "gap",
        dtkd_temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        granularity: Literal["batch", "sample"] = "batch",
        ce_scale: Literal["performance", "one", "one_plus"] = "performance",
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        teacher_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        mentor_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        plain_teacher_weight: Annotated[float, Ge(0), Ramped()] = 0.0,
        round_shares: bool = False,
    ) -> None:
        super().__init__()
        self.tau_max, self.select, self.mentoring, self.granularity = tau_max, select, mentoring, granularity
        self.dtkd_temperature, self.ce_scale, self.round_shares = dtkd_temperature, ce_scale, round_shares
        self.ce_weight, self.teacher_weight, self.mentor_weight = ce_weight, teacher_weight, mentor_weight
        self.plain_teacher_weight = plain_teacher_weight
        self._step: Step | None = None
        self._whole: Tensor | None = None

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Mentors that were never taught, and keys that would do nothing."""
        problems = Distillation.check(recipe)
        for place, mentor in enumerate(recipe.slots.get("mentors") or ()):
            problems.extend(untaught("mentor", mentor, "mentors", place))
        spec = recipe.method
        if spec.name == "classroomkd":
            idle = {"tau_max": (12.0, "gap"), "dtkd_temperature": (4.0, "dtkd")}
            for key, (usual, needed) in idle.items():
                if spec.args[key] != usual and spec.args["mentoring"] != needed:
                    message, where = f"'{key}' does nothing without `mentoring: {needed}`.", spec.place
                    problems.append(Problem(message, ("method", key), where.file, where.line, where.column))
        return problems

    def setup(self, room: Room) -> None:
        """Refuse mentors of other classes.

        Raises:
            InputError: The class counts differ.
        """
        same_classes(room, *room.modules)

    def turns(self) -> Sequence[Turn]:
        """The student moves."""
        return (Turn("transfer", self.compare, trains=("student",)),)

    def before_step(self, step: Step) -> None:
        """Remember the whole step: it is ranked once, however it is cut or spread."""
        self._step, self._whole = step, None

    def after_step(self, step: Step) -> None:
        """Let go of it."""
        self._step = self._whole = None

    def compare(self, step: Step) -> Losses:
        """``a_s CE + Σ w_k τ_k² KL(mentor_k / τ_k, student / τ_k)`` over the mentors that teach."""
        labels, student = step.batch.labels, step.forward("student").logits
        names = ["teacher", *(name for name in step.participants if name not in ("teacher", "student"))]
        mentors = torch.stack([step.forward(name).logits for name in names]).detach()
        known = labels >= 0
        scores = self._scores(step, names, torch.cat([mentors, student.detach()[None]]))
        ranks = self._ranked(scores, known)
        divergence = self._divergence(student, mentors, ranks)
        task = cross_entropy(student, labels.clamp(min=0)) * known
        if self.ce_scale != "one":
            task = task * (scores[-1].nan_to_num() + (self.ce_scale == "one_plus"))
        losses = Losses(task=task, teacher=divergence[0], mentors=divergence[1:].sum(0))
        losses = losses.weighted(task=self.ce_weight, teacher=self.teacher_weight, mentors=self.mentor_weight)
        if self.plain_teacher_weight:
            one = torch.ones(1, device=student.device)
            plain = Losses(plain_teacher=tempered_divergence(student, mentors[0], one, one))
            losses = losses | plain.weighted(plain_teacher=self.plain_teacher_weight)
        active = ranks.active.float()
        notes = {f"active.{name}": active[i] for i, name in enumerate(names)}
        notes |= {f"softness.{name}": ranks.temperatures[i] * active[i] for i, name in enumerate(names)}
        return losses.noting(**notes)

    def _scores(self, step: Step, names: Sequence[str], logits: Tensor) -> Tensor:
        """``[mentors + 1, batch]``, or ``[mentors + 1, 1]`` for the whole step: probability of the label, student last.

        Of a batch it is the geometric mean over its labelled samples; NaN where there are none.
        """
        if self.granularity == "sample":
            scores = (-_losses(logits, step.batch.labels)).exp()
            return scores.masked_fill(step.batch.labels < 0, 0.0)
        if self._whole is None or self._step is None:
            labels = step.batch.labels
            if self._step is not None and len(labels) < len(self._step.batch):
                labels, own = self._step.batch.labels, self._step.participants["student"]
                # A further look at the student must not move its batch statistics.
                assert isinstance(own, Participant)
                said = [self._step.forward(name).logits for name in names]
                logits = torch.stack([*said, own.predict(self._step.batch.inputs)])
            known = labels >= 0
            sums = summed(torch.cat([(_losses(logits, labels) * known).sum(1), known.sum()[None]]))
            self._whole = (-sums[:-1] / sums[-1]).exp()[:, None]
        return self._whole

    def _ranked(self, scores: Tensor, known: Tensor) -> Mentoring:
        """Everybody's part, with all mentors as softly as can be where no label says who is better."""
        if self.granularity == "batch":
            known = ~scores[-1].isnan()
        ranks = rank_mentors(
            scores[:-1].nan_to_num(),
            scores[-1].nan_to_num(),
            tau_max=self.tau_max,
            select=self.select,
            round_shares=self.round_shares,
        )
        one = torch.ones_like(ranks.weights)
        temperatures = one if self.mentoring == "none" else torch.where(known, ranks.temperatures, 1 + self.tau_max)
        return Mentoring(torch.where(known, ranks.weights, one), temperatures, ranks.active | ~known)

    def _divergence(self, student: Tensor, mentors: Tensor, ranks: Mentoring) -> Tensor:
        """``[mentors, batch]``: weighted; a silent mentor is not read."""
        student = student.expand_as(mentors)
        if self.mentoring == "dtkd":
            own, theirs = relative_temperatures(student, mentors, temperature=self.dtkd_temperature)
        else:
            own = theirs = ranks.temperatures
        return torch.where(ranks.active, ranks.weights * tempered_divergence(student, mentors, own, theirs), 0.0)

    def stages(self, run: Run) -> Iterator[Train]:
        """One stage, or those of the recipe."""
        yield from sequence(self, run, "transfer")

    def results(self, run: Run) -> Sequence[Result]:
        """The student."""
        student = run.models["student"]
        return (Result("student", student, "recipient", (student,)),)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """For each mentor: in what share of the steps, or samples, it taught, and its mean temperature there."""
        sums: dict[str, list[float]] = {}
        epochs = [epoch["losses"] for record in run.records.values() for epoch in record["history"]]
        for losses in epochs:
            for key, value in losses.items():
                kind, _, name = key.rpartition("/")[2].partition(".")
                if kind in ("active", "softness"):
                    sums.setdefault(name, [0.0, 0.0, 0.0])
                    sums[name][0] += kind == "active"
                    sums[name][1 if kind == "active" else 2] += value
        rows = [
            {"mentor": name, "active": active / count, "temperature": softness / active if active else None}
            for name, (count, active, softness) in sums.items()
        ]
        return {"mentors": rows}


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """``[models, batch]``: cross-entropies; of a sample without a label whatever comes out."""
    return cross_entropy(logits, labels.clamp(min=0).expand(len(logits), -1))

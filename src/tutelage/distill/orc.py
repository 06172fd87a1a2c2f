"""ORC: distillation in a group of networks with online role change (arXiv:2206.01186, ICCV 2023)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation, same_classes
from tutelage.engine.agreement import summed
from tutelage.engine.method import Finding, Method, Result, Room, Step, Train, Turn
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy, elect, feedback, kl_divergence
from tutelage.models.participant import Participant
from tutelage.models.standard import parameters_of
from tutelage.recipe.errors import Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@dataclass(frozen=True)
class _Roles:
    """What is settled before anything of a step moves.

    Args:
        temporary: Networks that teach in this step, best first.
        batch: The whole step's samples.
        drawn: ``[batch]`` positions of the sample that each is mixed with; ``None`` where nothing is mixed in.
        share: Of the batch's own sample in the mixture.
        seen: Share of the drawn samples that the pivot is right on.
    """

    temporary: tuple[str, ...]
    batch: Batch
    drawn: Tensor | None
    share: float
    seen: Tensor


@method("orc", paper="arXiv:2206.01186", route="distill")
class ORC(Method):
    """In every step the best student teaches the others beside a pivot teacher, which learns from their errors first.

    The pivot (slot ``teacher``) is trained and goes on learning; the student and its assistants, of sizes between the
    two, begin at their start. A step: all students are looked at; the pivot learns from the batch mixed with what they
    get wrong; it teaches the best of them in private; both then teach the rest. No gradient crosses networks, and each
    has optimiser state of its own. What is handed on is the student.

    Args:
        temperature: Softens both sides wherever one network teaches another.
        beta: Weight of what teachers say; labels have the rest.
        temporary: How many students are promoted in a step; the paper finds 1 best.
        role_change: Elect anew in every step (``online``), always promote the same (``fixed``), or none.
        fixed_teacher: Who that is: 0 for the student, k for the k-th assistant.
        intensive: What the pivot learns from: the batch mixed with errors (``mixup``), errors alone (``feedback``), the
            ``batch`` alone; or nothing (``off``).
        mixup_alpha: Both parameters of the Beta distribution of the batch's share in a mixture.
        private: Whether the pivot teaches those who are promoted.
        group: Teachers speak one by one (``individual``), or with the mean of their logits (``ensemble``).
        pivot_lr_scale: Factor on the pivot's learning rate, for it is trained already.
    """

    slots: ClassVar[dict[str, str]] = {
        "teacher": "model",
        "assistants": "model*?",
        "student": "model",
        "data": "data",
    }
    sources: ClassVar[tuple[str, ...] | None] = ("teacher",)
    hard_labels: ClassVar[bool] = True

    promotions: Tensor
    steps: Tensor

    def __init__(
        self,
        *,
        temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        beta: Annotated[float, Ge(0), Le(1), Ramped()] = 0.5,
        temporary: Annotated[int, Ge(1)] = 1,
        role_change: Literal["online", "fixed", "none"] = "online",
        fixed_teacher: Annotated[int, Ge(0)] = 1,
        intensive: Literal["mixup", "feedback", "batch", "off"] = "mixup",
        mixup_alpha: Annotated[float, Gt(0)] = 1.0,
        private: bool = True,
        group: Literal["individual", "ensemble"] = "individual",
        pivot_lr_scale: Annotated[float, Ge(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.temperature, self.beta, self.temporary, self.role_change = temperature, beta, temporary, role_change
        self.fixed_teacher, self.intensive, self.mixup_alpha = fixed_teacher, intensive, mixup_alpha
        self.private, self.group, self.pivot_lr_scale = private, group, pivot_lr_scale
        self._students: dict[str, int] = {}
        self._models: dict[str, nn.Module] = {}
        self._roles: _Roles | None = None

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught pivot, more promotions than students, and keys that would do nothing."""
        problems, spec, where = Distillation.check(recipe), recipe.method, recipe.method.place

        def note(message: str, *path: str, hint: str = "") -> None:
            problems.append(Problem(message, path, where.file, where.line, where.column, hint))

        if spec.name != "orc" or recipe.stages or recipe.also:
            note("orc trains a group in one stage of its own.", "method", hint="Leave out `stages` and `also`.")
            return problems
        args, assistants = spec.args, len(recipe.slots.get("assistants") or ())
        if args["role_change"] != "none" and args["temporary"] > assistants + 1:
            note(f"{args['temporary']} of {assistants + 1} students cannot be promoted.", "method", "temporary")
        if args["role_change"] == "fixed" and args["fixed_teacher"] > assistants:
            hint = f"Take 0 for the student, or 1 to {assistants}." if assistants else "Name `assistants`."
            note(f"there is no assistant {args['fixed_teacher']}.", "method", "fixed_teacher", hint=hint)
        if args["role_change"] == "fixed" and args["temporary"] > 1:
            note("one teacher is fixed, so that only one is promoted.", "method", "temporary")
        if args["role_change"] != "fixed" and args["fixed_teacher"] != 1:
            note("'fixed_teacher' does nothing without `role_change: fixed`.", "method", "fixed_teacher")
        if args["intensive"] != "mixup" and args["mixup_alpha"] != 1.0:
            note("'mixup_alpha' does nothing without `intensive: mixup`.", "method", "mixup_alpha")
        if args["role_change"] == "none" and args["temporary"] != 1:
            note("'temporary' does nothing without promotions.", "method", "temporary")
        if not args["private"] and args["role_change"] != "none" and args["temporary"] == assistants + 1:
            note("everybody is promoted and nobody is taught.", "method", "private", hint="Set `private: true`.")
        return problems

    def setup(self, room: Room) -> None:
        """Count promotions from nothing; refuse networks of other classes.

        Raises:
            InputError: The class counts differ.
        """
        same_classes(room, *room.modules)
        self._know(room.modules)
        self.register_buffer("promotions", torch.zeros(len(self._students)))
        self.register_buffer("steps", torch.zeros(()))

    def _know(self, modules: Mapping[str, nn.Module]) -> None:
        self._students = {name: parameters_of(module) for name, module in modules.items() if name != "teacher"}

    def turns(self) -> Sequence[Turn]:
        """The pivot's, then the students': in private, and in the group."""
        students = Turn("teaching", self.teach, trains=tuple(self._students), times=len(self._phases()))
        if self.intensive == "off":
            return (students,)
        scales = {"teacher": self.pivot_lr_scale}
        return (Turn("intensive", self.learn_from_errors, trains=("teacher",), scales=scales), students)

    def _phases(self) -> list[str]:
        promoted = 0 if self.role_change == "none" else self.temporary
        phases = ["private"] if promoted and self.private else []
        return [*phases, "group"] if promoted < len(self._students) else phases

    # ------------------------------------------------------------------ a step

    def before_step(self, step: Step) -> None:
        """Look at all students, without moving anything, and settle who teaches and what the pivot is shown."""
        batch, names = step.batch, list(self._students)
        said = torch.stack([_said(step, name, batch.inputs) for name in names])
        losses = cross_entropy(said, batch.labels.expand(len(names), -1))
        sums = summed(torch.cat([losses.sum(1), losses.new_tensor([float(len(batch))])]))
        chosen: list[int] = []
        if self.role_change == "online":
            chosen = elect(sums[:-1] / sums[-1], list(self._students.values()), self.temporary)
        elif self.role_change == "fixed":
            place = "student" if self.fixed_teacher == 0 else f"assistants-{self.fixed_teacher}"
            chosen = [names.index(place)]
        self.promotions[chosen] += 1
        self.steps += 1
        drawn, share, seen = None, 1.0, losses.new_zeros(())
        if self.intensive in ("mixup", "feedback"):
            drawn = feedback(losses, said.argmax(-1) != batch.labels, len(batch))
            alpha = torch.tensor(self.mixup_alpha)
            share = float(torch.distributions.Beta(alpha, alpha).sample()) if self.intensive == "mixup" else 0.0
            seen = (_said(step, "teacher", batch.inputs[drawn]).argmax(-1) == batch.labels[drawn]).float().mean()
        self._roles = _Roles(tuple(names[i] for i in chosen), batch, drawn, share, seen)

    def after_step(self, step: Step) -> None:
        """Everybody is a student again."""
        self._roles = None

    def learn_from_errors(self, step: Step) -> Losses:
        """Intensive teaching: ``λ CE(y, x̃) + (1 - λ) CE(y', x̃)`` of the pivot on ``x̃ = λ x + (1 - λ) x'``."""
        roles, batch = self._settled(), step.batch
        if roles.drawn is None:
            return Losses(task=cross_entropy(step.forward("teacher").logits, batch.labels))
        # The part of the step that is looked at, found by identity in the whole.
        place = (batch.ids[:, None] == roles.batch.ids).int().argmax(1)
        inputs, labels = (one[roles.drawn[place]] for one in (roles.batch.inputs, roles.batch.labels))
        mixed = batch.with_(inputs=roles.share * batch.inputs + (1 - roles.share) * inputs)
        logits = step.on(mixed).forward("teacher").logits
        own, theirs = cross_entropy(logits, batch.labels), cross_entropy(logits, labels)
        return Losses(task=roles.share * own + (1 - roles.share) * theirs).noting(right_on_errors=roles.seen)

    def teach(self, step: Step) -> Losses:
        """Private teaching of those who are promoted, then group teaching of the others."""
        roles, phase = self._settled(), self._phases()[step.repeat]
        pivot = _said(step, "teacher", step.batch.inputs)
        if phase == "private":
            return self._taught(step, roles.temporary, [pivot]).prefixed("private")
        teachers = [*(_said(step, name, step.batch.inputs) for name in roles.temporary), pivot]
        if self.group == "ensemble":
            teachers = [torch.stack(teachers).mean(0)]
        rest = [name for name in self._students if name not in roles.temporary]
        return self._taught(step, rest, teachers).prefixed("group")

    def _taught(self, step: Step, names: Sequence[str], teachers: Sequence[Tensor]) -> Losses:
        """``(1 - β) CE + β Σ KD`` of each network, summed over networks, for they share nothing."""
        task = transfer = torch.zeros(len(step.batch), device=step.batch.inputs.device)
        for name in names:
            logits = step.forward(name).logits
            task = task + cross_entropy(logits, step.batch.labels)
            for teacher in teachers:
                transfer = transfer + kl_divergence(logits, teacher, temperature=self.temperature)
        return Losses(task=task, transfer=transfer).weighted(task=1 - self.beta, transfer=self.beta)

    def _settled(self) -> _Roles:
        assert self._roles is not None
        return self._roles

    # ------------------------------------------------------------------ the whole

    def stages(self, run: Run) -> Iterator[Train]:
        """One stage, in which a copy of the teacher is the pivot."""
        models = {
            "teacher": copy.deepcopy(run.source("teacher")),
            **run.members("assistants"),
            "student": run.source("student"),
        }
        self._models = models
        self._know(models)
        yield Train("transfer", self, models, run.recipe.train)

    def results(self, run: Run) -> Sequence[Result]:
        """The pivot and the assistants as they are now, and the student."""
        others = [
            Result("teacher, trained on" if name == "teacher" else name, module, "other", (module,), ("transfer",))
            for name, module in self._models.items()
            if name != "student"
        ]
        student = run.models["student"]
        return (*others, Result("student", student, "recipient", (student,)))

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """How often each network was promoted; in each epoch, how often the pivot was right on what it was shown."""
        shares = (self.promotions / self.steps.clamp(min=1)).tolist()
        networks = sorted(zip(self._students.items(), shares, strict=True), key=lambda one: -one[0][1])
        history = [(epoch["epoch"], epoch["losses"]) for epoch in run.records["transfer"]["history"]]
        key = "intensive/right_on_errors"
        seen = [{"epoch": epoch, "accuracy": losses[key]} for epoch, losses in history if key in losses]
        return {
            "promotions": [{"network": n, "parameters": size, "share": share} for (n, size), share in networks],
            "pivot_on_errors": seen,
        }


def _said(step: Step, name: str, inputs: Tensor) -> Tensor:
    """``[batch, classes]`` logits in evaluation mode and without a graph: a look does not move batch statistics."""
    one = step.participants[name]
    assert isinstance(one, Participant)
    return one.predict(inputs)

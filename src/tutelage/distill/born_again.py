"""Born-again networks: generations that learn from the one before (arXiv:1805.04770, ICML 2018)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation, LogitDistillation, Stacked
from tutelage.engine.agreement import summed
from tutelage.engine.method import Method, Result, Room, Step, Train
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy, permute_dark_knowledge, soft_cross_entropy
from tutelage.models.freezing import freeze
from tutelage.models.outputs import Outputs
from tutelage.models.paths import matches
from tutelage.recipe.errors import InputError, Problem, nearest
from tutelage.recipe.registry import method, registry
from tutelage.recipe.spec import Recipe, Spec
from tutelage.recipe.types import Of, Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


class Inheritance(LogitDistillation):
    """What a generation learns from the one before, all at temperature 1 (sections 3 and 4).

    Args:
        treatment: See `BornAgain`.
        permutation: See `BornAgain`.
        label_weight: Weight of the label term; ``None`` for no label term.
    """

    def __init__(self, treatment: str, permutation: str, label_weight: float | None) -> None:
        super().__init__()
        self.treatment, self.permutation, self.label_weight = treatment, permutation, label_weight
        self._step: Step | None = None
        self._mean: Tensor | None = None

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``transfer``, per sample, and the weighted ``task`` where labels are used beside it."""
        terms = Losses(transfer=self._transfer(student.logits, teacher.logits, batch))
        if self.label_weight is None:
            return terms
        return (self.task(student, batch) | terms).weighted(task=self.label_weight)

    def _transfer(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        teacher = teacher.detach()
        if self.treatment == "cwtm":
            # Its mean over the whole step is the sum of weight * loss with weights that sum to 1 over the step.
            weight = _confidence(teacher) / self._mean_confidence(teacher)
            return weight * cross_entropy(student, batch.labels)
        target = teacher.float().softmax(-1)
        if self.treatment == "dkpp":
            target = permute_dark_knowledge(target, batch.ids if self.permutation == "fixed" else batch.seeds)
        return soft_cross_entropy(student, target)

    def before_step(self, step: Step) -> None:
        """Remember the whole step: weights are normalised over it, however it is cut or spread."""
        self._step, self._mean = step, None

    def after_step(self, step: Step) -> None:
        """Let go of it."""
        self._step = self._mean = None

    def _mean_confidence(self, teacher: Tensor) -> Tensor:
        if self._step is None:
            return _confidence(teacher).mean()
        if self._mean is None:
            whole = teacher if len(teacher) == len(self._step.batch) else self._step.forward("teacher").logits.detach()
            confidence = _confidence(whole)
            sums = summed(torch.stack([confidence.sum(), confidence.new_tensor(len(confidence))]))
            self._mean = sums[0] / sums[1]
        return self._mean


@method("born-again", paper="arXiv:1805.04770", route="distill")
class BornAgain(Method):
    """Teach a fresh model of the same architecture, let it teach the next, and average the generations.

    Generation k starts from an initialisation of its own and learns from generation k - 1 on the same augmented views;
    the teacher is generation 0. A teacher of another architecture also works: it teaches the first generation.

    Args:
        generations: How many are born.
        use_labels: Add the cross-entropy with the labels (BAN+L).
        label_weight: Weight of that label term.
        treatment: What is kept of the teacher's output: all of it (``kd``); only its confidence, as the weight of each
            sample's label loss (``cwtm``); or its values, shuffled among all classes but the top one (``dkpp``).
        permutation: Shuffle anew in every epoch (``per_step``), or keep one permutation a sample (``fixed``).
        ensemble: Report no ensembles; those of the first 2, 3, ... generations (``prefix``); or make the ensemble of
            ``all`` generations, or ``all+teacher``, the result. Ensembles average probabilities.
        share_layers: Patterns of layers that every generation copies from its teacher and keeps frozen, e.g. ``head``.
        objective: Another distillation method whose loss takes the place of this one's, e.g. ``{name: wttm}``.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}

    def __init__(
        self,
        *,
        generations: Annotated[int, Ge(1)] = 3,
        use_labels: bool = False,
        label_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        treatment: Literal["kd", "cwtm", "dkpp"] = "kd",
        permutation: Literal["per_step", "fixed"] = "per_step",
        ensemble: Literal["none", "prefix", "all", "all+teacher"] = "prefix",
        share_layers: tuple[str, ...] = (),
        objective: Annotated[Any, Of("method")] = None,
    ) -> None:
        super().__init__()
        self.generations, self.ensemble, self.share_layers = generations, ensemble, share_layers
        own = Inheritance(treatment, permutation, label_weight if use_labels else None)
        self.objective: Distillation = own if objective is None else objective
        self._born: list[tuple[Method, nn.Module]] = []

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher, a student that is no newborn, and keys that would silently do nothing."""
        problems = Distillation.check(recipe)

        def note(message: str, hint: str, *path: str, of: Spec = recipe.method) -> None:
            where = of.place
            problems.append(Problem(message, path, where.file, where.line, where.column, hint))

        if recipe.method.name != "born-again" or recipe.stages:
            hint = "Use `method: born-again` without `stages`; other methods go under its `objective` or under `also`."
            note("born-again makes its own stages, one for each generation.", hint, "stages")
            return problems
        for other in recipe.also:
            if other.name == "born-again":
                note("born-again cannot be added to a loss.", "Make it the method.", "also", of=other)
        student = recipe.slots.get("student")
        if isinstance(student, Spec) and student.extras.get("weights") is not None:
            hint = "Leave `weights` out, or give them to the teacher."
            note("every generation starts from a new initialisation.", hint, "student", "weights", of=student)
        problems.extend(_idle_keys(recipe.method))
        objective = recipe.method.args.get("objective")
        if isinstance(objective, Spec):
            kind = registry().load("method", objective.name)
            if issubclass(kind, Distillation):
                problems.extend(p for p in kind.check(recipe) if p not in problems)
            else:
                hint = "Take a distillation method such as 'wttm' or 'rkd'."
                message = f"'{objective.name}' compares no teacher with a student."
                note(message, hint, "method", "objective", of=objective)
        return problems

    def stacked_with(self, others: Sequence[Method]) -> BornAgain:
        """These generations, with the transfer terms of others added to what each of them minimises.

        Raises:
            InputError: One of them compares no teacher with a student.
        """
        self.objective = Stacked(self.objective, others)
        return self

    def setup(self, room: Room) -> None:
        """Try what generations will do on models that are thrown away, before anything is trained.

        Raises:
            InputError: The loss does not fit teacher and student, or later the student as its own teacher; or a shared
                layer is missing, of another shape, or leaves nothing to train.
        """
        teacher, student = room.modules["teacher"], room.modules["student"]
        copy.deepcopy(self.objective).setup(room)
        if self.generations > 1:
            pair = {"teacher": copy.deepcopy(student), "student": student}
            copy.deepcopy(self.objective).setup(
                Room(pair, room.info, room.example, room.trainable, examples=room.examples)
            )
        newborn = copy.deepcopy(student)
        share(newborn, teacher, self.share_layers)
        if not any(p.requires_grad for p in newborn.parameters()):
            raise InputError("share_layers covers the whole student, so that a generation has nothing to learn")

    def stages(self, run: Run) -> Iterator[Train]:
        """A generation after the other, each with the recipe's ``train`` section, on the same batches."""
        teacher = run.source("teacher")
        self._born = []
        for k in range(1, self.generations + 1):
            student = run.fresh("student", generation=k)
            share(student, teacher, self.share_layers)
            objective = copy.deepcopy(self.objective)
            run.models["student"] = student
            yield Train(f"generation-{k}", objective, {"teacher": teacher, "student": student}, run.recipe.train)
            self._born.append((objective, student))
            teacher = student

    @classmethod
    def epochs(cls, recipe: Recipe) -> int:
        """Those of all generations."""
        generations: int = recipe.method.args["generations"]
        return generations * recipe.train.epochs

    def results(self, run: Run) -> Sequence[Result]:
        """Every generation, the ensembles asked for, and last what the report is about."""
        singles = [
            Result(f"generation-{k}", lambda x, m=m, s=s: m.predict(s, x), "other", (s,), (f"generation-{k}",))  # type: ignore[misc]
            for k, (m, s) in enumerate(self._born, 1)
        ]
        last = singles[-1]
        if self.ensemble in ("none", "prefix"):
            ends = range(2, len(singles) + 1) if self.ensemble == "prefix" else ()
            prefixes = [_average(f"generations 1-{k}", singles[:k], "other") for k in ends]
            return (*singles[:-1], *prefixes, replace(last, name="student", role="recipient"))
        teacher = run.source("teacher")
        zero = (
            [Result("teacher", teacher, "source", (teacher,), ("teacher",))] if self.ensemble == "all+teacher" else []
        )
        run.warnings.append("The result is an ensemble: model/ holds its last member, model/members/ the others.")
        return (*singles, _average("student", [*zero, *singles], "recipient"))


def share(student: nn.Module, teacher: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Copy layers, buffers included, from a teacher to a student, and freeze them there.

    Args:
        student: Changed in place.
        teacher: Has the same tensors under the same names.
        patterns: Which modules or parameters, as for ``freeze``.

    Returns:
        Names of what was copied.

    Raises:
        InputError: A pattern matches nothing, or a tensor is missing in the teacher or of another shape.
    """
    frozen = set(freeze(student, patterns))
    own, theirs = student.state_dict(), teacher.state_dict()

    def shared(name: str) -> bool:
        parts = name.split(".")
        return any(matches(".".join(parts[:i]), p) for p in patterns for i in range(1, len(parts) + 1))

    names = [name for name in own if name in frozen or shared(name)]
    for name in names:
        if name not in theirs:
            raise InputError(f"share_layers: the teacher has no '{name}'. {nearest(name, theirs)}")
        if theirs[name].shape != own[name].shape:
            shapes = f"{list(theirs[name].shape)} in the teacher and {list(own[name].shape)} in the student"
            raise InputError(f"share_layers: '{name}' is {shapes}; only layers of one shape can be shared")
    with torch.no_grad():
        for name in names:
            own[name].copy_(theirs[name])
    return names


def _confidence(logits: Tensor) -> Tensor:
    """``[batch]``: the largest probability."""
    return logits.float().softmax(-1).amax(-1)


def _average(name: str, members: Sequence[Result], role: Literal["recipient", "other"]) -> Result:
    """The mean of the members' probabilities, as logarithms, so that softmax gives it back."""

    def predict(inputs: Tensor) -> Tensor:
        each = torch.stack([member.predict(inputs).float().log_softmax(-1) for member in members])
        return each.logsumexp(0) - math.log(len(members))

    # The newest first: it is what stands for an ensemble where only one model can.
    modules = tuple(module for member in reversed(members) for module in member.modules)
    return Result(name, predict, role, modules, tuple(stage for member in members for stage in member.stages or ()))


def _idle_keys(spec: Spec) -> Iterator[Problem]:
    """Keys that differ from their default and would have no effect beside the others."""
    args, where = spec.args, spec.place
    found: list[tuple[str, str]] = []
    if args["objective"] is not None:
        usual = {"treatment": "kd", "use_labels": False, "label_weight": 1.0, "permutation": "per_step"}
        found += [(key, "beside an `objective`, which has its own keys") for key in usual if args[key] != usual[key]]
    else:
        if args["label_weight"] != 1.0 and not args["use_labels"]:
            found.append(("label_weight", "without `use_labels: true`"))
        if args["permutation"] != "per_step" and args["treatment"] != "dkpp":
            found.append(("permutation", "without `treatment: dkpp`"))
    for key, when in found:
        yield Problem(f"'{key}' does nothing {when}.", ("method", key), where.file, where.line, where.column)

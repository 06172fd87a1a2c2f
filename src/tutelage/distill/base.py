"""What the distillation methods share: a frozen teacher, a student, and terms that compare them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.engine.method import Finding, Method, Result, Room, Step, Train, Turn
from tutelage.engine.sampler import Sampler
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.spec import Recipe, Spec

if TYPE_CHECKING:
    from tutelage.engine.run import Run


def mistake(spec: Spec, message: str, hint: str = "", *path: str | int) -> Problem:
    """A problem at the place where a recipe names a component."""
    return Problem(message, path, spec.place.file, spec.place.line, spec.place.column, hint)


def own_stages(recipe: Recipe, name: str) -> list[Problem]:
    """What is wrong where a method that makes its own stages is one of a sequence."""
    if recipe.method.name == name and not recipe.stages:
        return []
    hint = f"Use `method: {name}` without `stages`."
    return [mistake(recipe.method, f"{name} makes its own stages.", hint, "stages")]


def sequence(method: Method, run: Run, name: str) -> Iterator[Train]:
    """One stage over all the recipe's models, or the recipe's ``stages``: each goes on with the models of the last.

    Args:
        method: The recipe's method.
        run: The run.
        name: What the stage is called where the recipe names none.
    """
    recipe = run.recipe
    models = {name: run.source(name) for name in recipe.models}
    if not recipe.stages:
        method.survey(run)
        yield Train(name, method, models, recipe.train)
        return
    last: str | None = None
    for section in recipe.stages:
        own = section.method == recipe.method and section.also == recipe.also
        stage = method if own else run.method(section.method, section.also)
        stage.survey(run)
        yield Train(section.name, stage, models, section.train, continues=last)
        last = section.name


def untaught(role: str, model: object, *path: str | int, so: str = "it would teach noise") -> list[Problem]:
    """The problem of a model that must know something and was never taught; empty where it may know.

    Args:
        role: What it is, e.g. ``teacher``.
        model: What a recipe has in its place.
        path: Where that is.
        so: What follows from it.
    """
    if not isinstance(model, Spec) or model.extras.get("weights") is not None:
        return []
    # One that is put together of others knows what they know.
    members = [(i, one) for i, one in enumerate(model.args.get("members") or ()) if isinstance(one, Spec)]
    if members:
        return [problem for i, one in members for problem in untaught(role, one, *path, "members", i, so=so)]
    # A model that comes with its own weights, or that the user wrote, may know something already, and one that follows
    # the student learns with it.
    if model.foreign or model.name in ("transformers", "ema", "snapshot", "served", "causal-lm"):
        return []
    where = model.place
    return [
        Problem(
            f"the {role} '{model.name}' has no weights, so {so}.",
            path,
            where.file,
            where.line,
            where.column,
            "Give it `weights: <run or file>`, or `weights: {train: {epochs: 15}}` to train it first.",
        )
    ]


class Distillation(Method):
    """A student learns from a frozen teacher on the same batches: one turn, one stage (or the recipe's ``stages``).

    Subclasses say in ``loss`` what is compared; ``setup`` is theirs to place taps and build projectors in.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}

    sampled: ClassVar[bool] = True

    whole_step: ClassVar[bool] = False
    """Whether it compares on more than one batch a step, so that its loss on one batch is not all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sampler: Sampler | None = None

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """A teacher that was never taught has nothing to transfer."""
        return untaught("teacher", recipe.slots.get("teacher"), "teacher")

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """Named terms; ``task`` is the one that needs no teacher."""
        raise NotImplementedError(f"{type(self).__name__} compares nothing")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """`loss`."""
        return self.loss(student, teacher, batch)

    def prepare(self, room: Room) -> None:
        """`setup`, and that of the sampler."""
        super().prepare(room)
        if self.sampler is not None:
            self.sampler.setup(room)

    def compare(self, step: Step) -> Losses:
        """Both models on the batch, or on what the sampler makes of it; then the loss."""
        if self.sampler is not None:
            step = step.on(self.sampler.sample(step))
        with self.viewing(step) as seen:
            teacher = seen.forward("teacher")
            losses: Losses = self(seen.forward("student"), teacher, seen.batch)
            return losses

    def beside(self, teacher: Outputs, batch: Batch) -> Outputs:
        """What the methods under ``also`` are shown of the teacher: its outputs as they are, unless overridden."""
        return teacher

    @contextmanager
    def viewing(self, step: Step) -> Iterator[Step]:
        """The step as the models are asked about it; methods that differentiate what models see override this."""
        yield step

    def turns(self) -> Sequence[Turn]:
        """What the sampler learns; then the student moves, and with it what the method owns."""
        first = () if self.sampler is None else self.sampler.turns()
        return (*first, Turn("transfer", self.compare))

    def stages(self, run: Run) -> Iterator[Train]:
        """One stage, or those of the recipe: each goes on with the student of the last."""
        yield from sequence(self, run, "transfer")

    def results(self, run: Run) -> Sequence[Result]:
        """The student."""
        student = run.models["student"]
        return (Result("student", lambda inputs: self.predict(student, inputs), "recipient", (student,)),)

    def stacked_with(self, others: Sequence[Method]) -> Distillation:
        """This method with the transfer terms of others added to its loss.

        Raises:
            InputError: One of them compares no teacher with a student.
        """
        return Stacked(self, others)


class Stacked(Distillation):
    """One method's loss plus the transfer terms of others.

    Args:
        first: Gives the task term too.
        others: Give all their terms but the task.

    Raises:
        InputError: One of the others is no plain distillation.
    """

    def __init__(self, first: Distillation, others: Sequence[Method]) -> None:
        super().__init__()
        wrong = [type(o).__name__ for o in others if not isinstance(o, Distillation)]
        if wrong:
            raise InputError(
                f"also: {', '.join(wrong)} has no transfer term that can be added to another method's loss"
            )
        whole = [type(o).__name__ for o in (first, *others) if isinstance(o, Distillation) and o.whole_step]
        if whole:
            raise InputError(
                f"also: {', '.join(whole)} compares on batches of its own in every step, to which no loss can be "
                "added; with `sampler` another method can use such batches"
            )
        # The batches that the first one asks for are what all are compared on.
        self.sampler, first.sampler = first.sampler, None
        hard = [type(o).__name__ for o in others if o.hard_labels]
        if hard and self.sampler is not None and self.sampler.mixes:
            raise InputError(
                f"also: {', '.join(hard)} needs each sample's own class, and {type(first).__name__} mixes labels"
            )
        self.first = first
        self.others = nn.ModuleList(others)

    def _parts(self) -> Iterator[Method]:
        yield self.first
        for other in self.others:
            assert isinstance(other, Method)
            yield other

    def survey(self, run: Run) -> None:
        """Each in turn."""
        for part in self._parts():
            part.survey(run)

    def setup(self, room: Room) -> None:
        """Each in turn; a tap that two of them ask for is placed once."""
        for part in self._parts():
            part.setup(room)

    def turns(self) -> Sequence[Turn]:
        """What the sampler learns; then all move as the first alone would.

        Raises:
            InputError: The first moves in several turns, of which a loss of all could only be one.
        """
        own = self.first.turns()
        if len(own) != 1:
            raise InputError(
                f"also: {type(self.first).__name__} moves in {len(own)} turns, and another loss fits none of them"
            )
        first = () if self.sampler is None else self.sampler.turns()
        return (*first, replace(own[0], loss=self.compare))

    @contextmanager
    def viewing(self, step: Step) -> Iterator[Step]:
        """As all of them need it."""
        with ExitStack() as stack:
            for part in self._parts():
                assert isinstance(part, Distillation)
                step = stack.enter_context(part.viewing(step))
            yield step

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """As the first predicts."""
        return self.first.predict(model, inputs)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """The first's terms under their names, the others' with their place and name before them."""
        total = self.first.loss(student, teacher, batch)
        shown = self.first.beside(teacher, batch)
        for place, other in enumerate(self.others, 1):
            assert isinstance(other, Distillation)
            terms = other.loss(student, shown, batch).without("task")
            total = total | terms.prefixed(f"also{place}")
        return total

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """The first's under their names, the others' with their place before them."""
        found = dict(self.first.findings(run))
        for place, part in enumerate(self._parts()):
            if place:
                found |= {f"also{place}.{name}": value for name, value in part.findings(run).items()}
        return found

    def before_step(self, step: Step) -> None:
        """Each in turn."""
        for part in self._parts():
            part.before_step(step)

    def after_backward(self, step: Step, turn: Turn) -> None:
        """Each in turn."""
        for part in self._parts():
            part.after_backward(step, turn)

    def after_step(self, step: Step) -> None:
        """Each in turn."""
        for part in self._parts():
            part.after_step(step)

    def epoch_ended(self, epoch: int) -> None:
        """Each in turn."""
        for part in self._parts():
            part.epoch_ended(epoch)


class LogitDistillation(Distillation):
    """A distillation that compares logits of the same classes."""

    def task(self, student: Outputs, batch: Batch) -> Losses:
        """Cross-entropy with the labels, per sample, under the name ``task``."""
        return Losses(task=cross_entropy(student.logits, batch.labels))

    def setup(self, room: Room) -> None:
        """Refuse a pair that names different classes, before anything is trained.

        Raises:
            InputError: The class counts differ.
        """
        same_classes(room)


def same_classes(room: Room, *names: str) -> int:
    """Refuse models that name different classes, before anything is trained; how many they name.

    Args:
        room: Where they are.
        *names: Which, the student among them; teacher and student if none is given.

    Raises:
        InputError: The class counts differ.
    """
    counts = {name: room.look(name).logits.shape[-1] for name in names or ("teacher", "student")}
    for name, count in counts.items():
        if count != counts["student"]:
            raise InputError(
                f"the {name} names {count} classes and the student {counts['student']}: this method compares their "
                "logits class by class. Give both heads of the same size, or use a method that compares features or "
                "relations, such as 'rkd'"
            )
    return counts["student"]

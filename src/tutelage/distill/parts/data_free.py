"""What data-free methods share: images from a generator in place of data, which training never reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.splits import Examples, Nothing
from tutelage.distill.base import Distillation, same_classes, sequence
from tutelage.engine.method import Method, Result, Room, Step, Train, Turn
from tutelage.engine.optimizers import adam
from tutelage.engine.run import Run
from tutelage.engine.terms import Losses
from tutelage.losses import kl_divergence
from tutelage.models.generator import Generator
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import Problem
from tutelage.recipe.spec import Recipe, Spec

Guard = Callable[[Step, Outputs], Losses]
"""Further terms of a generator's loss, from the step on generated images and what the teacher makes of them."""


class DataFree(Method):
    """A generator makes the student's batches; by itself the zero-shot game of arXiv:1905.09768.

    The generator looks for images on which teacher and student differ, ‒KL(teacher ‖ student); every
    ``student_steps`` steps it moves, and every step the student learns KL(teacher ‖ student) on new ones. Subclasses
    change either loss. The student is measured against its teacher alone: a twin that learns from labels would have
    seen what this one never sees.

    Args:
        steps: Steps of an epoch: without data, an epoch is only a unit.
        student_steps: Steps of the student between two of the generator.
        generator_lr: Learning rate of the generator's Adam.
        latent: Width of a latent vector.
        generator_width: Channels of the generator's first map.
        pixel_range: Smallest and largest pixel that the teacher knows.
        augment: Changes made to generated images before anyone looks at them.
        beside: A comparison that needs no labels, whose terms the student minimises too.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}
    compared: ClassVar[bool] = False

    def __init__(
        self,
        *,
        steps: int,
        student_steps: int = 10,
        generator_lr: float = 1e-3,
        latent: int = 100,
        generator_width: int = 128,
        pixel_range: tuple[float, float] = (0.0, 1.0),
        augment: Sequence[Callable[[Batch], Batch]] = (),
        beside: Distillation | None = None,
    ) -> None:
        super().__init__()
        self.steps, self.student_steps, self.generator_lr = steps, student_steps, generator_lr
        self.latent, self.generator_width, self.pixel_range = latent, generator_width, pixel_range
        self.augment, self.beside = tuple(augment), beside
        self.guards: list[Guard] = []
        # What the student was last shown, for whoever looks at the same images.
        self.shown: Tensor | None = None
        # A stage says how large its batches are before it sets up.
        self.batch_size = 8

    @property
    def generated(self) -> int:
        """Images of a batch that the generator makes for its own loss."""
        return self.batch_size

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """A teacher that was never taught has nothing to transfer, and no answer of it can be kept."""
        return [*Distillation.check(recipe), *remembered(recipe)]

    def setup(self, room: Room) -> None:
        """Build the generator, and let gradients pass through the teacher.

        Raises:
            InputError: Teacher and student name different classes, or the samples are no images.
        """
        same_classes(room)
        if self.beside is not None:
            self.beside.setup(room)
        room.differentiate("teacher")
        self.generator = self.make_generator(room.info)

    def make_generator(self, info: DataInfo) -> Generator:
        """The generator at its start."""
        return Generator(self.latent, info, width=self.generator_width, pixel_range=self.pixel_range)

    # ------------------------------------------------------------------ images

    def images(self, count: int) -> Tensor:
        """``[count, channels, height, width]`` of new latent vectors, with a graph to the generator."""
        device = next(self.generator.parameters()).device
        made: Tensor = self.generator(torch.randn(count, self.latent, device=device))
        return made

    def new(self, count: int) -> Tensor:
        """`images` without a graph."""
        with torch.no_grad():
            return self.images(count)

    def on(self, step: Step, images: Tensor, labels: Tensor | None = None) -> Step:
        """A step on these images, augmented."""
        batch = plain(images, labels)
        for change in self.augment:
            batch = change(batch)
        return step.on(batch)

    @staticmethod
    def asked(step: Step) -> Outputs:
        """What the teacher says, without a graph."""
        with torch.no_grad():
            return step.forward("teacher")

    # ------------------------------------------------------------------ turns

    def turns(self) -> Sequence[Turn]:
        """The generator's, every ``student_steps`` steps, and the student's."""
        return (
            Turn(
                "generator",
                self.generate,
                trains=("method",),
                owns=("generator",),
                optimizer=partial(adam, lr=self.generator_lr),
                when=lambda step: step.index % self.student_steps == 0,
            ),
            Turn("transfer", self.transfer),
        )

    def generate(self, step: Step) -> Losses:
        """The generator's loss on images of its own, and that of the guards."""
        return self.judge(self.on(step, self.images(len(step.batch))))

    def judge(self, step: Step) -> Losses:
        """The generator's loss on a step's images; the student is only looked at, so its statistics do not move."""
        teacher = step.forward("teacher")
        with evaluating(module_of(step, "student")):
            student = step.forward("student")
        losses = self.generator_loss(step, student, teacher)
        for guard in self.guards:
            losses = losses | guard(step, teacher)
        return losses

    def generator_loss(self, step: Step, student: Outputs, teacher: Outputs) -> Losses:
        """What the generator minimises."""
        return Losses(adversarial=-kl_divergence(student.logits, teacher.logits))

    def transfer(self, step: Step) -> Losses:
        """The student's loss."""
        seen = self.on(step, self.new(len(step.batch)))
        self.shown = seen.batch.inputs
        return self.learn(seen)

    def learn(self, seen: Step) -> Losses:
        """The student's loss on a step's images, and what is compared beside it."""
        student, teacher = seen.forward("student"), self.asked(seen)
        losses = self.student_loss(student, teacher)
        return losses if self.beside is None else losses | self.beside.loss(student, teacher, seen.batch)

    def student_loss(self, student: Outputs, teacher: Outputs) -> Losses:
        """What the student minimises."""
        return Losses(transfer=kl_divergence(student.logits, teacher.logits))

    # ------------------------------------------------------------------ stages

    def stages(self, run: Run) -> Iterator[Train]:
        """One stage without data, or those of the recipe: one of another method has data."""
        for stage in sequence(self, run, "transfer"):
            yield stage.method.without_data(stage, run) if isinstance(stage.method, DataFree) else stage

    def without_data(self, stage: Train, run: Run) -> Train:
        """The stage on nothing, as long as its epochs say."""
        self.sized(stage.settings.batch_size)
        return replace(stage, examples=self.examples(run.splits.info))

    def examples(self, info: DataInfo) -> Examples:
        """What the loop runs over: nothing but identities, as many as an epoch has."""
        return Nothing(info, self.steps * self.batch_size)

    def continued(self) -> None:
        """Hear that the next stage goes on where this one ends, before it is set up."""

    def sized(self, batch_size: int) -> None:
        """Hear how large the batches of the stage are, before it is set up."""
        self.batch_size = batch_size

    def results(self, run: Run) -> Sequence[Result]:
        """The student."""
        student = run.models["student"]
        return (Result("student", lambda inputs: self.predict(student, inputs), "recipient", (student,)),)


def remembered(recipe: Recipe) -> list[Problem]:
    """The problem of a teacher that is asked about each sample once, where every image is new."""
    teacher = recipe.slots.get("teacher")
    if not isinstance(teacher, Spec) or not teacher.extras.get("cache"):
        return []
    where = teacher.place
    return [
        Problem(
            "the teacher cannot remember what it said of images that are made anew in every step.",
            ("teacher", "cache"),
            where.file,
            where.line,
            where.column,
            "Leave out `cache`.",
        )
    ]


def plain(images: Tensor, labels: Tensor | None = None) -> Batch:
    """Images ``[batch, channels, height, width]`` as a batch; without labels, all are of class 0."""
    count, device = len(images), images.device
    return Batch(
        images,
        torch.zeros(count, dtype=torch.int64, device=device) if labels is None else labels,
        torch.arange(count, device=device),
        torch.randint(2**62, (count,), device=device),
    )


def module_of(step: Step, name: str) -> nn.Module:
    """The raw module of a participant."""
    module: Any = step.participants[name].module
    assert isinstance(module, nn.Module)
    return module


def over_epochs(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """Validation accuracy after each epoch of a stage, where there was a validation split."""
    return [epoch["validation"]["accuracy"] for epoch in history if epoch["validation"]]

"""Distillation on images of something else: patches of one photograph, mixed (arXiv:2112.00725)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from tutelage.data.batch import DataInfo
from tutelage.data.mixing import CutMix
from tutelage.data.patches import Patches
from tutelage.data.splits import Examples
from tutelage.distill.base import same_classes
from tutelage.distill.parts.data_free import DataFree
from tutelage.engine.method import Room, Step, Turn
from tutelage.engine.terms import Losses
from tutelage.losses import kl_divergence
from tutelage.models.outputs import Outputs


class OutOfDistribution(DataFree):
    """No generator: every step the student learns KL(teacher ‖ student) on cuts of a photograph, with CutMix."""

    weigh: Callable[[Step, Outputs, Tensor], Tensor] | None = None
    """Makes the mean of ``[batch]`` losses, from the step on the images and what the teacher says of them."""

    def setup(self, room: Room) -> None:
        """Refuse a pair that names different classes.

        Raises:
            InputError: The class counts differ.
        """
        same_classes(room)
        if self.beside is not None:
            self.beside.setup(room)
        self.mix = CutMix(room.info)

    def examples(self, info: DataInfo) -> Examples:
        """The patches."""
        return Patches(info, self.steps * self.batch_size, pixel_range=self.pixel_range)

    def turns(self) -> Sequence[Turn]:
        """The student's."""
        return (Turn("transfer", self.transfer),)

    def transfer(self, step: Step) -> Losses:
        """The student's loss on the step's own images."""
        self._seen = seen = step.on(self.mix(step.batch))
        self.shown = seen.batch.inputs
        return self.learn(seen)

    def student_loss(self, student: Outputs, teacher: Outputs) -> Losses:
        """What the student minimises, weighed where somebody does."""
        losses = kl_divergence(student.logits, teacher.logits)
        return Losses(transfer=losses if self.weigh is None else self.weigh(self._seen, teacher, losses))

"""FitNet: hints for thin deep nets (arXiv:1412.6550, ICLR 2015)."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation
from tutelage.distill.parts.features import Projector, captured, same_positions
from tutelage.engine.method import Room
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy, hint
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("fitnet", paper="arXiv:1412.6550", route="distill")
class FitNet(Distillation):
    """Pull one layer of the student towards one of the teacher (equation 3), through a projector trained with it.

    As in the paper, use it as a first stage without labels, and another method after it: see ``stages``. Of two maps of
    different height or width, the larger is averaged down to the smaller.

    Args:
        teacher_tap: The hint layer.
        student_tap: The guided layer.
        hint_weight: Weight of the hint.
        task_weight: Weight of the label term; 0 in the paper's first stage.
        reduction: ``mean`` divides the paper's ``sum`` over features by their number, so that the weight means the
            same for any layer.
    """

    def __init__(
        self,
        *,
        teacher_tap: str = "features",
        student_tap: str = "features",
        hint_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        task_weight: Annotated[float, Ge(0), Ramped()] = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.teacher_tap, self.student_tap = teacher_tap, student_tap
        self.hint_weight, self.task_weight, self.reduction = hint_weight, task_weight, reduction

    def setup(self, room: Room) -> None:
        """Tap both layers and build the projector between their widths.

        Raises:
            InputError: A tap matches nothing or several places, or the two layers differ in form or number of tokens.
        """
        theirs = captured(room, "teacher", self.teacher_tap)
        ours = captured(room, "student", self.student_tap)
        self.projector = Projector(ours, theirs)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``hint * ½ ‖teacher - projector(student)‖² + task * CE``."""
        ours, theirs = same_positions(
            self.projector(student.taps[self.student_tap]), teacher.taps[self.teacher_tap].detach()
        )
        distance = hint(ours, theirs)
        if self.reduction == "mean":
            distance = distance / ours[0].numel()
        terms = Losses(hint=distance).weighted(hint=self.hint_weight)
        if self.task_weight == 0:
            return terms
        return Losses(task=cross_entropy(student.logits, batch.labels)).weighted(task=self.task_weight) | terms

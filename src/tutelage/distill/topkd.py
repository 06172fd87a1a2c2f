"""TopKD: top-scaled knowledge distillation (arXiv:2508.04539)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge, Gt

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.engine.method import Room
from tutelage.engine.terms import Losses
from tutelage.losses import paired_contrast, top_directions, top_scale
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("topkd", paper="arXiv:2508.04539", route="distill")
class TopKD(LogitDistillation):
    """Amplify the teacher's largest logits, then align directions: of the largest, of the smallest, of the rest.

    There is no divergence in it, and cosines ignore how large logits are: confidence comes from the labels alone. The
    constants are a reconstruction, for the paper's are not public in full. ``also: [kd]`` adds a divergence.

    Args:
        k: How many of the largest and of the smallest logits are taken together.
        tsm: Amplify the teacher's largest logits.
        tsm_gain: How much the largest is amplified; the others less, by rank.
        tsm_bias: Added to the amplified ones, as a share of their distance from the rest.
        gt_boost: How much stronger the label's logit is amplified where the teacher misses it.
        pos_weight: Weight of the direction of the largest.
        neg_weight: Weight of the direction of the smallest.
        rest_weight: Weight of the direction of the rest.
        direction_weight: Weight of the directions together.
        contrastive_weight: Weight of finding one's own teacher output among those of the batch.
        tau: Temperature of that search.
        ce_weight: Weight of the label term.
    """

    hard_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        k: Annotated[int, Ge(2)] = 5,
        tsm: bool = True,
        tsm_gain: Annotated[float, Ge(0)] = 0.5,
        tsm_bias: Annotated[float, Ge(0)] = 0.1,
        gt_boost: Annotated[float, Ge(1)] = 2.0,
        pos_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        neg_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        rest_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        direction_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        contrastive_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        tau: Annotated[float, Gt(0), Ramped()] = 0.07,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
    ) -> None:
        super().__init__()
        self.k, self.tsm, self.tsm_gain, self.tsm_bias, self.gt_boost = k, tsm, tsm_gain, tsm_bias, gt_boost
        self.pos_weight, self.neg_weight, self.rest_weight = pos_weight, neg_weight, rest_weight
        self.direction_weight, self.contrastive_weight = direction_weight, contrastive_weight
        self.tau, self.ce_weight = tau, ce_weight

    def setup(self, room: Room) -> None:
        """Refuse a k that the classes cannot hold twice.

        Raises:
            InputError: ``2 k`` is more than the classes, or the models' classes differ.
        """
        super().setup(room)
        classes = room.look("student").logits.shape[-1]
        if 2 * self.k > classes:
            raise InputError(
                f"method.k: the {self.k} largest and {self.k} smallest of {classes} logits overlap; expected at most "
                f"{classes // 2}"
            )

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``ce * CE + direction * TDL + contrastive * contrast``."""
        return self.task(student, batch).weighted(task=self.ce_weight) | self.transfer(student, teacher, batch)

    def transfer(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """The terms beside the labels' own; a label below 0 is one that nobody knows, and is not amplified."""
        target = teacher.logits
        if self.tsm:
            target = top_scale(
                target, batch.labels, k=self.k, gain=self.tsm_gain, bias=self.tsm_bias, boost=self.gt_boost
            )
        direction = top_directions(
            student.logits,
            target,
            k=self.k,
            pos_weight=self.pos_weight,
            neg_weight=self.neg_weight,
            rest_weight=self.rest_weight,
        )
        contrast = paired_contrast(student.logits, target, temperature=self.tau, ids=batch.ids)
        terms = Losses(direction=direction, contrast=contrast)
        return terms.weighted(direction=self.direction_weight, contrast=self.contrastive_weight)

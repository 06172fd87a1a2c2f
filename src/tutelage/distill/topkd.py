"""TopKD: top-scaled knowledge distillation (arXiv:2508.04539)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.features import held_out
from tutelage.engine.method import Finding, Room, Step, Train
from tutelage.engine.terms import Losses
from tutelage.losses import paired_contrast, top_directions, top_scale
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("topkd", paper="arXiv:2508.04539", route="distill")
class TopKD(LogitDistillation):
    """Amplify the teacher's largest logits, then align directions: of the largest, of the smallest, of the rest.

    There is no divergence in it, and cosines ignore how large logits are: confidence comes from the labels alone, so
    look at the calibration. The constants are a reconstruction, for the paper's are not public in full. ``also: [kd]``
    adds a divergence, with ``amplify_also`` from the amplified teacher; with both weights 0, amplifying is all that is
    done to the other method. On samples whose labels are hidden (data ``labelled``) it learns from the teacher alone,
    unless it stands beside another method.

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
        learn_tau: Train that temperature, from ``tau`` on.
        ce_weight: Weight of the label term.
        unlabelled_weight: Weight of the terms on samples without labels, as many a step as with.
        amplify_also: Show the amplified teacher to the methods under ``also``, too.
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
        learn_tau: bool = False,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        unlabelled_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        amplify_also: bool = False,
    ) -> None:
        super().__init__()
        self.k, self.tsm, self.tsm_gain, self.tsm_bias, self.gt_boost = k, tsm, tsm_gain, tsm_bias, gt_boost
        self.pos_weight, self.neg_weight, self.rest_weight = pos_weight, neg_weight, rest_weight
        self.direction_weight, self.contrastive_weight = direction_weight, contrastive_weight
        self.tau, self.learn_tau, self.ce_weight = tau, learn_tau, ce_weight
        self.unlabelled_weight, self.amplify_also = unlabelled_weight, amplify_also

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
        if self.learn_tau:
            # Its logarithm, so that no step makes it negative.
            self.log_tau = nn.Parameter(torch.tensor(math.log(self.tau)))

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``ce * CE + direction * TDL + contrastive * contrast``."""
        return self.task(student, batch).weighted(task=self.ce_weight) | self.transfer(student, teacher, batch)

    def transfer(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """The terms beside the labels' own; a label below 0 is one that nobody knows, and is not amplified."""
        target = self.amplified(teacher.logits, batch.labels) if self.tsm else teacher.logits
        direction = top_directions(
            student.logits,
            target,
            k=self.k,
            pos_weight=self.pos_weight,
            neg_weight=self.neg_weight,
            rest_weight=self.rest_weight,
        )
        tau = self.log_tau.exp() if self.learn_tau else self.tau
        contrast = paired_contrast(student.logits, target, temperature=tau, ids=batch.ids)
        terms = Losses(direction=direction, contrast=contrast)
        terms = terms.weighted(direction=self.direction_weight, contrast=self.contrastive_weight)
        return terms.noting(tau=self.log_tau.exp()) if self.learn_tau else terms

    def amplified(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``[batch, classes]``: a teacher's logits, the largest and the label's amplified."""
        return top_scale(logits, labels, k=self.k, gain=self.tsm_gain, bias=self.tsm_bias, boost=self.gt_boost)

    def beside(self, teacher: Outputs, batch: Batch) -> Outputs:
        """The amplified teacher, where others are to see it."""
        if not self.amplify_also:
            return teacher
        return replace(teacher, logits=self.amplified(teacher.logits, batch.labels))

    def compare(self, step: Step) -> Losses:
        """Also on the samples without labels, where there are any."""
        terms = super().compare(step)
        if "unlabelled" not in step.pools:
            return terms
        others = step.on(step.pools["unlabelled"])
        more = self.transfer(others.forward("student"), others.forward("teacher"), others.batch).prefixed("unlabelled")
        return terms | more.weighted(**{name: self.unlabelled_weight * more.weight(name) for name in more})

    def stages(self, run: Run) -> Iterator[Train]:
        """With a batch of samples without labels a step, where there are any."""
        pools = {} if run.splits.unlabelled is None else {"unlabelled": run.splits.unlabelled}
        for stage in super().stages(run):
            yield replace(stage, pools=pools)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """On the test set, the mean cosine to the plain teacher of the largest, the smallest and the other logits."""
        parts = {"largest": "pos_weight", "smallest": "neg_weight", "rest": "rest_weight"}
        found: dict[str, list[Tensor]] = {name: [] for name in parts}
        for _, said in held_out(run, {"student": (), "teacher": ()}):
            for name, key in parts.items():
                alone = {**dict.fromkeys(parts.values(), 0.0), key: 1.0}
                apart = top_directions(said["student"].logits, said["teacher"].logits, k=self.k, **alone)
                found[name].append(1 - apart)
        return {f"cosine_of_{name}": float(torch.cat(values).mean()) for name, values in found.items()}

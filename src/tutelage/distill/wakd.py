"""WAKD: weight averaging improves knowledge distillation under domain shift (arXiv:2309.11446, ICCV 2023 OOD-CV)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt
from torch.nn.modules.batchnorm import _BatchNorm

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation, sequence
from tutelage.engine.method import Room, Step, Train
from tutelage.engine.terms import Losses
from tutelage.losses import kl_divergence
from tutelage.models.freezing import stay_in_eval
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Of, Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("wakd", paper="arXiv:2309.11446", route="distill")
class WAKD(LogitDistillation):
    """Distil without labels, and hand on an average of the student's weights over training, for unseen domains.

    Averages lie in flat minima, which are to generalise better where the test domain is another. The averaging is a
    callback, and any other method takes it too: ``method: wttm`` with ``callbacks: [wakd]``. A teacher that is trained
    on the spot takes it as well: ``weights: {train: {...}, callbacks: [swad]}``, as in the paper. Data with domains
    (``domains``, ``glyphs``) say which are held out. Samples without labels (``data.labelled``) are learned from too.

    Args:
        temperature: Softens both distributions; the loss is multiplied by its square.
        label_weight: Weight of the cross-entropy with the labels; the paper has none.
        averaging: A callback that averages: ``wakd``, ``sma``, ``swad`` or ``ema``; ``null`` for the last weights.
        freeze_bn: Keep the statistics of the student's batch normalisation as they are, and train only its scales and
            offsets: for a student with pretrained weights. Otherwise they are measured anew for the average.
    """

    def __init__(
        self,
        *,
        temperature: Annotated[float, Gt(0), Ramped()] = 5.0,
        label_weight: Annotated[float, Ge(0), Ramped()] = 0.0,
        averaging: Annotated[Any, Of("callback")] | None = "wakd",
        freeze_bn: bool = True,
    ) -> None:
        super().__init__()
        self.temperature, self.label_weight = temperature, label_weight
        self.averaging, self.freeze_bn = averaging, freeze_bn

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher, and terms of others, which belong to a method that is averaged from outside."""
        problems = super().check(recipe)
        for other in recipe.also if recipe.method.name == "wakd" else ():
            where = other.place
            hint = "Take `method: kd` with `callbacks: [wakd]` beside `also`."
            message = "wakd is plain distillation whose weights are averaged, and takes no further terms."
            problems.append(Problem(message, ("also",), where.file, where.line, where.column, hint))
        return problems

    def setup(self, room: Room) -> None:
        """Freeze the statistics."""
        super().setup(room)
        if self.freeze_bn:
            for part in room.modules["student"].modules():
                if isinstance(part, _BatchNorm):
                    stay_in_eval(part)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``T² * KL(teacher / T, student / T)``, and the weighted label term where one is asked for."""
        terms = Losses(transfer=kl_divergence(student.logits, teacher.logits, temperature=self.temperature))
        if self.label_weight == 0:
            return terms
        return (self.task(student, batch) | terms).weighted(task=self.label_weight)

    def compare(self, step: Step) -> Losses:
        """The loss on the batch, and the transfer term on a batch without labels where the data has such."""
        losses = super().compare(step)
        if "unlabelled" not in step.pools:
            return losses
        others = step.on(step.pools["unlabelled"])
        teacher, student = others.forward("teacher").logits, others.forward("student").logits
        # The pool may come in parts of other sizes than the batch, so its mean is taken here.
        return losses | Losses(unlabelled=kl_divergence(student, teacher, temperature=self.temperature).mean())

    def stages(self, run: Run) -> Iterator[Train]:
        """One stage, or those of the recipe, with the averaging beside the recipe's own callbacks."""
        pools = {} if run.splits.unlabelled is None else {"unlabelled": run.splits.unlabelled}
        for stage in sequence(self, run, "transfer"):
            if stage.method is not self:
                yield stage
                continue
            own = [spec.build() for spec in run.recipe.callbacks]
            averaging = [] if self.averaging is None else [copy.deepcopy(self.averaging)]
            yield replace(stage, callbacks=[*own, *averaging], pools=pools)

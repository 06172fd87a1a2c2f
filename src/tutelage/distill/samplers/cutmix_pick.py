"""Augmented batches of which only the most informative samples are kept (arXiv:2012.02909)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.loader import Augmentation, apply
from tutelage.data.mixing import CutMix
from tutelage.data.seeds import derive
from tutelage.engine.method import Room, Step
from tutelage.engine.sampler import Sampler, tried
from tutelage.losses import entropy, kl_divergence
from tutelage.recipe.building import completed
from tutelage.recipe.registry import component
from tutelage.recipe.types import Of

Criterion = Literal["none", "teacher_entropy", "student_entropy", "kl", "dissimilarity"]


@component("sampler", "cutmix-pick")
class CutMixPick(Sampler):
    """Augment a batch several times, and keep the samples that score highest.

    Labels are mixed sample by sample and stay with the samples that are kept. Scores are those of models as they would
    answer: without a graph, and without moving the student's statistics.

    Args:
        augment: What a batch goes through, in this order; empty for ``cutmix`` with one box a batch.
        pick: ``teacher_entropy`` or ``student_entropy`` of the probabilities at temperature 1; ``kl`` from teacher to
            student; ``dissimilarity``: distance of the teacher's probabilities to the nearest original's; ``none``: as
            they come.
        runs: How many times the batch is augmented.
        keep: How many samples are kept; null for as many as the batch has.
        temperature: For ``pick: kl``.
    """

    mixes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        augment: Annotated[tuple[Any, ...], Of("augment")] = (),
        pick: Criterion = "teacher_entropy",
        runs: Annotated[int, Ge(1)] = 2,
        keep: Annotated[int, Ge(1)] | None = None,
        temperature: Annotated[float, Gt(0)] = 4.0,
    ) -> None:
        super().__init__()
        self.augment, self.pick, self.runs, self.keep, self.temperature = augment, pick, runs, keep, temperature
        self._chain: list[Augmentation] = []

    def setup(self, room: Room) -> None:
        """Build the augmentations."""
        self._chain = [completed(one, room.info) for one in self.augment] or [CutMix(room.info)]

    def sample(self, step: Step) -> Batch:
        """The picked samples, in the order of the pool."""
        batch = step.batch
        runs = [apply(batch.with_(seeds=derive(batch.seeds, run)), self._chain) for run in range(self.runs)]
        pool = Batch.join(runs)
        count = min(self.keep or len(batch), len(pool))
        with torch.no_grad():
            score = self.scores(step, pool) if self.pick != "none" and count < len(pool) else None
        return pool if count == len(pool) else picked(pool, score, count)

    def scores(self, step: Step, pool: Batch) -> Tensor:
        """``[pool]``: what each sample is kept for."""
        on = step.on(pool)
        if self.pick == "student_entropy":
            return entropy(tried(on).logits)
        teacher = on.forward("teacher").logits
        if self.pick == "teacher_entropy":
            return entropy(teacher)
        if self.pick == "kl":
            return kl_divergence(tried(on).logits, teacher, temperature=self.temperature)
        original = step.forward("teacher").logits
        return torch.cdist(teacher.float().softmax(-1), original.float().softmax(-1)).amin(-1)


def picked(pool: Batch, score: Tensor | None, count: int) -> Batch:
    """The samples of a batch with the highest scores, in the batch's order; the first ones where there are no scores.

    Args:
        pool: The batch.
        score: ``[batch]``.
        count: How many.
    """
    if score is None:
        rows = torch.arange(count, device=pool.ids.device)
    else:
        rows = score.argsort(descending=True, stable=True)[:count].sort().values
    return pool.rows(rows)

"""Mixup of a part of each batch, with a share of its own for every sample (arXiv:2211.03946)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.mixing import blended
from tutelage.data.seeds import beta, derive, integers
from tutelage.engine.method import Room, Step
from tutelage.engine.sampler import Sampler
from tutelage.recipe.registry import component


@component("sampler", "partial-mixup")
class PartialMixup(Sampler):
    """Mix some samples of each batch, and their labels, each with another by a share of its own.

    Pairs are those of two independent permutations, put back in the order of the first, so that a row keeps the
    identity of the sample that leads it; a sample may meet itself. With accumulated parts or several processes,
    partners come from the same part.

    Args:
        mix: ``none`` of a batch, ``full``, or ``partial``.
        mixed_fraction: Share of a batch that ``partial`` mixes.
        beta: The share of a sample that stays is drawn from Beta(beta, beta).
        exact: Mix exactly that share of the batch, rounded. The authors' code draws the samples that are left alone
            with replacement, so that of a batch "10 % mixed" about 41 % are.
    """

    mixes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        mix: Literal["none", "full", "partial"] = "partial",
        mixed_fraction: Annotated[float, Ge(0), Le(1)] = 0.1,
        beta: Annotated[float, Gt(0)] = 1.0,
        exact: bool = True,
    ) -> None:
        super().__init__()
        self.mix, self.mixed_fraction, self.beta, self.exact = mix, mixed_fraction, beta, exact
        self._classes = 0

    def setup(self, room: Room) -> None:
        """Learn how many classes labels have."""
        self._classes = room.info.classes

    def sample(self, step: Step) -> Batch:
        """The batch with ``[batch, classes]`` labels.

        Raises:
            InputError: Some of the samples have no label.
        """
        seeds = step.batch.seeds
        return blended(step.batch, self.pairs(seeds), self.shares(seeds), self._classes, "partial-mixup")

    def pairs(self, seeds: Tensor) -> Tensor:
        """``[batch]`` int64: where each sample's partner is."""
        first, second = (derive(seeds, place).argsort(stable=True) for place in (0x4D31, 0x4D32))
        return torch.empty_like(first).scatter_(0, first, second)

    def shares(self, seeds: Tensor) -> Tensor:
        """``[batch]``: how much of each sample stays; 1 for those that are not mixed."""
        drawn = beta(derive(seeds, 0x4D33), 0, self.beta)
        count = {"none": 0, "full": len(seeds), "partial": round(self.mixed_fraction * len(seeds))}[self.mix]
        chosen = derive(seeds, 0x4D34).argsort(stable=True)
        if self.mix == "partial" and not self.exact:
            kept = integers(derive(seeds, 0x4D35), 0, len(seeds), 0)[chosen[count:]]
            return drawn.index_fill(0, kept, 1.0)
        return drawn.index_fill(0, chosen[count:], 1.0)

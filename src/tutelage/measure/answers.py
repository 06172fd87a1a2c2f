"""Predicted answers, and what is made of them: AUC, accuracy, NLL and calibration, with learners as the samples.

Answers of one learner hang together, so intervals resample learners. A score that is a mean over answers, or a
statistic
with an influence function such as AUC, is written as a mean over learners of what each contributes to it, so that
paired differences of models have intervals too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from tutelage.data.answers import AnswerBatch, AnswerWindows
from tutelage.measure.bootstrap import Floats, interval, mean_interval
from tutelage.measure.number import Number


class Predicting(Protocol):
    """A model of learners."""

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor, /
    ) -> Tensor:
        """``[batch, steps]`` logits."""
        ...

    def ahead(self, batch: AnswerBatch, known: int) -> Tensor:
        """``[batch, steps]`` probabilities, without answers from step ``known`` on."""
        ...


@dataclass(frozen=True, eq=False)
class Answered:
    """Answers, and how likely a model held right ones.

    Args:
        chance: ``[answers]`` float64 predicted probabilities.
        right: ``[answers]`` float64, 0 or 1.
        learners: ``[answers]`` int64.
        positions: ``[answers]`` int64: how many answers the learner gave before.
        concepts: ``[answers]`` int64: the question's first concept.
    """

    chance: Tensor
    right: Tensor
    learners: Tensor
    positions: Tensor
    concepts: Tensor

    def __len__(self) -> int:
        return len(self.right)

    @property
    def both(self) -> bool:
        """Whether there are right and wrong answers, which AUC needs."""
        return bool((self.right == 1).any() and (self.right == 0).any())

    def of(self, which: Tensor) -> Answered:
        """Only those of a mask."""
        parts = (self.chance, self.right, self.learners, self.positions, self.concepts)
        return Answered(*(part[which] for part in parts))

    # ------------------------------------------------------------------ a value for each answer

    def accuracy(self) -> Tensor:
        """``[answers]``: whether the likelier answer was given; a half counts as right."""
        return ((self.chance >= 0.5).double() == self.right).double()

    def nll(self) -> Tensor:
        """``[answers]`` negative log-likelihoods in nats."""
        return binary_cross_entropy(self.chance.clamp(1e-7, 1 - 1e-7), self.right, reduction="none")

    def auc(self) -> Tensor:
        """``[answers]`` values whose mean is the area under the ROC curve and whose spread is its (DeLong 1988).

        Raises:
            ValueError: All answers are right, or all are wrong.
        """
        if not self.both:
            raise ValueError("AUC needs right and wrong answers")
        right = self.right == 1
        every, own = _ranks(self.chance), torch.empty_like(self.chance)
        own[right], own[~right] = _ranks(self.chance[right]), _ranks(self.chance[~right])
        ones, zeros = int(right.sum()), int((~right).sum())
        # How many of the other kind stand below a right answer, or above a wrong one.
        share = torch.where(right, (every - own) / zeros, 1 - (every - own) / ones)
        area = share[right].mean()
        size = torch.where(right, len(self) / ones, len(self) / zeros)
        return area + size * (share - area)

    def over_learners(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """``[learners]`` who answered, and what each contributes to the mean of ``[answers]`` values."""
        who, place = self.learners.unique(return_inverse=True)
        mean = values.mean()
        own = torch.zeros(len(who), dtype=torch.float64).index_add_(0, place, values.double() - mean)
        return who, mean + own * (len(who) / len(values))

    def mean(self, values: Tensor) -> Number:
        """The mean of ``[answers]`` values, with an interval over learners; ``n`` is the number of answers."""
        number = mean_interval(self.over_learners(values)[1].numpy())
        return Number(number.value, number.low, number.high, len(self))

    def ece(self, bins: int = 15) -> Number:
        """Expected calibration error of the probability of a right answer, in bins of equal width."""
        who, place = self.learners.unique(return_inverse=True)
        bin_of = (self.chance * bins).long().clamp_max(bins - 1)
        cell = place * bins + bin_of
        excess = (
            torch.bincount(cell, weights=self.chance - self.right, minlength=len(who) * bins).view(-1, bins).numpy()
        )
        counts = torch.bincount(place, minlength=len(who)).double().numpy()

        def error(weights: Floats) -> Floats:
            found: Floats = np.abs(weights @ excess).sum(1) / (weights @ counts)
            return found

        return interval(error, len(who), floor=0.0)


def _ranks(values: Tensor) -> Tensor:
    """``[n]`` ranks from 1 on; equal values share the mean of theirs."""
    ordered, order = values.sort()
    _, place, counts = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    shared = last.double() - (counts.double() - 1) / 2
    found = torch.empty(len(values), dtype=torch.float64)
    found[order] = shared[place]
    return found


def predictions(
    model: Predicting, examples: AnswerWindows, device: torch.device | str = "cpu", *, batch_size: int = 64
) -> Answered:
    """What a model says of every answer that windows score, each from what came before it.

    Args:
        model: In evaluation mode.
        examples: Windows.
        device: Where the model is.
        batch_size: Windows at a time; those of similar length are asked about together.
    """
    order = torch.from_numpy(np.argsort(examples.stops - examples.starts, kind="stable"))
    parts = []
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            batch = examples.fetch(order[start : start + batch_size])
            moved = batch.to(device)
            parts.append(collected(model.trace(*moved.arguments).double().sigmoid().cpu(), batch, batch.scored))
    return joined(parts)


def predictions_ahead(
    model: Predicting,
    examples: AnswerWindows,
    device: torch.device | str = "cpu",
    *,
    known: int = 10,
    horizon: int = 10,
    batch_size: int = 256,
) -> Answered | None:
    """What a model says of learners' answers ``known`` to ``known + horizon`` from their first ``known`` alone.

    Returns:
        ``None`` where no learner has so many answers.
    """
    begin = (examples.starts == examples.log.offsets[examples.learners]) & (
        examples.stops - examples.starts >= known + horizon
    )
    chosen = torch.from_numpy(np.flatnonzero(begin))
    parts = []
    for start in range(0, len(chosen), batch_size):
        batch = examples.fetch(chosen[start : start + batch_size]).until(known + horizon)
        asked = torch.zeros_like(batch.real)
        asked[:, known:] = True
        parts.append(collected(model.ahead(batch.to(device), known).double().cpu(), batch, asked))
    return joined(parts) if parts else None


def collected(chance: Tensor, batch: AnswerBatch, which: Tensor) -> Answered:
    """The answers of a mask ``[batch, steps]``."""
    learners = batch.learners[:, None].expand_as(which)
    return Answered(
        chance[which],
        batch.labels[which].double(),
        learners[which],
        batch.positions[which],
        batch.inputs[..., 0][which],
    )


def joined(parts: list[Answered]) -> Answered:
    """Several after each other."""
    columns = [
        torch.cat([getattr(part, name) for part in parts])
        for name in ("chance", "right", "learners", "positions", "concepts")
    ]
    return Answered(*columns)


def summary(answered: Answered) -> Mapping[str, Number]:
    """AUC, where there is one, accuracy and NLL."""
    found = {"auc": answered.mean(answered.auc())} if answered.both else {}
    return {**found, "accuracy": answered.mean(answered.accuracy()), "nll": answered.mean(answered.nll())}


def by_concept(answered: Answered, names: tuple[str, ...], *, least: int = 20) -> list[dict[str, object]]:
    """A row for each concept that was asked for often enough, the most frequent first.

    Args:
        answered: Predicted answers.
        names: Of concepts, by index.
        least: Answers that a concept needs.
    """
    counts = torch.bincount(answered.concepts.clamp_min(0), minlength=len(names))
    rows: list[dict[str, object]] = []
    for concept in counts.argsort(descending=True, stable=True).tolist():
        if counts[concept] < least:
            break
        own = answered.of(answered.concepts == concept)
        rows.append(
            {
                "concept": names[concept],
                "answers": len(own),
                "right": float(own.right.mean()),
                "predicted": float(own.chance.mean()),
                "auc": float(own.auc().mean()) if own.both else None,
            }
        )
    return rows

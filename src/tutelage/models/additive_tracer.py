"""Logistic models of learners: a weighted sum of what happened before, fitted as one regression."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Gt, MinLen
from torch import Tensor, nn

from tutelage.data.answers import AnswerBatch
from tutelage.data.batch import DataInfo
from tutelage.models.tracer import Tracer
from tutelage.recipe.registry import component


class AdditiveTracer(Tracer):
    """A logit that is a sum of weights, each times how much there is of its feature.

    Args:
        data: Facts about the log of answers.
        features: How many features there are.
    """

    def __init__(self, data: DataInfo, features: int) -> None:
        super().__init__(data)
        self.weight = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(()))

    def features(self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """``[batch, steps, n]`` indices of features, and how much there is of each before the step's answer."""
        raise NotImplementedError(f"{type(self).__name__} has no features")

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor
    ) -> Tensor:
        """The sum."""
        index, amount = self.features(concepts, answers, items, times)
        return (self.weight[index] * amount).sum(-1) + self.bias

    def table(self, batch: AnswerBatch) -> tuple[Any, Any]:
        """What a regression is fitted to: sparse ``[answers, features]``, and ``[answers]`` of the steps that count."""
        import scipy.sparse as sp

        index, amount = self.features(batch.inputs, batch.labels, batch.items, batch.times)
        index, amount = index[batch.scored], amount[batch.scored].double()
        rows = torch.arange(len(index))[:, None].expand_as(index)
        there = amount != 0
        place = (rows[there].numpy(), index[there].numpy())
        shape = (len(index), len(self.weight))
        return sp.csr_matrix((amount[there].numpy(), place), shape=shape), batch.labels[batch.scored].numpy()


def attempts(concepts: Tensor, answers: Tensor, times: Tensor, within: float | None = None) -> tuple[Tensor, Tensor]:
    """``[batch, steps, width]`` earlier answers, and right answers, on each concept of a step's question.

    Args:
        concepts: ``[batch, steps, width]`` int64, -1 in places that are not needed.
        answers: ``[batch, steps]`` in [0, 1].
        times: ``[batch, steps]`` days.
        within: Only of so many days before; ``None`` for all.
    """
    steps = concepts.shape[1]
    earlier = torch.ones(steps, steps, dtype=torch.bool, device=concepts.device).tril(-1)
    if within is not None:
        earlier = earlier & ((times[:, :, None] - times[:, None, :]) <= within)
    found, right = [], []
    for place in range(concepts.shape[2]):
        mine = concepts[:, :, place]
        same = (mine[:, :, None, None] == concepts[:, None, :, :]).any(-1) & earlier & (mine >= 0)[:, :, None]
        weights = same.float()
        found.append(weights.sum(-1))
        right.append((weights @ answers[..., None])[..., 0])
    return torch.stack(found, -1), torch.stack(right, -1)


@component("model", "pfa")
class PFA(AdditiveTracer):
    """Performance factors: a concept's ease, and what each earlier right and wrong answer on it is worth.

    Args:
        data: Facts about the log of answers.
    """

    def __init__(self, data: DataInfo) -> None:
        super().__init__(data, 3 * getattr(data, "concepts", 0))

    def features(self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Concepts, right answers and wrong answers."""
        tried, right = attempts(concepts, answers, times)
        there, at = (concepts >= 0).float(), concepts.clamp_min(0)
        index = torch.cat([at, at + self.concepts, at + 2 * self.concepts], -1)
        return index, torch.cat([there, right * there, (tried - right) * there], -1)


@component("model", "das3h")
class DAS3H(AdditiveTracer):
    """Difficulty, ability and student skill history: attempts and right answers count by how long ago they were.

    There is no ability of single learners, for those of the test are new.

    Args:
        data: Facts about the log of answers.
        days: Spans of time in which attempts are counted; all of the past is always added.
    """

    def __init__(
        self,
        data: DataInfo,
        *,
        days: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1 / 24, 1.0, 7.0, 30.0),
    ) -> None:
        concepts, items = getattr(data, "concepts", 0), getattr(data, "items", 0)
        spans = len(days) + 1
        super().__init__(data, items + 1 + concepts * (1 + 2 * spans))
        self.spans: tuple[float | None, ...] = (*days, None)
        self.first = items + 1

    def features(self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """The item, the concepts, and logarithms of counts in each span of time."""
        there, at = (concepts >= 0).float(), concepts.clamp_min(0)
        known = (items >= 0) & (items < self.first - 1)
        index = [torch.where(known, items + 1, 0)[..., None], at + self.first]
        amount = [known[..., None].float(), there]
        for place, span in enumerate(self.spans):
            tried, right = attempts(concepts, answers, times, span)
            for kind, count in enumerate((tried, right)):
                index.append(at + self.first + self.concepts * (1 + 2 * place + kind))
                amount.append(torch.log1p(count) * there)
        return torch.cat(index, -1), torch.cat(amount, -1)

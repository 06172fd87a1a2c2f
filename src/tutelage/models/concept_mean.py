"""How often a concept is answered rightly, whoever answers: what models of learners have to be better than."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from tutelage.data.answers import AnswerWindows
from tutelage.data.batch import DataInfo
from tutelage.models.tracer import Tracer, pooled
from tutelage.recipe.registry import component


@component("model", "concept-mean")
class ConceptMean(Tracer):
    """The share of right answers on a concept in training; a learner's own answers change nothing.

    Args:
        data: Facts about the log of answers.
        smoothing: Answers at the average of all concepts that are added to each.
    """

    def __init__(self, data: DataInfo, *, smoothing: Annotated[float, Gt(0)] = 5.0) -> None:
        super().__init__(data)
        self.smoothing = smoothing
        self.logits = nn.Embedding(self.concepts, 1)
        nn.init.constant_(self.logits.weight, torch.tensor(self.info.rate).logit(eps=1e-4).item())

    def count(self, train: AnswerWindows) -> None:
        """Take the shares from training windows."""
        right, asked = torch.zeros(self.concepts), torch.zeros(self.concepts)
        for start in range(0, len(train), 512):
            batch = train.fetch(range(start, min(start + 512, len(train))))
            there = (batch.inputs >= 0) & batch.scored[..., None]
            answers = batch.labels[..., None].expand_as(there)[there]
            right.index_add_(0, batch.inputs[there], answers)
            asked.index_add_(0, batch.inputs[there], torch.ones_like(answers))
        share = (right + self.smoothing * self.info.rate) / (asked + self.smoothing)
        with torch.no_grad():
            self.logits.weight.copy_(share.logit(eps=1e-4)[:, None])

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor
    ) -> Tensor:
        """A concept's own, or the mean of several."""
        return pooled(self.logits, concepts)[..., 0]

"""Deep knowledge tracing: an LSTM over all answers (arXiv:1506.05908)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from tutelage.data.answers import AnswerBatch
from tutelage.data.batch import DataInfo
from tutelage.models.outputs import Outputs
from tutelage.models.tracer import Interactions, Recurrent, Tracer, before, pooled
from tutelage.recipe.registry import component


@dataclass(frozen=True)
class DKTOutputs(Outputs):
    """Logits, and the states that they were read from.

    Args:
        states: ``[batch, steps, size]`` after each step; ``None`` unless asked for.
    """

    states: Tensor | None = None


@component("model", "dkt")
class DKT(Tracer):
    """An LSTM over concepts and answers, whose state is read with a row for each concept.

    Args:
        data: Facts about the log of answers.
        width: Size of an interaction's vector and of the state.
        layers: LSTM layers.
        dropout: On the state that is read.
    """

    def __init__(
        self,
        data: DataInfo,
        *,
        width: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
    ) -> None:
        super().__init__(data)
        self.interactions = Interactions(self.concepts, width)
        self.recurrent = Recurrent(width, width, layers=layers)
        self.dropout = nn.Dropout(dropout)
        self.read = nn.Embedding(self.concepts, width)
        self.bias = nn.Embedding(self.concepts, 1)
        nn.init.uniform_(self.read.weight, -(width**-0.5), width**-0.5)
        nn.init.zeros_(self.bias.weight)
        self.exposed = False

    def states(self, concepts: Tensor, answers: Tensor, real: Tensor) -> Tensor:
        """``[batch, steps, width]``: what is known of a learner after each step."""
        lengths = real.sum(1)
        found: Tensor = self.recurrent(self.interactions(concepts, answers), lengths)
        return found

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor
    ) -> Tensor:
        """Only the rows of what is asked are read, and not those of all concepts."""
        return self._read(before(self.states(concepts, answers, real)), concepts)

    def _read(self, states: Tensor, concepts: Tensor) -> Tensor:
        rows, bias = pooled(self.read, concepts), pooled(self.bias, concepts)
        logits: Tensor = (self.dropout(states) * rows).sum(-1) + bias[..., 0]
        return logits

    def outputs(self, *arguments: Tensor) -> Outputs:
        """With the states, where a method asked to see them."""
        if not self.exposed:
            return super().outputs(*arguments)
        concepts, answers, _, _, real, _ = arguments
        states = self.states(concepts, answers, real)
        return DKTOutputs(self._read(before(states), concepts), states=states)

    def every(self, states: Tensor) -> Tensor:
        """``[batch, steps, concepts]`` logits of all concepts from states ``[batch, steps, width]``."""
        logits: Tensor = states @ self.read.weight.T + self.bias.weight[:, 0]
        return logits

    @torch.no_grad()
    def mastery(self, batch: AnswerBatch) -> Tensor:
        """All concepts are read from the same states."""
        states = self.states(batch.inputs, batch.labels, batch.real)
        start = torch.zeros_like(states[:, :1]) if states.shape[1] else states.new_zeros(len(batch), 1, states.shape[2])
        return self.every(torch.cat([start, states], 1)).sigmoid()

    @torch.no_grad()
    def latest(self, batch: AnswerBatch) -> Tensor:
        """All concepts are read from the last state."""
        every = self.mastery(batch)
        return every[torch.arange(len(batch)), batch.real.sum(1)]

"""Context-aware attentive knowledge tracing (arXiv:2007.12324, KDD 2020)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.models.tracer import Tracer, by_length, pooled
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("model", "akt")
class AKT(Tracer):
    """Questions and answers are encoded by attention that decays with distance; the former ask for the latter.

    Args:
        data: Facts about the log of answers; where it has items, each gets a difficulty (the Rasch embeddings of
            section 3.4).
        width: Of all vectors.
        heads: Attention heads; a divisor of ``width``.
        blocks: Blocks of each encoder; the retriever has twice as many, by turns within questions and across.
        dropout: On attention and between layers.
        root: Whether attention decays with the root of the distance, as the released code has it, or with the distance
            itself as in equation 2.
    """

    def __init__(
        self,
        data: DataInfo,
        *,
        width: Annotated[int, Ge(1)] = 64,
        heads: Annotated[int, Ge(1)] = 4,
        blocks: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        root: bool = True,
    ) -> None:
        super().__init__(data)
        if width % heads:
            raise InputError(f"heads {heads}: {width} numbers cannot be divided among them; choose a divisor")
        self.asked = nn.Embedding(self.concepts, width)
        self.answered = nn.Embedding(2, width)
        if self.info.items:
            # Row 0 is of items that training did not see.
            self.difficulty = nn.Embedding(self.info.items + 1, 1)
            nn.init.zeros_(self.difficulty.weight)
            self.asked_change = nn.Embedding(self.concepts, width)
            self.answered_change = nn.Embedding(2, width)

        def made(count: int) -> nn.ModuleList:
            return nn.ModuleList(Decaying(width, heads, dropout, root) for _ in range(count))

        self.past_encoder, self.question_encoder, self.retriever = made(blocks), made(blocks), made(blocks)
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))

    def difficulties(self, items: Tensor) -> Tensor:
        """``[batch, steps, 1]`` of ``[batch, steps]`` items; 0 for those that are unknown."""
        found: Tensor = self.difficulty((items + 1).clamp(0, self.info.items))
        return found * ((items >= 0) & (items < self.info.items))[..., None]

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor
    ) -> Tensor:
        """The retriever looks at answers that are strictly before."""
        return by_length(self._trace, real.sum(1), concepts, answers, items)

    def _trace(self, concepts: Tensor, answers: Tensor, items: Tensor) -> Tensor:
        question = pooled(self.asked, concepts)
        right = torch.lerp(self.answered.weight[0], self.answered.weight[1], answers[..., None])
        past = question + right
        if self.info.items:
            hard, change = self.difficulties(items), pooled(self.asked_change, concepts)
            more = torch.lerp(self.answered_change.weight[0], self.answered_change.weight[1], answers[..., None])
            past = past + hard * (change + more)
            question = question + hard * change
        asked = question
        for block in self.past_encoder:
            past = block(past, past, past, strict=False)
        for within, across in zip(self.question_encoder, self.retriever, strict=True):
            question = within(question, question, question, strict=False)
            question = across(question, question, past, strict=True)
        logits: Tensor = self.head(torch.cat([question, asked], -1))[..., 0]
        return logits


class Decaying(nn.Module):
    """Attention whose scores are multiplied by exp(-θ d): d is the distance in steps, weighed by what lies between."""

    def __init__(self, width: int, heads: int, dropout: float, root: bool) -> None:
        super().__init__()
        self.heads, self.root = heads, root
        self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.rate = nn.Parameter(torch.zeros(heads, 1, 1))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inner = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *, strict: bool) -> Tensor:
        """``[batch, steps, width]``; with ``strict`` a step does not see itself, and the first sees nothing."""
        batch, steps, width = query.shape
        q, k, v = (
            part.view(batch, steps, self.heads, -1).transpose(1, 2)
            for part in (self.key(query), self.key(key), self.value(value))
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        hidden = torch.ones(steps, steps, dtype=torch.bool, device=query.device).triu(0 if strict else 1)
        scores = scores * self.decay(scores, hidden)
        weights = torch.softmax(scores.masked_fill(hidden, -1e30), -1)
        weights = self.dropout(weights.masked_fill(hidden, 0.0))
        seen = self.out((weights @ v).transpose(1, 2).reshape(batch, steps, width))
        x = self.first(query + self.dropout(seen))
        made: Tensor = self.second(x + self.dropout(self.inner(x)))
        return made

    def decay(self, scores: Tensor, hidden: Tensor) -> Tensor:
        """``[batch, heads, steps, steps]`` in (0, 1]; no gradient goes through the distance (section 3.3)."""
        with torch.no_grad():
            share = torch.softmax(scores.masked_fill(hidden, -1e30), -1).masked_fill(hidden, 0.0)
            between = share.sum(-1, keepdim=True) - share.cumsum(-1)
            place = torch.arange(scores.shape[-1], device=scores.device, dtype=scores.dtype)
            distance = (between * (place[:, None] - place).abs()).clamp_min(0.0)
            if self.root:
                distance = distance.sqrt()
        rate = nn.functional.softplus(self.rate)
        return torch.exp(-rate * distance).clamp_min(1e-5)

"""Self-attentive knowledge tracing (arXiv:1907.06837)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from tutelage.data.batch import DataInfo
from tutelage.models.tracer import Interactions, Tracer, before, by_length, pooled
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("model", "sakt")
class SAKT(Tracer):
    """What is asked attends to the answers before it.

    Args:
        data: Facts about the log of answers.
        width: Of all vectors.
        heads: Attention heads; a divisor of ``width``.
        blocks: Attention blocks, one on the other.
        dropout: On attention and between layers.
    """

    def __init__(
        self,
        data: DataInfo,
        *,
        width: Annotated[int, Ge(1)] = 64,
        heads: Annotated[int, Ge(1)] = 4,
        blocks: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
    ) -> None:
        super().__init__(data)
        if width % heads:
            raise InputError(f"heads {heads}: {width} numbers cannot be divided among them; choose a divisor")
        self.interactions = Interactions(self.concepts, width)
        self.asked = nn.Embedding(self.concepts, width)
        self.places = nn.Embedding(self.info.window + 1, width)
        self.blocks = nn.ModuleList(Attending(width, heads, dropout) for _ in range(blocks))
        self.head = nn.Linear(width, 1)

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor
    ) -> Tensor:
        """Keys and values are the answers one step back, so that a step sees no answer of its own."""
        return by_length(self._trace, real.sum(1), concepts, answers)

    def _trace(self, concepts: Tensor, answers: Tensor) -> Tensor:
        steps = concepts.shape[1]
        place = torch.arange(steps, device=concepts.device).clamp_max(self.places.num_embeddings - 1)
        past = before(self.interactions(concepts, answers)) + self.places(place)
        x = pooled(self.asked, concepts)
        for block in self.blocks:
            x = block(x, past)
        logits: Tensor = self.head(x)[..., 0]
        return logits


class Attending(nn.Module):
    """Causal attention to what is past, and a network for each step, each with its shortcut and norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.query, self.both, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        """``[batch, steps, width]`` from queries and from keys of the same shape."""
        batch, steps, width = x.shape
        key, value = self.both(past).chunk(2, -1)
        query, key, value = (
            part.view(batch, steps, self.heads, -1).transpose(1, 2) for part in (self.query(x), key, value)
        )
        rate = self.rate if self.training else 0.0
        seen = scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=rate)
        x = self.first(x + self.dropout(self.out(seen.transpose(1, 2).reshape(batch, steps, width))))
        made: Tensor = self.second(x + self.dropout(self.inner(x)))
        return made

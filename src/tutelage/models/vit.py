"""A small vision transformer (arXiv:2010.11929), with layer normalisation before each part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional

from tutelage.data.batch import DataInfo
from tutelage.models.shapes import image_shape
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("model", "vit")
class ViT(nn.Module):
    """Small vision transformer; its hidden states ``[batch, tokens, dim]`` are the taps ``blocks.*``.

    From arXiv:2010.11929, with the tokens' mean for the classifier unless a class token is asked for. A patch of one
    row, ``[1, width]``, reads the image as a sequence of rows.

    Args:
        data: What it is built for.
        patch: Side of a square patch, or its height and width, in pixels; must divide the image.
        dim: Width of a token.
        depth: Number of blocks.
        heads: Attention heads of each block; must divide ``dim``.
        expansion: Width of each block's inner layer, in multiples of ``dim``.
        dropout: Share dropped in training after the position embedding, attention and each layer, in [0, 1).
        pool: What the classifier sees: the tokens' mean, or an additional class token.
    """

    standard_taps: ClassVar[Mapping[str, str]] = {"embedding": "head:input", "features": "norm", "classifier": "head"}

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        patch: Annotated[int, Ge(1)] | tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]] = 4,
        dim: Annotated[int, Ge(1)] = 64,
        depth: Annotated[int, Ge(1)] = 4,
        heads: Annotated[int, Ge(1)] = 4,
        expansion: Annotated[int, Ge(1)] = 2,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
        pool: Literal["mean", "token"] = "mean",
    ) -> None:
        super().__init__()
        channels, height, width = image_shape(data, "vit")
        rows, columns = (patch, patch) if isinstance(patch, int) else patch
        for size, side, axis in ((rows, height, "height"), (columns, width, "width")):
            if side % size:
                fitting = ", ".join(str(n) for n in range(1, side + 1) if side % n == 0)
                raise InputError(f"vit: a patch of {axis} {size} does not divide the image's {side}; use {fitting}")
        if dim % heads:
            fitting = ", ".join(str(n) for n in range(1, dim + 1) if dim % n == 0)
            raise InputError(f"vit: {heads} heads do not divide dim {dim}; use {fitting}")
        tokens = (height // rows) * (width // columns)
        self.patches = nn.Conv2d(channels, dim, (rows, columns), stride=(rows, columns))
        self.token = nn.Parameter(torch.zeros(1, 1, dim)) if pool == "token" else None
        self.position = nn.Parameter(torch.empty(1, tokens + (pool == "token"), dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(_Block(dim, heads, expansion * dim, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, data.classes)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to ``[batch, classes]`` logits."""
        tokens = self.patches(inputs).flatten(2).transpose(1, 2)
        if self.token is not None:
            tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1)
        hidden = self.norm(self.blocks(self.dropout(tokens + self.position)))
        logits: Tensor = self.head(hidden.mean(1) if self.token is None else hidden[:, 0])
        return logits


class _Block(nn.Module):
    """Self-attention, then two layers applied to each token, each added to what entered it."""

    def __init__(self, dim: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = _Attention(dim, heads, dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Attention(nn.Module):
    """Multi-head self-attention, ``[batch, tokens, dim]`` to the same.

    Taps: ``query``, ``key``, ``value`` and ``context``, ``[batch, heads, tokens, width]``; ``scores`` and
    ``probabilities``, ``[batch, heads, tokens, tokens]``, the latter before dropout. Only when somebody looks at scores
    or probabilities are they computed at all: the fused kernel has none.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.mix = nn.Linear(dim, 3 * dim)
        self.query, self.key, self.value = nn.Identity(), nn.Identity(), nn.Identity()
        self.scores, self.probabilities, self.drop = nn.Identity(), nn.Identity(), nn.Dropout(dropout)
        self.context = nn.Identity()
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = self.query(mixed[0]), self.key(mixed[1]), self.value(mixed[2])
        if any(part._forward_hooks or part._forward_pre_hooks for part in (self.scores, self.probabilities, self.drop)):
            scores = self.scores(query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]))
            context = self.drop(self.probabilities(scores.softmax(-1))) @ value
        else:
            rate = self.rate if self.training else 0.0
            context = functional.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        out: Tensor = self.out(self.context(context).transpose(1, 2).flatten(2))
        return out

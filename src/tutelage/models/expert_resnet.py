"""A ResNet for small images that ends in several experts, each looking back to another depth (arXiv:2304.01279)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le, MinLen
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from tutelage.data.batch import DataInfo
from tutelage.models.resnet import blocks_of, residual_stage, start_convolutions, stem
from tutelage.models.shapes import image_shape
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


class CosineHead(nn.Module):
    """A classifier by direction: scaled cosines between an embedding and a vector for each class.

    Args:
        width: Of the embedding.
        classes: Number of classes.
        scale: Largest logit.
    """

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(classes, width))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, embedding: Tensor) -> Tensor:
        """``[batch, width]`` to ``[batch, classes]`` logits in [-scale, scale]."""
        return self.scale * linear(normalize(embedding, dim=-1), normalize(self.weight, dim=-1))


@component("model", "expert-resnet")
class ExpertResNet(nn.Module):
    """Two residual stages shared by experts, each with a third stage, an adapter from an early depth, and two heads.

    An expert's feature map is its own third stage, times the adapted output of stage 1 or 2. It has a head that all is
    trained with (``heads.0``, ...) and one that may be trained afterwards for classes of equal weight
    (``balanced_heads.0``, ...); the model predicts with the mean over experts of the first, or of the second once it
    is `balance`-d. Its feature map and embedding (taps ``features``, ``embedding``) are those of all experts, joined.

    Args:
        data: What it is built for.
        depth: Weighted layers of one expert: 8, 14, 20, 32 or any other 6n + 2.
        width: Channels of the first stage; the second has twice, the third four times as many.
        experts: How many.
        taps: Of each expert, the stage (1 or 2) that it looks back to; null alternates, from 1 on.
        fusion: How an expert joins the two maps: ``product``, ``sum``, or ``none`` for no adapters.
        scale: Largest logit.
    """

    standard_taps: ClassVar[Mapping[str, str]] = {"embedding": "joined", "features": "fused"}

    balanced: Tensor

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        depth: Annotated[int, Ge(8)] = 32,
        width: Annotated[int, Ge(1)] = 16,
        experts: Annotated[int, Ge(1)] = 3,
        taps: Annotated[tuple[Annotated[int, Ge(1), Le(2)], ...], MinLen(1)] | None = None,
        fusion: Literal["product", "sum", "none"] = "product",
        scale: Annotated[float, Gt(0)] = 30.0,
    ) -> None:
        super().__init__()
        count = blocks_of(depth, "expert-resnet")
        self.taps = tuple(1 + i % 2 for i in range(experts)) if taps is None else tuple(taps)
        if len(self.taps) != experts:
            raise InputError(f"expert-resnet: {len(self.taps)} taps for {experts} experts; expected one each")
        self.fusion = fusion
        self.stem = stem(image_shape(data, "expert-resnet")[0], width)
        self.blocks = nn.Sequential(residual_stage(width, width, count, 1), residual_stage(width, 2 * width, count, 2))
        self.experts = nn.ModuleList(residual_stage(2 * width, 4 * width, count, 2) for _ in range(experts))
        depths = self.taps if fusion != "none" else ()
        self.adapters = nn.ModuleList(_adapter(width * tap, 4 * width) for tap in depths)
        self.fused, self.joined = nn.Identity(), nn.Identity()
        self.heads, self.balanced_heads = (
            nn.ModuleList(CosineHead(4 * width, data.classes, scale) for _ in range(experts)) for _ in range(2)
        )
        self.register_buffer("balanced", torch.tensor(False))
        start_convolutions(self)

    def balance(self) -> None:
        """Predict with the balanced heads from now on."""
        self.balanced.fill_(True)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to ``[batch, classes]`` logits, the mean over experts."""
        early = self.blocks[0](self.stem(inputs))
        stages = (early, self.blocks[1](early))
        maps = [expert(stages[1]) for expert in self.experts]
        for place, adapter in enumerate(self.adapters):
            adapted = adapter(stages[self.taps[place] - 1])
            maps[place] = maps[place] * adapted if self.fusion == "product" else maps[place] + adapted
        embedding = self.joined(self.fused(torch.cat(maps, 1)).mean((2, 3)))
        each = embedding.chunk(len(self.experts), 1)
        plain, balanced = (
            torch.stack([head(one) for head, one in zip(heads, each, strict=True)]).mean(0)
            for heads in (self.heads, self.balanced_heads)
        )
        return torch.where(self.balanced, balanced, plain)


def _adapter(before: int, after: int) -> nn.Sequential:
    """Convolutions that halve a map and double its channels, as often as it takes; only between them is a ReLU."""
    layers: list[nn.Module] = []
    while before < after:
        if layers:
            layers.append(nn.ReLU())
        layers += [nn.Conv2d(before, 2 * before, 3, 2, padding=1, bias=False), nn.BatchNorm2d(2 * before)]
        before *= 2
    return nn.Sequential(*layers)

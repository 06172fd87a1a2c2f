"""LoRA: low-rank adaptation (arXiv:2106.09685, ICLR 2022)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tutelage.models.adapters.base import Adapter
from tutelage.recipe.registry import component


class LowRank(nn.Module):
    """``W + scale * B A`` (equation 3), with ``B`` zero at first.

    Args:
        weight: ``[out, in, ...]``; kernels of convolutions count with their input.
        rank: Rank of the change.
        scale: Its factor.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        out, inside = weight.shape[0], weight[0].numel()
        rank = min(rank, out, inside)
        self.down = nn.Parameter(torch.empty(rank, inside, dtype=weight.dtype, device=weight.device))
        self.up = nn.Parameter(torch.zeros(out, rank, dtype=weight.dtype, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + self.scale * (self.up @ self.down).view_as(weight)


@component("adapter", "lora")
class LoRA(Adapter):
    """Train a change of low rank beside frozen weights; merged into them when the model is saved.

    Args:
        rank: Rank of the change; at most that of the weight.
        alpha: The change counts ``alpha / rank`` times.
        layers: Patterns of the layers that are adapted.
    """

    def __init__(
        self,
        *,
        rank: Annotated[int, Ge(1)] = 4,
        alpha: Annotated[float, Gt(0)] = 8.0,
        layers: tuple[str, ...] = ("**",),
    ) -> None:
        super().__init__(layers)
        self.rank, self.alpha = rank, alpha

    def parametrization(self, layer: nn.Module) -> LowRank:
        """Of one layer's weight."""
        assert isinstance(layer.weight, Tensor)
        return LowRank(layer.weight, self.rank, self.alpha / self.rank)

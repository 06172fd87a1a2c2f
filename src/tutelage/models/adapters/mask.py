"""A mask over frozen weights (Piggyback, arXiv:1801.06519, ECCV 2018)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor, nn

from tutelage.models.adapters.base import Adapter
from tutelage.recipe.registry import component


class _Binary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, threshold: float) -> Tensor:
        return (scores > threshold).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # Straight through: the mask's gradient is the scores'.
        return gradients[0], None


class Masked(nn.Module):
    """``W * [scores > threshold]``; all ones at first.

    Args:
        weight: Any shape.
        threshold: What a score must exceed for its weight to count.
    """

    def __init__(self, weight: Tensor, threshold: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.full_like(weight, 2.0 * threshold))
        self.threshold = threshold

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        mask: Tensor = _Binary.apply(self.scores, self.threshold)  # type: ignore[no-untyped-call]
        return weight * mask


@component("adapter", "mask")
class Mask(Adapter):
    """Train which of the frozen weights count.

    Args:
        threshold: Scores start at twice this, and a weight counts while its score is above it.
        layers: Patterns of the layers that are masked.
    """

    def __init__(self, *, threshold: Annotated[float, Gt(0)] = 0.005, layers: tuple[str, ...] = ("**",)) -> None:
        super().__init__(layers)
        self.threshold = threshold

    def parametrization(self, layer: nn.Module) -> Masked:
        """Of one layer's weight."""
        assert isinstance(layer.weight, Tensor)
        return Masked(layer.weight, self.threshold)

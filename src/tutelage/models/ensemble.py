"""Several models as one: the mean of what they say."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.recipe.registry import component
from tutelage.recipe.types import Of


@component("model", "ensemble")
class Ensemble(nn.Module):
    """Several models, each with weights of its own, that answer as one.

    Args:
        data: What it is built for.
        members: The models; each may have its own ``weights``.
        average: What is averaged: ``probabilities`` of the classes, or ``logits``.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        members: Annotated[list[Annotated[Any, Of("model")]], MinLen(1)],
        average: Literal["probabilities", "logits"] = "probabilities",
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(one if isinstance(one, nn.Module) else one.build(data) for one in members)
        self.average = average

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, *input_shape]`` to ``[batch, classes]``: mean logits, or the logarithm of the mean probability."""
        logits = torch.stack([member(inputs) for member in self.members])
        if self.average == "logits":
            return logits.mean(0)
        return logits.float().log_softmax(-1).logsumexp(0) - math.log(len(self.members))

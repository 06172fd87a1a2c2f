"""Multilayer perceptron: any input, flattened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Lt
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.recipe.registry import component

_ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "silu": nn.SiLU}


@component("model", "mlp")
class MLP(nn.Module):
    """Multilayer perceptron over flattened inputs: tables, or small images.

    Its feature map (tap ``features``) is the last hidden layer, ``[batch, width]``, which has no space.

    Args:
        data: What it is built for.
        hidden: Widths of the hidden layers, from the input on; empty for a linear classifier.
        activation: What follows each hidden layer.
        dropout: Share of hidden units dropped in training, in [0, 1).
    """

    standard_taps: ClassVar[Mapping[str, str]] = {"embedding": "head:input", "features": "blocks", "classifier": "head"}

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        hidden: tuple[Annotated[int, Ge(1)], ...] = (128, 128),
        activation: Literal["relu", "gelu", "tanh", "silu"] = "relu",
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__()
        widths = [math.prod(data.input_shape), *hidden]
        self.flatten = nn.Flatten()
        self.blocks = nn.Sequential()
        for before, after in pairwise(widths):
            layers = [nn.Linear(before, after), _ACTIVATIONS[activation](), *([nn.Dropout(dropout)] if dropout else [])]
            self.blocks.append(nn.Sequential(*layers))
        self.head = nn.Linear(widths[-1], data.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, *input_shape]`` to ``[batch, classes]`` logits."""
        logits: Tensor = self.head(self.blocks(self.flatten(inputs)))
        return logits

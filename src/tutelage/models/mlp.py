"""A multi-layer perceptron."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Lt
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.recipe.registry import component

_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


@component("model", "mlp")
class MLP(nn.Module):
    """Linear layers with an activation between them, on flattened inputs of any shape.

    Args:
        data: Facts about the data.
        hidden: Widths of the hidden layers.
        activation: What follows each hidden layer.
        dropout: Share of each hidden layer that is dropped in training.
    """

    standard_taps: ClassVar[dict[str, str]] = {"embedding": "head:input", "features": "blocks", "classifier": "head"}

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        hidden: list[Annotated[int, Ge(1)]] = [128, 64],  # noqa: B006 - read, never changed
        activation: Literal["relu", "gelu", "tanh"] = "relu",
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__()
        widths = [math.prod(data.input_shape), *hidden]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(a, b), _ACTIVATIONS[activation](), nn.Dropout(dropout))
                for a, b in zip(widths, widths[1:], strict=False)
            )
        )
        self.head = nn.Linear(widths[-1], data.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, *input_shape]`` to ``[batch, classes]`` logits."""
        logits: Tensor = self.head(self.blocks(inputs.flatten(1)))
        return logits

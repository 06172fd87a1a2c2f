"""A plain convolutional classifier."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("model", "convnet")
class ConvNet(nn.Module):
    """Blocks of convolution, batch normalisation and ReLU, each half the size and twice the width of the last.

    Args:
        data: Facts about the data.
        width: Channels of the first block.
        blocks: Number of blocks; each halves height and width while both are even and above 2.
        dropout: Share of the embedding that is dropped in training.
    """

    standard_taps: ClassVar[dict[str, str]] = {"embedding": "head:input", "features": "blocks", "classifier": "head"}

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        width: Annotated[int, Ge(1)] = 32,
        blocks: Annotated[int, Ge(1)] = 3,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__()
        if len(data.input_shape) != 3:
            raise InputError(
                f"model convnet needs images (channels, height, width), but the data's samples have the shape "
                f"{data.input_shape}; use the model 'mlp'"
            )
        channels, height, wide = data.input_shape
        layers = []
        for index in range(blocks):
            out = width * 2**index
            halve = index > 0 and min(height, wide) > 2 and height % 2 == 0 and wide % 2 == 0
            stride = 2 if halve else 1
            layers.append(
                nn.Sequential(
                    nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False),
                    nn.BatchNorm2d(out),
                    nn.ReLU(),
                )
            )
            channels, height, wide = out, height // stride, wide // stride
        self.blocks = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, data.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to ``[batch, classes]`` logits."""
        pooled = torch.amax(self.blocks(inputs), dim=(2, 3))
        logits: Tensor = self.head(self.dropout(pooled))
        return logits

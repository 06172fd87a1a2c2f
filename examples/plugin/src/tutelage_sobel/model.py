"""A student that sees edges first."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage_sobel.filters import edges


class SobelNet(nn.Module):
    """Image and edges, two convolutions, one linear layer.

    Args:
        channels: Channels of the images.
        classes: Number of classes.
        width: Channels of the first convolution; the second has twice as many.
    """

    standard_taps = {"features": "body", "embedding": "pool", "classifier": "classifier"}  # noqa: RUF012 - read only

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2 * channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to logits ``[batch, classes]``."""
        return self.classifier(self.pool(self.body(torch.cat([inputs, edges(inputs)], dim=1))))


@component("model", "sobel-net")
def sobel_net(data: DataInfo, /, *, width: Annotated[int, Ge(1)] = 8) -> nn.Module:
    """A small network whose first layer is a fixed edge filter.

    Args:
        data: What the images and classes are.
        width: Channels of the first convolution.

    Raises:
        InputError: The data are not images.
    """
    if len(data.input_shape) != 3:
        raise InputError(f"model 'sobel-net' needs images, but a sample has the shape {data.input_shape}")
    return SobelNet(data.input_shape[0], data.classes, width)

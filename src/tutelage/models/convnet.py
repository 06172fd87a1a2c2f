"""A plain convolutional classifier for small images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.models.shapes import image_shape
from tutelage.recipe.registry import component


@component("model", "convnet")
class ConvNet(nn.Module):
    """Plain stages of 3x3 convolutions; each stage after the first halves the image and doubles the channels.

    Parameters grow with the square of the width, so width 8 has about a sixtieth of those of width 64.

    Args:
        data: What it is built for.
        width: Channels of the first stage.
        depth: Stages (taps ``blocks.0``, ``blocks.1``, ...).
        convolutions: Convolutions of each stage.
        batch_norm: Whether each convolution is followed by batch normalisation.
    """

    standard_taps: ClassVar[Mapping[str, str]] = {"embedding": "head:input", "features": "blocks", "classifier": "head"}

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        width: Annotated[int, Ge(1)] = 32,
        depth: Annotated[int, Ge(1)] = 3,
        convolutions: Annotated[int, Ge(1)] = 2,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        channels = image_shape(data, "convnet")[0]
        self.blocks = nn.Sequential()
        for stage in range(depth):
            layers: list[nn.Module] = []
            for i in range(convolutions):
                after = width * 2**stage
                # Not in place: a tap of what comes before must keep its values.
                layers += [_convolution(channels, after, 2 if stage and not i else 1, batch_norm)]
                layers += [nn.BatchNorm2d(after), nn.ReLU()] if batch_norm else [nn.ReLU()]
                channels = after
            self.blocks.append(nn.Sequential(*layers))
        self.head = nn.Linear(channels, data.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to ``[batch, classes]`` logits."""
        logits: Tensor = self.head(self.blocks(inputs).mean((2, 3)))
        return logits


def _convolution(before: int, after: int, stride: int, batch_norm: bool) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, 3, stride, padding=1, bias=not batch_norm)
    # He et al. 2015 (arXiv:1502.01852, eq. 14), without which a deep stack that lacks normalisation does not start.
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

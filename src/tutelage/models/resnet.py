"""ResNet for small images, as its paper has it for CIFAR-10 (arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from tutelage.data.batch import DataInfo
from tutelage.models.shapes import image_shape
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("model", "resnet")
class ResNet(nn.Module):
    """Residual network with three stages, ``blocks.0`` to ``blocks.2``, whose shortcuts have no parameters.

    From arXiv:1512.03385, section 4.2: depth ``6n + 2`` means n blocks of two convolutions in each stage.

    Args:
        data: What it is built for.
        depth: Weighted layers: 8, 14, 20, 32, 44, 56, 110 or any other 6n + 2.
        width: Channels of the first stage; the second has twice, the third four times as many.
        blocks: Blocks of each of the three stages, instead of as many in each as ``depth`` says.
    """

    standard_taps: ClassVar[Mapping[str, str]] = {"embedding": "head:input", "features": "blocks", "classifier": "head"}

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        depth: Annotated[int, Ge(8)] = 20,
        width: Annotated[int, Ge(1)] = 16,
        blocks: tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)], Annotated[int, Ge(1)]] | None = None,
    ) -> None:
        super().__init__()
        count = blocks_of(depth, "resnet")
        self.stem = stem(image_shape(data, "resnet")[0], width)
        self.blocks = nn.Sequential()
        before = width
        for stage, many in enumerate(blocks or (count,) * 3):
            after = width * 2**stage
            self.blocks.append(residual_stage(before, after, many, 2 if stage else 1))
            before = after
        self.head = nn.Linear(before, data.classes)
        start_convolutions(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to ``[batch, classes]`` logits."""
        logits: Tensor = self.head(self.blocks(self.stem(inputs)).mean((2, 3)))
        return logits


def blocks_of(depth: int, model: str) -> int:
    """The n of a depth 6n + 2: blocks of each stage.

    Raises:
        InputError: There is none.
    """
    count, rest = divmod(depth - 2, 6)
    if rest or count < 1:
        low = max(8, 6 * count + 2)
        raise InputError(f"{model}: depth must be 6n + 2, not {depth}; the nearest are {low} and {low + 6}")
    return count


def stem(channels: int, width: int) -> nn.Sequential:
    """The first convolution, with its normalisation."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def residual_stage(before: int, after: int, count: int, stride: int) -> nn.Sequential:
    """Residual blocks in a row, of which the first changes the shape."""
    return nn.Sequential(*(_Block(before if i == 0 else after, after, stride if i == 0 else 1) for i in range(count)))


def start_convolutions(module: nn.Module) -> None:
    """Initialise a model's convolutions as for ReLU, by what leaves them (arXiv:1502.01852)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


class _Block(nn.Module):
    """Two convolutions and the identity; where the shape changes it is subsampled and padded with zeros (option A)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.residual = True
        self.stride, self.padding = stride, after - before
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        if not self.residual:
            return torch.relu(inner)
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.padding:
            low = self.padding // 2
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, low, self.padding - low))
        return torch.relu(inner + shortcut)

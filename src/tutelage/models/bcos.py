"""B-cos networks: what they compute is a linear map of the input, which can be read off (arXiv:2205.10268)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from tutelage.data.batch import DataInfo
from tutelage.models.shapes import image_shape
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@contextmanager
def explaining(module: nn.Module) -> Iterator[None]:
    """Gradients taken inside this block hold a B-cos network's factors fixed: they are its effective linear weights.

    Any module that has ``set_explanation_mode`` takes part. Values do not change, and gradients of such a gradient go
    through the factors again.

    Raises:
        InputError: The network has no such module.
    """
    parts = [part for part in module.modules() if hasattr(part, "set_explanation_mode")]
    if not parts:
        raise InputError(f"{type(module).__name__} is no B-cos network: none of its modules has set_explanation_mode")
    switches: list[Any] = list(parts)
    for part in switches:
        part.set_explanation_mode(True)
    try:
        yield
    finally:
        for part in switches:
            part.set_explanation_mode(False)


class _Scaled(torch.autograd.Function):
    """``factor * values``, whose gradient may leave the factor out; which of the two is decided when it is taken."""

    @staticmethod
    def forward(ctx: Any, factor: Tensor, values: Tensor, state: dict[str, bool]) -> Tensor:
        ctx.state = state
        ctx.save_for_backward(factor, values)
        return factor * values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        factor, values = ctx.saved_tensors
        (gradient,) = gradients
        return None if ctx.state["fixed"] else gradient * values, gradient * factor, None


class BcosConv(nn.Module):
    """Convolution with weights of length 1, each answer multiplied by |cos|^(b − 1) of patch and weight (equation 3).

    Args:
        before: Channels in.
        after: Channels out.
        size: Side of the kernel.
        stride: Step of the kernel.
        b: Exponent; 1 is a plain convolution.
    """

    def __init__(self, before: int, after: int, size: int, stride: int, b: float) -> None:
        super().__init__()
        self.stride, self.padding, self.b = stride, size // 2, b
        self.weight = nn.Parameter(torch.randn(after, before, size, size) / math.sqrt(before * size * size))
        self._state = {"fixed": False}

    def set_explanation_mode(self, on: bool) -> None:
        """Whether gradients that are taken from now on hold the factors fixed."""
        self._state["fixed"] = on

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to the same form."""
        unit = self.weight / torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
        answers = functional.conv2d(inputs, unit, stride=self.stride, padding=self.padding)
        if self.b == 1:
            return answers
        ones = torch.ones_like(self.weight[:1, :1])
        energy = inputs.square().sum(1, keepdim=True)
        # The constants keep roots and powers differentiable where a patch is dark or at a right angle.
        length = (functional.conv2d(energy, ones, stride=self.stride, padding=self.padding) + 1e-6).sqrt()
        factor = ((answers / length).abs() + 1e-6).pow(self.b - 1)
        scaled: Tensor = _Scaled.apply(factor, answers, self._state)  # type: ignore[no-untyped-call]
        return scaled


class _Encode(nn.Module):
    """Pixels and their complements, so that dark is as much a colour as bright."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([inputs, 1 - inputs], 1)


@component("model", "bcos")
class BcosNet(nn.Module):
    """Plain convolutional B-cos network that sees pixels in [0, 1] beside their complements (tap ``encode``).

    Args:
        data: What it is built for.
        width: Channels of the first stage.
        depth: Stages; each after the first halves the image and doubles the channels.
        b: Exponent of the factors: how much a unit has to be aligned to what it sees.
        scale: Factor on the logits, which unit weights keep small.
    """

    standard_taps: ClassVar[Mapping[str, str]] = {"features": "blocks"}

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        width: Annotated[int, Ge(1)] = 32,
        depth: Annotated[int, Ge(1)] = 3,
        b: Annotated[float, Ge(1)] = 2.0,
        scale: Annotated[float, Gt(0)] = 20.0,
    ) -> None:
        super().__init__()
        channels = 2 * image_shape(data, "bcos")[0]
        self.encode = _Encode()
        self.blocks = nn.Sequential()
        for stage in range(depth):
            after = width * 2**stage
            first = BcosConv(channels, after, 3, 2 if stage else 1, b)
            self.blocks.append(nn.Sequential(first, BcosConv(after, after, 3, 1, b)))
            channels = after
        self.head = BcosConv(channels, data.classes, 1, 1, b)
        self.scale = scale
        # The prior that binary targets of one over the number of classes start from.
        self.prior = -math.log(max(data.classes - 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to ``[batch, classes]`` logits."""
        answers: Tensor = self.head(self.blocks(self.encode(inputs))).mean((2, 3))
        return self.scale * answers + self.prior

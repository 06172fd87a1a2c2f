"""Augmentations: each acts on a whole batch, and decides for every sample from that sample's seed."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional

from tutelage.data.batch import Batch
from tutelage.data.seeds import integers, normal, uniform
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


def images_of(batch: Batch, name: str) -> tuple[int, int, int, int]:
    """``(batch, channels, height, width)`` of inputs that must be images."""
    if batch.inputs.ndim != 4:
        raise InputError(
            f"augmentation '{name}' needs images [batch, channels, height, width], but inputs are "
            f"[{', '.join(map(str, batch.inputs.shape))}]: remove it from data.augment, or use 'noise', which "
            "takes any inputs"
        )
    count, channels, height, width = batch.inputs.shape
    return count, channels, height, width


def _window(images: Tensor, top: Tensor, left: Tensor, reach: int, fill: str) -> Tensor:
    """Each image through a window of its own size.

    Args:
        images: ``[batch, channels, height, width]``.
        top: ``[batch]`` int64 rows from the image's corner to the window's, in ``-reach .. reach``.
        left: ``[batch]`` int64 columns, likewise.
        reach: Largest movement.
        fill: What lies around the image.
    """
    mode = {"zero": "constant", "edge": "replicate", "reflect": "reflect"}[fill]
    padded = functional.pad(images, (reach,) * 4, mode=mode)
    # Every window as a view of the padded images; the one gather below copies a window for each.
    windows = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
    return windows[torch.arange(len(images), device=images.device), :, top + reach, left + reach]


@component("augment", "shift")
class Shift:
    """Move each image by up to some pixels in each direction.

    Args:
        pixels: Largest movement, in pixels, along each axis.
        fill: What moves in: ``zero``, or ``edge`` to repeat the border.
    """

    def __init__(self, *, pixels: Annotated[int, Ge(0)] = 1, fill: Literal["zero", "edge"] = "zero") -> None:
        self.pixels = pixels
        self.fill = fill

    def __call__(self, batch: Batch) -> Batch:
        """Move ``[batch, channels, height, width]`` inputs.

        Raises:
            InputError: The inputs are not images, or smaller than the movement.
        """
        _, _, height, width = images_of(batch, "shift")
        if self.pixels >= min(height, width):
            raise InputError(
                f"shift by {self.pixels} pixels empties images of {height}x{width}: choose at most "
                f"{min(height, width) - 1}"
            )
        if self.pixels == 0:
            return batch
        top, left = integers(batch.seeds, -self.pixels, self.pixels + 1, 0, (2,)).unbind(1)
        return batch.with_(inputs=_window(batch.inputs, top, left, self.pixels, self.fill))


@component("augment", "flip")
class Flip:
    """Mirror some images left to right.

    Args:
        p: Probability that an image is mirrored.
    """

    def __init__(self, *, p: Annotated[float, Ge(0), Le(1)] = 0.5) -> None:
        self.p = p

    def __call__(self, batch: Batch) -> Batch:
        """Mirror ``[batch, channels, height, width]`` inputs.

        Raises:
            InputError: The inputs are not images.
        """
        images_of(batch, "flip")
        chosen = (uniform(batch.seeds, 0) < self.p)[:, None, None, None]
        return batch.with_(inputs=torch.where(chosen, batch.inputs.flip(3), batch.inputs))


@component("augment", "crop")
class Crop:
    """Pad each image and cut out a window of its first size, as is usual for CIFAR (He et al., arXiv:1512.03385, 4.2).

    It differs from ``shift`` in the default amount and in that ``reflect`` can fill the border.

    Args:
        padding: Pixels added on every side.
        fill: What the border holds: ``zero``, ``edge`` to repeat the border, or ``reflect`` to mirror the image.
    """

    def __init__(
        self, *, padding: Annotated[int, Ge(0)] = 4, fill: Literal["zero", "edge", "reflect"] = "zero"
    ) -> None:
        self.padding = padding
        self.fill = fill

    def __call__(self, batch: Batch) -> Batch:
        """Cut windows out of ``[batch, channels, height, width]`` inputs.

        Raises:
            InputError: The inputs are not images, or not larger than the padding.
        """
        _, _, height, width = images_of(batch, "crop")
        if self.padding >= min(height, width):
            raise InputError(
                f"crop with padding {self.padding} can empty images of {height}x{width}: "
                f"choose at most {min(height, width) - 1}"
            )
        if self.padding == 0:
            return batch
        top, left = integers(batch.seeds, -self.padding, self.padding + 1, 0, (2,)).unbind(1)
        return batch.with_(inputs=_window(batch.inputs, top, left, self.padding, self.fill))


@component("augment", "noise")
class Noise:
    """Add Gaussian noise, to inputs of any shape.

    Args:
        std: Standard deviation, in the inputs' own unit.
    """

    def __init__(self, *, std: Annotated[float, Ge(0)] = 0.1) -> None:
        self.std = std

    def __call__(self, batch: Batch) -> Batch:
        """Add to ``[batch, *input_shape]`` inputs."""
        added = normal(batch.seeds, 0, tuple(batch.inputs.shape[1:]))
        return batch.with_(inputs=batch.inputs + self.std * added.to(batch.inputs.dtype))


@component("augment", "cutout")
class Cutout:
    """Blank a square of each image, wherever its centre falls (DeVries and Taylor, arXiv:1708.04552, 3.2).

    Args:
        size: Side of the square, in pixels; near a border less of it is inside.
        p: Probability that an image is cut.
        value: What is put there: 0 is black for pixels in [0, 1], and the mean colour once inputs are standardised.
    """

    def __init__(
        self, *, size: Annotated[int, Gt(0)] = 8, p: Annotated[float, Ge(0), Le(1)] = 1.0, value: float = 0.0
    ) -> None:
        self.size = size
        self.p = p
        self.value = value

    def __call__(self, batch: Batch) -> Batch:
        """Blank squares of ``[batch, channels, height, width]`` inputs.

        Raises:
            InputError: The inputs are not images.
        """
        _, _, height, width = images_of(batch, "cutout")
        rows = self._within(integers(batch.seeds, 0, height, 0), height)
        columns = self._within(integers(batch.seeds, 0, width, 1), width)
        chosen = (uniform(batch.seeds, 2) < self.p)[:, None, None]
        hidden = (rows[:, :, None] & columns[:, None, :] & chosen)[:, None]
        return batch.with_(inputs=batch.inputs.masked_fill(hidden, self.value))

    def _within(self, centre: Tensor, length: int) -> Tensor:
        """``[batch, length]`` bool: which places the square covers along one axis."""
        away = torch.arange(length, device=centre.device) - (centre - self.size // 2)[:, None]
        return (away >= 0) & (away < self.size)

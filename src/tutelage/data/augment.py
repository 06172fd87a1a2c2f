"""Augmentations: each acts on a whole batch, and decides for every sample from that sample's seed."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.seeds import integers
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


def _images(batch: Batch, name: str) -> tuple[int, int, int, int]:
    """``(batch, channels, height, width)`` of inputs that must be images."""
    if batch.inputs.ndim != 4:
        raise InputError(
            f"augmentation '{name}' needs images [batch, channels, height, width], but inputs are "
            f"[{', '.join(map(str, batch.inputs.shape))}]: remove it from data.augment, or use 'noise', which takes any inputs"
        )
    count, channels, height, width = batch.inputs.shape
    return count, channels, height, width


def _window(images: Tensor, top: Tensor, left: Tensor, fill: str) -> Tensor:
    """Each image seen through a window of its own size whose corner lies at (top, left) of it; ``[batch]`` int64 each."""
    count, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device) + top[:, None]
    columns = torch.arange(width, device=images.device) + left[:, None]
    inside_rows, inside_columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    flat = (inside_rows[:, :, None] * width + inside_columns[:, None, :]).view(count, 1, -1)
    moved = images.reshape(count, channels, -1).gather(2, flat.expand(-1, channels, -1)).view(images.shape)
    if fill == "edge":
        return moved
    visible = (rows == inside_rows)[:, :, None] & (columns == inside_columns)[:, None, :]
    return moved * visible[:, None].to(moved.dtype)


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
        _, _, height, width = _images(batch, "shift")
        if self.pixels >= min(height, width):
            raise InputError(f"shift by {self.pixels} pixels empties images of {height}x{width}: choose at most {min(height, width) - 1}")
        if self.pixels == 0:
            return batch
        top, left = integers(batch.seeds, -self.pixels, self.pixels + 1, 0, (2,)).unbind(1)
        return batch.with_(inputs=_window(batch.inputs, top, left, self.fill))

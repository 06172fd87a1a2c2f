"""Turning, scaling and moving images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def warped(
    images: Tensor, degrees: Tensor, *, scale: Tensor | None = None, move: Tensor | None = None, size: int | None = None
) -> Tensor:
    """Each image turned counter-clockwise about its centre, enlarged and moved; what comes in from outside is 0.

    Args:
        images: ``[count, channels, height, width]``.
        degrees: ``[count]`` angles.
        scale: ``[count]`` factors; 1 unless given.
        move: ``[count, 2]`` movements to the right and down, in halves of the image's side; 0 unless given.
        size: Pixels of the square that is sampled, if not as many as the images have.

    Returns:
        ``[count, channels, size, size]``, interpolated between the four nearest pixels.
    """
    count, channels, height, width = images.shape
    angle = torch.deg2rad(degrees.to(images))
    factor = torch.ones_like(angle) if scale is None else scale.to(images)
    shift = images.new_zeros(count, 2) if move is None else move.to(images)
    cos, sin = angle.cos() / factor, angle.sin() / factor
    # Where each place of the result is taken from: the inverse movement, in units of half the image.
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    aspect = images.new_tensor([[1.0, height / width], [width / height, 1.0]])
    matrix = torch.cat([turn * aspect, -(turn * aspect) @ shift[..., None]], -1)
    shape = (count, channels, size or height, size or width)
    grid = functional.affine_grid(matrix, list(shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)

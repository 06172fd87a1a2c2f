"""The Sobel filter, which both components share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def edges(images: Tensor) -> Tensor:
    """Magnitude of the brightness gradient, channel by channel.

    Args:
        images: ``[batch, channels, height, width]``.

    Returns:
        The same shape, zero or more; 1 is the edge between a dark and a bright half of an image with values in [0, 1].
    """
    channels = images.shape[1]
    across = (
        torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=images.dtype, device=images.device)
        / 4
    )
    kernels = torch.stack([across, across.T]).repeat(channels, 1, 1).unsqueeze(1)
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    slopes = functional.conv2d(padded, kernels, groups=channels).unflatten(1, (channels, 2))
    return slopes.square().sum(2).sqrt()

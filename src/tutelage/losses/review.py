"""Hierarchical context of feature maps, as ReviewKD compares them (arXiv:2104.09044)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from tutelage.losses._numeric import raised, same_shape


def hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two maps and of what they are on grids of 4, 2 and 1, each counting half of the last.

    Args:
        student: ``[batch, channels, height, width]``.
        teacher: ``[batch, channels, height, width]``; not detached.

    Returns:
        ``[batch]``, at least 0: the weighted mean of the levels; grids no smaller than the map are left out.

    Raises:
        ValueError: The shapes differ, or they are no maps.

    Source: arXiv:2104.09044, section 3.4.
    """
    same_shape(student, teacher, "maps")
    if student.ndim != 4:
        raise ValueError(f"expected maps [batch, channels, height, width], got {list(student.shape)}")
    ours, theirs = raised(student), raised(teacher)
    weight, weights = 1.0, 1.0
    total = (ours - theirs).square().mean((1, 2, 3))
    for side in (4, 2, 1):
        if side < ours.shape[2]:
            weight /= 2
            weights += weight
            apart = adaptive_avg_pool2d(ours, side) - adaptive_avg_pool2d(theirs, side)
            total = total + weight * apart.square().mean((1, 2, 3))
    found: Tensor = torch.div(total, weights)
    return found

"""Intervals of whole numbers: how well one fits another, and which one a curve of probabilities speaks for."""

from __future__ import annotations

import torch
from torch import Tensor


def _common(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """How many points both have (0 or less where they are apart), and how many the smallest that holds both has."""
    (start, end), (begin, stop) = one.unbind(-1), other.unbind(-1)
    common = torch.minimum(end, stop) - torch.maximum(start, begin) + 1
    hull = torch.maximum(end, stop) - torch.minimum(start, begin) + 1
    return common.double(), hull.double()


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over hull, ``[...]`` for intervals ``[..., 2]`` of inclusive ends; 0 where they are apart."""
    common, hull = _common(one, other)
    return common.clamp(min=0) / hull


def affinity_iou(one: Tensor, other: Tensor) -> Tensor:
    """aeIOU: as if intervals that are apart had one point in common (Jain et al., EMNLP 2020, section 4)."""
    common, hull = _common(one, other)
    return common.clamp(min=1) / hull


def gap_iou(one: Tensor, other: Tensor) -> Tensor:
    """gaeIOU: intervals that are apart count for less the wider the gap (arXiv:2309.16357, section 5.2)."""
    common, hull = _common(one, other)
    return torch.where(common >= 1, common, 1.0 / ((common - 1).abs() + 1.0)) / hull


def generalized_iou(one: Tensor, other: Tensor) -> Tensor:
    """GIOU on [0, 1]: ``½ (1 + IoU − gap / hull)``."""
    common, hull = _common(one, other)
    return 0.5 * (1.0 + common.clamp(min=0) / hull - (-common).clamp(min=0) / hull)


def closeness(one: Tensor, other: Tensor) -> Tensor:
    """TAC: ``½ (1 / (1 + |Δ start|) + 1 / (1 + |Δ end|))``."""
    apart = (one - other).abs().double()
    return (1.0 / (1.0 + apart)).mean(-1)


def coalesce(probability: Tensor, threshold: float | Tensor, count: int = 10) -> Tensor:
    """Greedy coalescing: from each of the best points, grow towards the likelier side until enough is inside.

    Args:
        probability: ``[batch, times]``, each row a distribution.
        threshold: Mass from which on an interval is large enough: one number, or ``[batch]``.
        count: How many points to grow from.

    Returns:
        ``[batch, count, 2]`` int64 inclusive ends, those of the likeliest point first; the same interval may come more
        than once. With fewer times than ``count``, as many as there are times.
    """
    batch, times = probability.shape
    count = min(count, times)
    limit = torch.as_tensor(threshold, dtype=probability.dtype, device=probability.device).expand(batch)
    limit = limit.repeat_interleave(count)
    left = probability.topk(count, dim=1).indices.reshape(-1)
    right = left.clone()
    # A border on each side that is never the likelier one.
    padded = torch.nn.functional.pad(probability, (1, 1), value=-1.0).repeat_interleave(count, 0)
    mass = padded.gather(1, left[:, None] + 1)[:, 0]
    for _ in range(times):
        before, after = padded.gather(1, left[:, None])[:, 0], padded.gather(1, right[:, None] + 2)[:, 0]
        # Sums of a whole row may stay below 1 by a rounding error.
        growing = (mass < limit) & ((before >= 0) | (after >= 0))
        if not bool(growing.any()):
            break
        to_right = growing & (after >= before)
        to_left = growing & ~to_right
        mass = mass + torch.where(to_right, after, 0.0) + torch.where(to_left, before, 0.0)
        right, left = right + to_right.long(), left - to_left.long()
    return torch.stack([left, right], 1).view(batch, count, 2)

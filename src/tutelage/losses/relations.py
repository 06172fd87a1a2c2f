"""What samples of a batch are to each other: distances, angles, similarities.

Every function compares two matrices of relations, so it returns a **scalar** and sees only the samples it is given: on
several devices, features must be gathered first for relations across them. Features are ``[batch, ...]`` and
flattened to vectors; student and teacher may differ in width. The teacher's branch has no gradient. float32 or better
inside, also under autocast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from tutelage.losses._numeric import flat, product, unit


def _teacher(student: Tensor, teacher: Tensor) -> Tensor:
    if student.shape[0] != teacher.shape[0]:
        raise ValueError(
            f"relations need one batch: the student has {student.shape[0]} samples, the teacher {teacher.shape[0]}"
        )
    return flat(teacher.detach())


def _distances(points: Tensor) -> Tensor:
    """``[batch, batch]`` Euclidean distances over their mean (over positive ones)."""
    # Distances do not see the origin, but the rounding of |a|² + |b|² − 2ab does.
    points = points - points.detach().mean(0)
    square = points.square().sum(-1)
    apart = (square[:, None] + square[None, :] - 2 * product(points, points.T)).clamp(min=1e-12).sqrt()
    apart = apart.masked_fill(torch.eye(len(points), dtype=torch.bool, device=points.device), 0.0)
    mean = apart.sum() / (apart > 0).sum().clamp(min=1)
    return apart / mean.clamp(min=1e-12)


def distance_relation(student: Tensor, teacher: Tensor, *, delta: float = 1.0) -> Tensor:
    """RKD-D: pairwise distances, each side over its own mean distance, compared by Huber's loss.

    The mean distance is over entries above 0, and the student's gradient goes through it; the loss is the mean over all
    batch² entries, which the published weight assumes. Zero when student = c · Q · teacher + b, c > 0, Q orthogonal.

    Args:
        student: ``[batch, ...]``; do not normalise it, leaving the sphere is part of the gain.
        teacher: ``[batch, ...]``.
        delta: Huber's threshold, above 0.

    Returns:
        Scalar, at least 0; 0 for one sample, and for two.

    Raises:
        ValueError: The batches differ in size.

    Source: arXiv:1904.05068, section 3.2.1.
    """
    points, target = flat(student), _teacher(student, teacher)
    return huber_loss(_distances(points), _distances(target).to(points.dtype), delta=delta)


def _angles(points: Tensor) -> Tensor:
    """``[batch, batch, batch]`` cosines at vertex i between the directions to j and to k; 0 where degenerate."""
    towards = unit(points[None, :, :] - points[:, None, :])
    return product(towards, towards.transpose(1, 2))


def angle_relation(student: Tensor, teacher: Tensor, *, indices: Tensor | None = None, delta: float = 1.0) -> Tensor:
    """RKD-A: cosines of the angles of all triplets, compared by Huber's loss.

    Mean over all batch³ entries, which the published weight assumes; degenerate entries are 0 on both sides. Takes
    batch³ numbers of memory: 8 MB at 128 samples, 0.5 GB at 512.

    Args:
        student: ``[batch, ...]``.
        teacher: ``[batch, ...]``.
        indices: ``[chosen]`` int64 positions in the batch: only triplets of these samples are compared.
        delta: Huber's threshold, above 0.

    Returns:
        Scalar, at least 0.

    Raises:
        ValueError: The batches differ in size.

    Source: arXiv:1904.05068, section 3.2.2.
    """
    points, target = flat(student), _teacher(student, teacher)
    if indices is not None:
        points, target = points[indices], target[indices]
    return huber_loss(_angles(points), _angles(target).to(points.dtype), delta=delta)


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """SPKD: ‖G(teacher) − G(student)‖² / batch², with G the matrix of inner products, its rows brought to length 1.

    Args:
        student: ``[batch, ...]``.
        teacher: ``[batch, ...]``.

    Returns:
        Scalar, in [0, 4 / batch].

    Raises:
        ValueError: The batches differ in size.

    Source: arXiv:1907.09682.
    """
    points, target = flat(student), _teacher(student, teacher)
    theirs, ours = unit(product(target, target.T)), unit(product(points, points.T))
    return (ours - theirs).square().mean()


def _neighbours(points: Tensor) -> Tensor:
    """``[batch, batch]``: probability that sample i picks j ≠ i, in proportion to (cosine + 1) / 2."""
    points = unit(points)
    near = (0.5 * (product(points, points.T) + 1)).clamp(min=1e-7)
    near = near.masked_fill(torch.eye(len(points), dtype=torch.bool, device=points.device), 0.0)
    return near / near.sum(-1, keepdim=True).clamp(min=1e-7)


def probabilistic_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """PKT: Kullback-Leibler divergence between the two probabilities that a sample picks another as its neighbour.

    The neighbour's probability is proportional to the kernel (cosine + 1) / 2. Summed over neighbours and averaged over
    samples; a sample is no neighbour of itself. (A widespread implementation keeps itself in and divides by batch²
    instead, so its weights are about batch times larger.)

    Args:
        student: ``[batch, ...]``.
        teacher: ``[batch, ...]``.

    Returns:
        Scalar in nats, at least 0.

    Raises:
        ValueError: The batches differ in size.

    Source: arXiv:1803.10837.
    """
    target, ours = _neighbours(_teacher(student, teacher)), _neighbours(flat(student))
    # The diagonal is 0 on both sides; a 1 there keeps its logarithm and gradient finite.
    ratio = target.masked_fill(target == 0, 1.0).log() - ours.masked_fill(ours == 0, 1.0).log()
    return (target * ratio).sum(-1).mean()


def correlation_congruence(student: Tensor, teacher: Tensor, *, gamma: float = 0.4, order: int = 2) -> Tensor:
    """CC: squared difference of Gaussian kernels between unit vectors, in Taylor expansion, over batch².

    For unit vectors exp(−γ‖x − y‖²) = exp(−2γ) · exp(2γ x·y), the second factor expanded to the given order.

    Args:
        student: ``[batch, ...]``.
        teacher: ``[batch, ...]``.
        gamma: γ, above 0.
        order: Highest power of the expansion, at least 1.

    Returns:
        Scalar, at least 0.

    Raises:
        ValueError: The batches differ in size, or the order is below 1.

    Source: arXiv:1904.01802.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")

    def kernel(points: Tensor) -> Tensor:
        points = unit(points)
        similarity = product(points, points.T)
        terms = [(2 * gamma) ** power / math.factorial(power) * similarity**power for power in range(1, order + 1)]
        return math.exp(-2 * gamma) * torch.stack(terms).sum(0)

    return (kernel(flat(student)) - kernel(_teacher(student, teacher))).square().mean()

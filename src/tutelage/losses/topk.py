"""TopKD: the teacher's strongest logits amplified, directions in parts, samples told apart (arXiv:2508.04539)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tutelage.losses._numeric import class_indices, cosine, flat, product, raised, same_shape, unit


def top_scale(
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    k: int = 5,
    gain: float = 0.5,
    bias: float = 0.1,
    boost: float = 2.0,
) -> Tensor:
    """Top-K scaling (TSM): teacher logits with the K largest, and the label's, amplified.

    A chosen logit z of rank r (0 is the largest) becomes w z + Δ, with w = 1 + gain · (1 − r / K) and Δ = bias ·
    (mean of the top K − mean of the rest); where z < 0 it is divided by w instead, for a factor would lower it. The
    label's logit is always chosen: with the weight of rank 0 if it is the largest, else with 1 + boost · gain. The
    order of the top K is kept, but the label may overtake them.

    Args:
        teacher_logits: ``[batch, classes]``, finite; detached.
        labels: ``[batch]`` int64, negative where a sample has no label; ``None``: none has.
        k: K, in [1, classes − 1].
        gain: ω, at least 0.
        bias: η, at least 0. The constants are a reconstruction: the paper's are not public in full.
        boost: How much stronger a label that the teacher misses is amplified, at least 1.

    Returns:
        ``[batch, classes]`` float32 or better. gain = bias = 0 returns the logits.

    Raises:
        ValueError: K does not fit the classes, the labels are not indices, or gain, bias or boost is out of range.
    """
    logits = raised(teacher_logits.detach())
    classes = logits.shape[-1]
    if not 1 <= k < classes:
        raise ValueError(f"k must lie in [1, {classes - 1}] for {classes} classes, got {k}")
    if gain < 0 or bias < 0 or boost < 1:
        raise ValueError(f"gain and bias must be at least 0 and boost at least 1, got {gain}, {bias} and {boost}")
    order = logits.argsort(dim=-1, descending=True, stable=True)
    top, rest = order[:, :k], order[:, k:]
    ranks = torch.arange(k, device=logits.device, dtype=logits.dtype)
    weights = torch.ones_like(logits).scatter(-1, top, (1 + gain * (1 - ranks / k)).expand_as(top))
    chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, top, True)
    if labels is not None:
        class_indices(labels, logits.shape[:-1], "top-K scaling")
        known = (labels >= 0)[:, None]
        place = labels.clamp(min=0)[:, None]
        missed = 1 + gain * torch.where(order[:, :1] == place, 1.0, boost)
        weights = weights.scatter(-1, place, torch.where(known, missed, weights.gather(-1, place)))
        chosen = chosen.scatter(-1, place, known | chosen.gather(-1, place))
    gap = logits.gather(-1, top).mean(-1, keepdim=True) - logits.gather(-1, rest).mean(-1, keepdim=True)
    scaled = torch.where(logits < 0, logits / weights, logits * weights) + bias * gap
    return torch.where(chosen, scaled, logits)


def top_directions(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    k: int = 5,
    pos_weight: float = 1.0,
    neg_weight: float = 1.0,
    rest_weight: float = 1.0,
) -> Tensor:
    """Top-K decoupled directions (TDL): 1 − Σ weight · cosine over the K largest, the K smallest and the other logits.

    The three index sets come from the teacher and are read from both sides; they are disjoint also under ties. They
    follow rank, not sign, and the cosine is on raw values, so the student's scale is free: confidence must come from
    another loss. Fewer than two other classes are left out, for the cosine of single numbers is ±1 without a
    gradient.

    Args:
        student_logits: ``[batch, classes]``.
        teacher_logits: ``[batch, classes]``, finite, usually from ``top_scale``; detached.
        k: K, at least 2, at most classes / 2.
        pos_weight: Weight of the K largest.
        neg_weight: Weight of the K smallest.
        rest_weight: Weight of the others.

    Returns:
        ``[batch]``. The minimum is 1 − (sum of the weights), not 0.

    Raises:
        ValueError: The shapes differ or K does not fit the classes.
    """
    same_shape(student_logits, teacher_logits, "logits")
    student, teacher = raised(student_logits), raised(teacher_logits.detach())
    classes = teacher.shape[-1]
    if k < 2 or 2 * k > classes:
        raise ValueError(f"k must lie in [2, {classes // 2}] for {classes} classes, got {k}")
    order = teacher.argsort(dim=-1, descending=True, stable=True)
    parts = [(pos_weight, order[:, :k]), (neg_weight, order[:, classes - k :])]
    if classes - 2 * k >= 2:
        parts.append((rest_weight, order[:, k : classes - k]))
    aligned = [weight * cosine(student.gather(-1, part), teacher.gather(-1, part)) for weight, part in parts]
    return 1 - torch.stack(aligned).sum(0)


def paired_contrast(
    student: Tensor, teacher: Tensor, *, temperature: Tensor | float = 0.07, ids: Tensor | None = None
) -> Tensor:
    """CLIP-like contrast: every student row must find its teacher's row in the batch, and the reverse.

    ½ [CE(S, diagonal) + CE(Sᵀ, diagonal)] with S the cosines over the temperature.

    Args:
        student: ``[batch, ...]``.
        teacher: ``[batch, ...]`` of the same width; not detached, a trained projector may stand before it.
        temperature: τ above 0; may be a trained scalar.
        ids: ``[batch]`` identities; copies of one sample are then not taken for wrong answers.

    Returns:
        Scalar (a loss of the batch), at least 0; 0 for one sample.

    Raises:
        ValueError: The flattened shapes differ, or a number given as temperature is not positive.
    """
    ours, theirs = flat(student), flat(teacher)
    same_shape(ours, theirs, "rows", "; project one of them")
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    similarity = product(unit(ours), unit(theirs).T) / temperature
    place = torch.arange(len(ours), device=ours.device)
    if ids is not None:
        copies = (ids[:, None] == ids[None, :]) & (place[:, None] != place[None, :])
        similarity = similarity.masked_fill(copies, -math.inf)
    return 0.5 * (cross_entropy(similarity, place) + cross_entropy(similarity.T, place))

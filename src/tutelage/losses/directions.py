"""Feature norm and direction: embeddings pulled along the teacher's class means, and made longer (arXiv:2305.17007)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tutelage.losses._numeric import raised, same_shape, unit

# Denominators below this are taken for it, so that two dead embeddings give a number.
_NO_LENGTH = 1e-12


def norm_and_direction(
    student: Tensor, teacher: Tensor, centres: Tensor, *, variant: Literal["nd", "direction", "norm"] = "nd"
) -> Tensor:
    """ND: 1 − s · e / max(‖s‖, ‖t‖), with e the direction of the teacher's mean embedding of the sample's class.

    While ‖s‖ < ‖t‖ the gradient is −e / ‖t‖, which turns the embedding and makes it longer; from ‖s‖ = ‖t‖ on it is
    that of 1 − cos(s, e), which only turns it. ``direction`` is 1 − cos(s, e) throughout, ``norm`` is
    1 − ‖s‖ / max(‖s‖, ‖t‖): what is missing to the teacher's length.

    Args:
        student: s, ``[batch, width]``, after the projector if there is one.
        teacher: t, ``[batch, width]`` of the same samples; detached.
        centres: ``[batch, width]``: the mean of each sample's class, of any length; detached. A zero row is a class
            without a mean, and its samples get no gradient from their direction.
        variant: Both, or one alone.

    Returns:
        ``[batch]``, in [0, 2].

    Raises:
        ValueError: The shapes differ or the variant is unknown.

    Source: arXiv:2305.17007, equation of the ND loss; the variants are the studies before it.
    """
    same_shape(student, teacher, "embeddings", "; project the student's to the teacher's width first")
    same_shape(student, centres, "embeddings and the class means")
    if variant not in ("nd", "direction", "norm"):
        raise ValueError(f"variant must be 'nd', 'direction' or 'norm', got {variant!r}")
    ours, theirs = raised(student), raised(teacher.detach())
    along = (ours * unit(raised(centres.detach()))).sum(-1)
    length = torch.linalg.vector_norm(ours, dim=-1)
    # Not torch.maximum, which halves the gradient between equals.
    goal = torch.linalg.vector_norm(theirs, dim=-1)
    longer: Tensor = torch.where(length >= goal, length, goal).clamp(min=_NO_LENGTH)
    if variant == "norm":
        along = length
    short: Tensor = 1 - along / (length.clamp(min=_NO_LENGTH) if variant == "direction" else longer)
    return short


def sums_by_class(embeddings: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """What class means are made of, to be added over batches: the sum of each class, and its number of samples.

    Args:
        embeddings: ``[batch, width]``; detached, and taken as they are, not at length 1.
        labels: ``[batch]`` int64 class indices.
        classes: How many there are.

    Returns:
        ``([classes, width], [classes])`` in float32 or better.

    Raises:
        ValueError: The labels are not indices of these classes, one a sample.
    """
    values = raised(embeddings.detach())
    if labels.is_floating_point() or labels.shape != values.shape[:1]:
        raise ValueError(f"class means need {len(values)} class indices, got {labels.dtype} {list(labels.shape)}")
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise ValueError(f"class indices must lie in [0, {classes}), got {int(labels.min())} to {int(labels.max())}")
    sums = values.new_zeros(classes, values.shape[-1]).index_add_(0, labels, values)
    return sums, torch.bincount(labels, minlength=classes).to(values.dtype)

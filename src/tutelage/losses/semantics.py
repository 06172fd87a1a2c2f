"""Class semantics of a classifier's gradient, as DisWOT compares them (CVPR 2023, arXiv:2303.15678)."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import product, raised, unit


def classifier_gradient(logits: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the mean cross-entropy with respect to the weights of the last, linear layer.

    In closed form, (p - y)ᵀ f / batch, so that it needs no backward pass and is itself differentiable once.

    Args:
        logits: ``[batch, classes]``.
        embedding: ``[batch, width]``, what enters that layer.
        labels: ``[batch]`` int64.

    Returns:
        ``[classes, width]``.

    Raises:
        ValueError: The shapes do not fit together.
    """
    if logits.ndim != 2 or embedding.ndim != 2 or not len(logits) == len(embedding) == len(labels):
        shapes = f"{list(logits.shape)}, {list(embedding.shape)} and {list(labels.shape)}"
        raise ValueError(f"expected logits [batch, classes], embedding [batch, width] and labels [batch], got {shapes}")
    apart = raised(logits).softmax(-1) - torch.nn.functional.one_hot(labels, logits.shape[-1])
    gradient: Tensor = product(apart.T.to(raised(embedding).dtype), raised(embedding)) / len(logits)
    return gradient


def class_semantics(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance between the classes' outer products E = g gᵀ of two gradients, with rows of length 1.

    The mean over classes and rows. E has rank 1, so that its row i is sign(g_i) · g / ‖g‖, and the matrices are never
    built. Where the widths differ, the classes' products with each other, G = g gᵀ ``[classes, classes]``, are compared
    instead, which the paper does not do.

    Args:
        student: ``[classes, width]``, see `classifier_gradient`.
        teacher: ``[classes, width]`` of the same classes; not detached.

    Returns:
        Scalar, at least 0: 0 where the gradients are multiples of each other, about 2 for unrelated ones.

    Raises:
        ValueError: The classes differ.

    Source: arXiv:2303.15678, section 3.2.
    """
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        shapes = f"{list(student.shape)} and {list(teacher.shape)}"
        raise ValueError(f"expected gradients [classes, width] of the same classes, got {shapes}")
    ours, theirs = raised(student), raised(teacher)
    if ours.shape[1] != theirs.shape[1]:
        return (unit(product(ours, ours.T)) - unit(product(theirs, theirs.T))).square().mean()
    # A zero has no direction, and its row is zero.
    signs = ours.sign(), theirs.sign()
    rows = signs[0].square().sum(-1) + signs[1].square().sum(-1)
    together = (signs[0] * signs[1]).sum(-1) * (unit(ours) * unit(theirs)).sum(-1)
    distance: Tensor = (rows - 2 * together).sum() / ours.numel()
    return distance

"""Arithmetic that the losses share: full precision, no NaN in a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

# Square of a length below which a vector has no direction; far above the smallest float32.
_NO_LENGTH = 1e-24


def raised(values: Tensor) -> Tensor:
    """The same numbers as float32 where they are bfloat16 or float16, else unchanged."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def flat(features: Tensor) -> Tensor:
    """``[batch, ...]`` as ``[batch, width]``, in float32 or better."""
    return raised(features).reshape(features.shape[0], -1)


def same_shape(student: Tensor, teacher: Tensor, what: str, advice: str = "") -> None:
    """Refuse to broadcast.

    Raises:
        ValueError: The shapes differ.
    """
    if student.shape != teacher.shape:
        shapes = f"the student's {what} are {list(student.shape)} and the teacher's {list(teacher.shape)}"
        raise ValueError(f"{shapes}; both must have one shape{advice}")


def class_indices(labels: Tensor, shape: torch.Size, whose: str) -> None:
    """Refuse labels that name no class: mixed ones, distributions, or as many as there are no samples.

    Raises:
        ValueError: The labels are not integers, or not of the shape that they should have.
    """
    if labels.is_floating_point() or labels.shape != shape:
        mixed = "; mixed labels [batch, classes] name no class: leave out mixup and cutmix"
        raise ValueError(
            f"{whose} needs integer class indices {list(shape)}, got {labels.dtype} {list(labels.shape)}"
            f"{mixed if labels.is_floating_point() else ''}"
        )


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` in the precision of its arguments: autocast would round them to half precision first."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right


def unit(vectors: Tensor, dim: int = -1) -> Tensor:
    """Vectors of length 1 along ``dim``; a zero vector stays zero and gets no gradient.

    Dividing by ``max(length, eps)`` instead multiplies the gradient of a dead unit by ``1 / eps``.
    """
    square = vectors.square().sum(dim, keepdim=True)
    present = square > _NO_LENGTH
    return vectors * present * torch.where(present, square, 1.0).rsqrt()


def cosine(left: Tensor, right: Tensor, dim: int = -1) -> Tensor:
    """Cosine along ``dim``, in [-1, 1]; 0 where either vector is zero."""
    return (unit(left, dim) * unit(right, dim)).sum(dim)


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-softmax over the last axis of ``logits / temperature``, in float32 or better.

    Raises:
        ValueError: The temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    return torch.log_softmax(raised(logits) / temperature, dim=-1)


def relative_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Σ p (log p − log q) over the last axis, in nats, with 0 · log 0 = 0 in the value and in the gradient."""
    p = log_p.exp()
    return (p * (log_p - log_q).masked_fill(p == 0, 0.0)).sum(-1)

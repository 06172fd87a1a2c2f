"""DIST: match relations by Pearson correlation, which leaves shift and scale free (arXiv:2205.10536)."""

from __future__ import annotations

from torch import Tensor

from tutelage.losses._numeric import cosine, log_probabilities, same_shape


def _pearson(left: Tensor, right: Tensor, dim: int) -> Tensor:
    return cosine(left - left.mean(dim, keepdim=True), right - right.mean(dim, keepdim=True), dim)


def interclass_correlation(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, scale: bool = True
) -> Tensor:
    """1 − Pearson correlation of a sample's student and teacher probabilities, times T².

    Args:
        student_logits: ``[..., classes]``.
        teacher_logits: ``[..., classes]``; not detached.
        temperature: T, above 0, for both sides.
        scale: Multiply by T².

    Returns:
        ``[...]``, in [0, 2] before scaling; 1 where a side is constant.

    Raises:
        ValueError: The shapes differ or the temperature is not positive.

    Source: arXiv:2205.10536, inter-class relation.
    """
    same_shape(student_logits, teacher_logits, "logits")
    student = log_probabilities(student_logits, temperature).exp()
    teacher = log_probabilities(teacher_logits, temperature).exp()
    apart = 1 - _pearson(student, teacher, -1)
    return apart * temperature**2 if scale else apart


def intraclass_correlation(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, scale: bool = True
) -> Tensor:
    """1 − Pearson correlation of a class's probabilities over the batch, mean over classes, times T².

    Args:
        student_logits: ``[batch, classes]``.
        teacher_logits: ``[batch, classes]``; not detached.
        temperature: T, above 0, for both sides.
        scale: Multiply by T².

    Returns:
        Scalar (a relation of the batch), in [0, 2] before scaling; a batch of one has no correlation and gives T².

    Raises:
        ValueError: The shapes differ or the temperature is not positive.

    Source: arXiv:2205.10536, intra-class relation.
    """
    same_shape(student_logits, teacher_logits, "logits")
    student = log_probabilities(student_logits, temperature).exp()
    teacher = log_probabilities(teacher_logits, temperature).exp()
    apart = 1 - _pearson(student, teacher, 0).mean()
    return apart * temperature**2 if scale else apart

"""Decoupled knowledge distillation: the target class and the others, weighted apart (arXiv:2203.08679)."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import class_indices, log_probabilities, raised, relative_entropy, same_shape


def decoupled_parts(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The two divergences that KL(teacher ‖ student) is made of.

    KL = TCKD + (1 − p_y) · NCKD, where TCKD compares (p_y, 1 − p_y) and NCKD the distributions over the other
    classes. The label is taken out with −inf before the softmax.

    Args:
        student_logits: ``[..., classes]``, at least 2 classes.
        teacher_logits: ``[..., classes]``; not detached.
        labels: ``[...]`` integer class indices.
        temperature: Above 0, for both sides.

    Returns:
        ``(target, others)``, each ``[...]`` nats, at least 0, without a T² factor.

    Raises:
        ValueError: The shapes do not fit, the labels are not indices, or the temperature is not positive.

    Source: arXiv:2203.08679, section 3.
    """
    same_shape(student_logits, teacher_logits, "logits")
    class_indices(labels, student_logits.shape[:-1], "decoupled distillation")
    place = labels.long().unsqueeze(-1)

    def split(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_p = log_probabilities(logits, temperature)
        others = raised(logits).scatter(-1, place, float("-inf"))
        # From the logarithms of the others, not 1 − p_y, which rounds to 0 for a certain teacher.
        outside = torch.logsumexp(log_p.scatter(-1, place, float("-inf")), dim=-1, keepdim=True)
        return torch.cat([log_p.gather(-1, place), outside], dim=-1), log_probabilities(others, temperature)

    teacher_binary, teacher_others = split(teacher_logits)
    student_binary, student_others = split(student_logits)
    return relative_entropy(teacher_binary, student_binary), relative_entropy(teacher_others, student_others)


def decoupled(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """DKD: T² · (α · TCKD + β · NCKD).

    Args:
        student_logits: ``[..., classes]``.
        teacher_logits: ``[..., classes]``.
        labels: ``[...]`` integer class indices.
        alpha: Weight of the target class against the others.
        beta: Weight of the distribution over the others.
        temperature: T, above 0.

    Returns:
        ``[...]``, at least 0.

    Raises:
        ValueError: See ``decoupled_parts``.

    Source: arXiv:2203.08679, equation 7.
    """
    target, others = decoupled_parts(student_logits, teacher_logits, labels, temperature=temperature)
    return (alpha * target + beta * others) * temperature**2

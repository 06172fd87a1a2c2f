"""NKD: the teacher's weight on the label, and the other classes among themselves (arXiv:2303.13005)."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import log_probabilities, raised, same_shape


def normalized_target(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """−p_teacher[y] · log p_student[y], both at temperature 1.

    Args:
        student_logits: ``[batch, classes]``.
        teacher_logits: ``[batch, classes]``; not detached.
        labels: ``[batch]`` int64.

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The shapes differ.

    Source: arXiv:2303.13005, equation 9.
    """
    same_shape(student_logits, teacher_logits, "logits")
    ours, theirs = log_probabilities(student_logits), log_probabilities(teacher_logits).exp()
    own: Tensor = -(theirs * ours).gather(-1, labels[:, None])[:, 0]
    return own


def normalized_rest(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """Cross-entropy between the distributions over all classes but the label, times T².

    Args:
        student_logits: ``[batch, classes]``.
        teacher_logits: ``[batch, classes]``; not detached.
        labels: ``[batch]`` int64.
        temperature: T, above 0, for both sides.

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The shapes differ, the temperature is not positive, or there is one class only.

    Source: arXiv:2303.13005, equation 9.
    """
    same_shape(student_logits, teacher_logits, "logits")
    if student_logits.shape[-1] < 2:
        raise ValueError("the classes beside the label need at least 2 classes")
    own = torch.nn.functional.one_hot(labels, student_logits.shape[-1]).bool()
    # The published code lowers the label's logit by 1000 and leaves its term in, where it is 0 times a large number.
    ours = log_probabilities(raised(student_logits).masked_fill(own, -torch.inf), temperature).masked_fill(own, 0.0)
    theirs = log_probabilities(raised(teacher_logits).masked_fill(own, -torch.inf), temperature).exp()
    rest: Tensor = -(theirs * ours).sum(-1) * temperature**2
    return rest


def logit_distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Squared difference of the logits, mean over classes.

    Args:
        student_logits: ``[batch, classes]``.
        teacher_logits: ``[batch, classes]``; not detached.

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student_logits, teacher_logits, "logits")
    return (raised(student_logits) - raised(teacher_logits)).square().mean(-1)

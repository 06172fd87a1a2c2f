"""Matching a student to power-transformed teacher probabilities (arXiv:2402.11148, ICLR 2024).

With p = softmax(teacher), q = softmax(student) and exponent γ (a teacher temperature of 1 / γ), the target is
p^(γ) = p^γ / Σ p^γ = softmax(γ · teacher). The student is not softened, and there is no T² factor anywhere. All is
computed from logarithms: p^γ in half precision loses the tail.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import log_probabilities, raised, relative_entropy, same_shape


def power_sum(logits: Tensor, exponent: float) -> Tensor:
    """Power sum U = Σ p^γ of p = softmax(logits): how soft the distribution is.

    Args:
        logits: ``[..., classes]``.
        exponent: γ, above 0.

    Returns:
        ``[...]``; 1 for a certain distribution, classes^(1 − γ) for a uniform one. For γ ≤ 1 these are its bounds.

    Raises:
        ValueError: The exponent is not positive.
    """
    _check(exponent)
    logits = raised(logits)
    return (torch.logsumexp(exponent * logits, dim=-1) - exponent * torch.logsumexp(logits, dim=-1)).exp()


def power_transform(logits: Tensor, exponent: float) -> Tensor:
    """Power-transformed probabilities p^γ / Σ p^γ of p = softmax(logits).

    Args:
        logits: ``[..., classes]``.
        exponent: γ, above 0; below 1 softens.

    Returns:
        ``[..., classes]``, rows sum to 1.

    Raises:
        ValueError: The exponent is not positive.
    """
    _check(exponent)
    return log_probabilities(exponent * raised(logits)).exp()


def ttm(student_logits: Tensor, teacher_logits: Tensor, *, exponent: float) -> Tensor:
    """Transformed teacher matching: KL(p^(γ) ‖ q), with gradient q − p^(γ) at the student's logits.

    Args:
        student_logits: ``[..., classes]``, not softened.
        teacher_logits: ``[..., classes]``, detached.
        exponent: γ, above 0; 1 is the plain Kullback-Leibler divergence.

    Returns:
        ``[...]``, at least 0.

    Raises:
        ValueError: The shapes differ or the exponent is not positive.

    Source: arXiv:2402.11148.
    """
    _check(exponent)
    same_shape(student_logits, teacher_logits, "logits")
    target = log_probabilities(exponent * raised(teacher_logits.detach()))
    return relative_entropy(target, log_probabilities(student_logits))


def wttm(student_logits: Tensor, teacher_logits: Tensor, *, exponent: float, normalize: bool = False) -> Tensor:
    """Weighted transformed teacher matching: U_γ(p) · KL(p^(γ) ‖ q), which stresses samples the teacher is soft on.

    Args:
        student_logits: ``[..., classes]``, not softened.
        teacher_logits: ``[..., classes]``, detached, the weight too.
        exponent: γ, above 0.
        normalize: Divide the weights by their mean over all samples given; not in the paper.

    Returns:
        ``[...]``, at least 0.

    Raises:
        ValueError: The shapes differ or the exponent is not positive.

    Source: arXiv:2402.11148.
    """
    weight = power_sum(teacher_logits.detach(), exponent)
    if normalize:
        weight = weight / weight.mean()
    return weight * ttm(student_logits, teacher_logits, exponent=exponent)


def _check(exponent: float) -> None:
    if not exponent > 0:
        raise ValueError(f"exponent must be above 0 (it is 1 / temperature), got {exponent}")

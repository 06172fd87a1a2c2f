"""How far one distribution over classes or tokens is from another.

Every function works over the last axis and returns one number a sample: ``[batch]`` from ``[batch, classes]``,
``[batch, tokens]`` from ``[batch, tokens, vocabulary]``. Sums over classes are never divided by their number. Natural
logarithms (nats). bfloat16 and float16 logits are raised to float32 first. Nothing is detached. Logits may be −inf
(impossible entries) wherever a limit exists.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from tutelage.losses._numeric import log_probabilities, raised, relative_entropy, same_shape

_PAD = " (pad_logits widens the narrower of two vocabularies of one tokenizer)"


def kl_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    direction: Literal["forward", "reverse"] = "forward",
    scale: bool = True,
) -> Tensor:
    """Kullback-Leibler divergence between softened distributions.

    T² · KL(p ‖ q) forward, T² · KL(q ‖ p) reverse, with teacher p = softmax(teacher / T) and student q =
    softmax(student / T). The teacher's entropy is included, so equal logits give 0.

    Args:
        student_logits: ``[..., classes]``.
        teacher_logits: ``[..., classes]``.
        temperature: T, above 0, for both sides.
        direction: ``forward`` covers all that the teacher considers possible; ``reverse`` seeks its modes.
        scale: Multiply by T², which keeps the gradient's size independent of T.

    Returns:
        ``[...]``, at least 0; infinite where the second distribution rules out what the first one allows.

    Raises:
        ValueError: The shapes differ, the temperature is not positive, or the direction is unknown.

    Source: arXiv:1503.02531, section 2.
    """
    same_shape(student_logits, teacher_logits, "logits", _PAD)
    student = log_probabilities(student_logits, temperature)
    teacher = log_probabilities(teacher_logits, temperature)
    if direction == "forward":
        divergence = relative_entropy(teacher, student)
    elif direction == "reverse":
        divergence = relative_entropy(student, teacher)
    else:
        raise ValueError(f"direction must be 'forward' or 'reverse', got {direction!r}")
    return divergence * temperature**2 if scale else divergence


def jensen_shannon(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    scale: bool = True,
) -> Tensor:
    """Generalised Jensen-Shannon divergence β · KL(p ‖ m) + (1 − β) · KL(q ‖ m), with m = β p + (1 − β) q.

    The ends are by convention the plain divergences, since the formula itself vanishes there: β = 0 is KL(p ‖ q), β =
    1 is KL(q ‖ p).

    Args:
        student_logits: ``[..., classes]``, giving q.
        teacher_logits: ``[..., classes]``, giving p.
        beta: β in [0, 1].
        temperature: Above 0, for both sides.
        scale: Multiply by temperature².

    Returns:
        ``[...]``, at least 0; for 0 < β < 1 at most ln 2 before scaling, whatever the logits.

    Raises:
        ValueError: The shapes differ, the temperature is not positive, or β is outside [0, 1].

    Source: arXiv:2306.13649, section 2.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must lie in [0, 1], got {beta}")
    if beta in (0.0, 1.0):
        direction: Literal["forward", "reverse"] = "forward" if beta == 0 else "reverse"
        return kl_divergence(student_logits, teacher_logits, temperature=temperature, direction=direction, scale=scale)
    same_shape(student_logits, teacher_logits, "logits", _PAD)
    student = log_probabilities(student_logits, temperature)
    teacher = log_probabilities(teacher_logits, temperature)
    # Not logaddexp: its gradient is NaN where both sides are impossible.
    middle = beta * teacher.exp() + (1 - beta) * student.exp()
    middle = middle.masked_fill(middle == 0, 1.0).log()
    divergence = beta * relative_entropy(teacher, middle) + (1 - beta) * relative_entropy(student, middle)
    return divergence * temperature**2 if scale else divergence


def total_variation(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Total variation distance ½ Σ |p − q|: the largest difference in probability that any set of classes can have.

    Args:
        student_logits: ``[..., classes]``.
        teacher_logits: ``[..., classes]``.
        temperature: Above 0, for both sides; no T² factor, so that the value stays a probability.

    Returns:
        ``[...]``, in [0, 1].

    Raises:
        ValueError: The shapes differ or the temperature is not positive.

    Source: arXiv:2307.15190.
    """
    same_shape(student_logits, teacher_logits, "logits", _PAD)
    student = log_probabilities(student_logits, temperature).exp()
    teacher = log_probabilities(teacher_logits, temperature).exp()
    return 0.5 * (student - teacher).abs().sum(-1)


def soft_cross_entropy(logits: Tensor, target_probabilities: Tensor) -> Tensor:
    """Cross-entropy −Σ p log q with a target distribution p and q = softmax(logits).

    Args:
        logits: ``[..., classes]``.
        target_probabilities: ``[..., classes]``, at least 0; rows sum to 1, which is not checked.

    Returns:
        ``[...]``, at least the target's entropy.

    Raises:
        ValueError: The shapes differ.
    """
    if logits.shape != target_probabilities.shape:
        shapes = f"logits are {list(logits.shape)} and target probabilities {list(target_probabilities.shape)}"
        raise ValueError(f"{shapes}; both must have one shape{_PAD}")
    target = raised(target_probabilities)
    return -(target * log_probabilities(logits).masked_fill(target == 0, 0.0)).sum(-1)


def cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with class indices or target distributions, one number a sample.

    Args:
        logits: ``[..., classes]``.
        labels: ``[...]`` integer class indices, all in range (leave positions out with ``mask_mean``, not with special
            labels), or ``[..., classes]`` floating-point distributions, e.g. of mixed labels.
        label_smoothing: Share in [0, 1) of the target that is spread evenly over the possible classes (logit above
            −inf).

    Returns:
        ``[...]``, at least 0.

    Raises:
        ValueError: The shapes do not fit or the smoothing is outside [0, 1).

    Source: label smoothing, arXiv:1512.00567, section 7.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
    if labels.is_floating_point():
        hard = soft_cross_entropy(logits, labels)
    else:
        if labels.shape != logits.shape[:-1]:
            shapes = f"logits are {list(logits.shape)} and class indices {list(labels.shape)}"
            raise ValueError(
                f"{shapes}; indices must be {list(logits.shape[:-1])}, or pass floating-point distributions"
            )
        hard = -log_probabilities(logits).gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)
    if label_smoothing == 0:
        return hard
    log_q = log_probabilities(logits)
    possible = log_q != float("-inf")
    even = -log_q.masked_fill(~possible, 0.0).sum(-1) / possible.sum(-1).clamp(min=1)
    return (1 - label_smoothing) * hard + label_smoothing * even


def one_against_rest(logits: Tensor, labels: Tensor, *, off_label: float | None = None) -> Tensor:
    """Binary cross-entropy of every class on its own, with a small target for all but the label's.

    Args:
        logits: ``[batch, classes]``.
        labels: ``[batch]`` integer class indices.
        off_label: Target of the other classes, in [0, 1); ``None``: one over the number of classes.

    Returns:
        ``[batch]``, the mean over classes, at least 0.

    Raises:
        ValueError: The shapes do not fit, or the target is outside [0, 1).

    Source: arXiv:2205.10268, section 3.2.2; arXiv:2402.03119, section 4.
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"one_against_rest needs [batch, classes] and [batch] indices, got {list(logits.shape)} and "
            f"{list(labels.shape)} {labels.dtype}"
        )
    off = 1 / logits.shape[1] if off_label is None else off_label
    if not 0 <= off < 1:
        raise ValueError(f"off_label must lie in [0, 1), got {off}")
    scores = raised(logits)
    target = torch.full_like(scores, off).scatter(1, labels.long()[:, None], 1.0)
    return (torch.nn.functional.softplus(scores) - target * scores).mean(1)


def entropy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Shannon entropy of softmax(logits / T).

    Args:
        logits: ``[..., classes]``.
        temperature: T, above 0.

    Returns:
        ``[...]`` nats, in [0, ln classes].

    Raises:
        ValueError: The temperature is not positive.
    """
    log_q = log_probabilities(logits, temperature)
    q = log_q.exp()
    return -(q * log_q.masked_fill(q == 0, 0.0)).sum(-1)


def renyi_entropy(logits: Tensor, *, order: float) -> Tensor:
    """Rényi entropy log(Σ q^γ) / (1 − γ) of q = softmax(logits).

    Args:
        logits: ``[..., classes]``.
        order: γ above 0; 1 is Shannon's entropy, infinity the min-entropy −log max q.

    Returns:
        ``[...]`` nats, in [0, ln classes], falling with the order.

    Raises:
        ValueError: The order is not positive.

    Source: arXiv:2402.11148.
    """
    if not order > 0:
        raise ValueError(f"order must be above 0, got {order}")
    if order == 1:
        return entropy(logits)
    log_q = log_probabilities(logits)
    if math.isinf(order):
        return -log_q.amax(-1)
    return torch.logsumexp(order * log_q, dim=-1) / (1 - order)

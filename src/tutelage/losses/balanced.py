"""Both directions of divergence, the one that corrects a student's confidence made stronger (arXiv:2212.12965)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tutelage.losses.divergences import entropy, kl_divergence


def balance(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    boost: float = 3.0,
    temperature: float = 1.0,
    weighting: Literal["sample", "batch", "off"] = "sample",
) -> tuple[Tensor, Tensor]:
    """Weights of the forward and the reverse divergence: ``boost`` for the one that is needed, 1 for the other.

    Where the teacher has more entropy, the student is too sure, and the forward divergence makes it spread; where it
    has less, the reverse one makes it decide. Equal entropies give 1 to both.

    Args:
        student_logits: ``[..., classes]``; detached.
        teacher_logits: ``[..., classes]``; detached.
        boost: δ, at least 1.
        temperature: T of both entropies.
        weighting: Compare the entropies of each ``sample``, or their means over the ``batch``; ``off`` gives 1.

    Returns:
        ``(forward, reverse)``, each ``[...]``.

    Raises:
        ValueError: The boost is below 1 or the weighting is unknown.

    Source: arXiv:2212.12965, the student's loss.
    """
    if boost < 1:
        raise ValueError(f"boost must be at least 1, got {boost}")
    if weighting not in ("sample", "batch", "off"):
        raise ValueError(f"weighting must be 'sample', 'batch' or 'off', got {weighting!r}")
    ours = entropy(student_logits.detach(), temperature=temperature)
    theirs = entropy(teacher_logits.detach(), temperature=temperature)
    if weighting == "batch":
        ours, theirs = (one.mean().expand_as(one) for one in (ours, theirs))
    one = torch.ones_like(ours)
    if weighting == "off":
        return one, one
    return torch.where(theirs > ours, boost, one), torch.where(ours > theirs, boost, one)


def balanced_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    boost: float = 3.0,
    temperature: float = 1.0,
    weighting: Literal["sample", "batch", "off"] = "sample",
) -> Tensor:
    """BD-KD: T² (w_F · KL(p ‖ q) + w_R · KL(q ‖ p)), with constant weights from ``balance``.

    The gradient flows through q everywhere, also where it weighs the reverse divergence.

    Args:
        student_logits: ``[..., classes]``.
        teacher_logits: ``[..., classes]``; detached.
        boost: δ, at least 1; 1 is the symmetric divergence of Jeffreys.
        temperature: T, above 0, for both sides and their entropies.
        weighting: See ``balance``.

    Returns:
        ``[...]``, at least 0.

    Raises:
        ValueError: The shapes differ, or see ``balance``.

    Source: arXiv:2212.12965, the student's loss.
    """
    teacher = teacher_logits.detach()
    forward = kl_divergence(student_logits, teacher, temperature=temperature)
    reverse = kl_divergence(student_logits, teacher, temperature=temperature, direction="reverse")
    ours, theirs = balance(student_logits, teacher, boost=boost, temperature=temperature, weighting=weighting)
    return ours * forward + theirs * reverse

"""Losses of models that trace what learners know, and what learners' curves are made of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def answer_loss(logits: Tensor, answers: Tensor, scored: Tensor) -> Tensor:
    """Mean negative log-likelihood of the answers that count; 0, with a graph, where none does.

    Args:
        logits: ``[batch, steps]``.
        answers: ``[batch, steps]`` in [0, 1].
        scored: ``[batch, steps]`` bool.
    """
    each = binary_cross_entropy_with_logits(logits.float(), answers.float(), reduction="none")
    counts = scored.float()
    return (each * counts).sum() / counts.sum().clamp_min(1.0)


def waviness(probabilities: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """How much predictions of all concepts move from step to step (arXiv:1806.02180, equations 11 and 12).

    Args:
        probabilities: ``[batch, steps, concepts]``.
        real: ``[batch, steps]`` bool.

    Returns:
        The mean absolute and the root of the mean squared change.
    """
    if probabilities.shape[1] < 2:
        return probabilities.sum() * 0.0, probabilities.sum() * 0.0
    there = real[:, 1:, None].float()
    change = (probabilities[:, 1:] - probabilities[:, :-1]) * there
    total = (there.sum() * probabilities.shape[-1]).clamp_min(1.0)
    # The small number keeps the root's gradient finite where nothing moves.
    return change.abs().sum() / total, ((change**2).sum() / total + 1e-12).sqrt()


def curve_decay(elapsed: Tensor, strength: Tensor) -> Tensor:
    """What is left of an experience, ``exp(-S Δ)`` with S at least 0 (arXiv:2008.01169).

    Args:
        elapsed: Steps since, at least 0, of any shape.
        strength: Scalar S.
    """
    return torch.exp(-strength.clamp_min(0.0) * elapsed)

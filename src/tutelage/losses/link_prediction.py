"""Losses of link predictors: a true triple's score against those of corrupted ones, or of all entities."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Pairing = Literal["logistic", "self_adversarial", "margin", "cross_entropy"]


def self_adversarial(
    positive: Tensor, negative: Tensor, *, temperature: float = 1.0, valid: Tensor | None = None
) -> Tensor:
    """``½ (−log σ(f⁺) − Σ_j p_j log σ(−f⁻_j))`` with ``p = softmax(a f⁻)`` taken as given (arXiv:1902.10197, eq. 5-6).

    Args:
        positive: ``[batch]`` scores, higher for more plausible; the margin is part of them.
        negative: ``[batch, n]``.
        temperature: ``a``; 0 weighs all negatives alike.
        valid: ``[batch, n]`` bool, which negatives count; ``None`` for all.

    Returns:
        ``[batch]``.
    """
    scaled = temperature * negative.detach()
    if valid is not None:
        # A row without any valid negative would be all −inf; its weights are then 0, not NaN.
        scaled = scaled.masked_fill(~valid, float("-inf"))
        weight = torch.softmax(scaled, dim=1).nan_to_num(0.0)
    else:
        weight = torch.softmax(scaled, dim=1)
    return 0.5 * (F.softplus(-positive) + (weight * F.softplus(negative)).sum(1))


def logistic(positive: Tensor, negative: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """``½ (softplus(−f⁺) + mean_j softplus(f⁻_j))``: every negative counts alike. Shapes as for `self_adversarial`."""
    return 0.5 * (F.softplus(-positive) + _mean(F.softplus(negative), valid))


def margin_ranking(positive: Tensor, negative: Tensor, *, margin: float, valid: Tensor | None = None) -> Tensor:
    """``mean_j max(0, margin − f⁺ + f⁻_j)`` (Bordes et al. 2013, eq. 1). Shapes as for `self_adversarial`."""
    return _mean(F.relu(margin - positive[:, None] + negative), valid)


def sampled_softmax(positive: Tensor, negative: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Cross-entropy of the true answer among itself and the negatives. Shapes as for `self_adversarial`."""
    if valid is not None:
        negative = negative.masked_fill(~valid, float("-inf"))
    return torch.logsumexp(torch.cat([positive[:, None], negative], 1), 1) - positive


def against_all(scores: Tensor, answer: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """1-vs-all: cross-entropy of the true answer among all entities (arXiv:1806.07297, eq. 2).

    Args:
        scores: ``[batch, entities]``.
        answer: ``[batch]`` int64.
        smoothing: Share of the target that is spread over all entities.

    Returns:
        ``[batch]``.
    """
    return F.cross_entropy(scores, answer, reduction="none", label_smoothing=smoothing)


def power_penalty(factors: list[Tensor], *, power: float = 3.0) -> Tensor:
    """``Σ_factors ‖factor‖_p^p / 3`` of the rows of a triple: N3 for ``p = 3`` (arXiv:1806.07297, section 4).

    Args:
        factors: Each ``[batch, width]`` absolute values: moduli, where numbers are complex.
        power: ``p``.

    Returns:
        ``[batch]``.
    """
    return torch.stack([factor.abs().pow(power).sum(1) for factor in factors]).sum(0) / len(factors)


def subsampling_weights(counts: Tensor) -> Tensor:
    """``1 / √count``, ``[batch]`` (word2vec's subsampling as in arXiv:1902.10197's code; counts start at 4 there)."""
    return counts.to(torch.get_default_dtype()).rsqrt()


def _mean(values: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return values.mean(1)
    return (values * valid).sum(1) / valid.sum(1).clamp(min=1)

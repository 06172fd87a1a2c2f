"""States that drift back to a mean, the graph that moves the mean, and Gaussians that stand for both (PSI-KT).

Equations of arXiv:2403.13179 (ICLR 2024), sections 3.1 and 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus


def drift(state: Tensor, mean: Tensor, forgetting: Tensor, elapsed: Tensor) -> Tensor:
    """Where a state is expected after a time: ``e^(-αΔ) z + (1 - e^(-αΔ)) μ``; all broadcast together.

    Args:
        state: z.
        mean: μ that it drifts to.
        forgetting: Rate α, above 0.
        elapsed: Δ, at least 0; at 0 nothing moves.
    """
    return torch.lerp(mean, state, torch.exp(-forgetting * elapsed))


def drift_variance(volatility: Tensor, forgetting: Tensor, elapsed: Tensor) -> Tensor:
    """The variance that a state has gained by then: ``σ² (1 - e^(-2αΔ)) / (2α)``.

    Args:
        volatility: σ, of which only the square counts.
        forgetting: Rate α, above 0.
        elapsed: Δ, at least 0.
    """
    return volatility**2 * -torch.expm1(-2 * forgetting * elapsed) / (2 * forgetting)


def edge_probabilities(vectors: Tensor, turn: Tensor) -> Tensor:
    """``[concepts, concepts]``: how likely i is needed for k, ``σ(uᵢ·uₖ) σ(uᵢᵀ (T - Tᵀ) uₖ)``; 0 on the diagonal.

    Whether two concepts are joined is one factor, in which direction the other, so that both directions add up to the
    first.

    Args:
        vectors: ``[concepts, size]`` u.
        turn: ``[size, size]`` T.
    """
    joined = torch.sigmoid(vectors @ vectors.T)
    direction = torch.sigmoid(vectors @ (turn - turn.T) @ vectors.T)
    diagonal = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    return (joined * direction).masked_fill(diagonal, 0.0)


def drawn_edges(probabilities: Tensor, draws: int, *, temperature: float = 1.0) -> Tensor:
    """The mean of hard draws of each edge, whose gradient is that of relaxed ones (Gumbel-softmax, straight through).

    Args:
        probabilities: ``[concepts, concepts]``.
        draws: How many are averaged.
        temperature: Of the relaxation.
    """
    logits = torch.logit(probabilities, eps=1e-6)
    noise = torch.rand(draws, *logits.shape, device=logits.device).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid((logits + torch.logit(noise)) / temperature)
    hard = (soft > 0.5).to(soft.dtype)
    mean = (hard + soft - soft.detach()).mean(0)
    return mean * (probabilities > 0)


def gaussian_divergence(mean: Tensor, variance: Tensor, prior_mean: Tensor, prior_variance: Tensor) -> Tensor:
    """KL of one Gaussian from another, for each number apart."""
    ratio = variance / prior_variance
    return 0.5 * (ratio + (mean - prior_mean) ** 2 / prior_variance - 1 - ratio.log())


def gaussian_log_density(value: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log-density of each number under its Gaussian."""
    return -0.5 * (math.log(2 * math.pi) + variance.log() + (value - mean) ** 2 / variance)


def gaussian_entropy(variance: Tensor) -> Tensor:
    """Entropy of each number's Gaussian, in nats."""
    return 0.5 * (math.log(2 * math.pi) + 1 + variance.log())


def moderated(mean: Tensor, variance: Tensor) -> Tensor:
    """The logit whose sigmoid is, nearly, the mean sigmoid of a Gaussian (MacKay 1992)."""
    return mean / torch.sqrt(1 + math.pi / 8 * variance)


def observed(mean: Tensor, variance: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """What an answer makes of a Gaussian over a logit: one step of Newton towards the mode, and the curvature there.

    Args:
        mean: Before the answer.
        variance: Likewise.
        answer: In [0, 1].

    Returns:
        Mean and variance after it.
    """
    chance = torch.sigmoid(moderated(mean, variance))
    curvature = chance * (1 - chance)
    after = variance / (1 + variance * curvature)
    return mean + after * (answer - chance), after


def causal_support(effects: Tensor, trials: Tensor, *, points: int = 400) -> Tensor:
    """How much likelier counts are if a cause has a part in an effect than if it has none (Griffiths, Tenenbaum 2005).

    ``log P(D | G1) - log P(D | G0)``: in G0 the effect has a base rate w0; in G1 a noisy-or of w0 and the cause's w1;
    both are integrated over [0, 1] on a grid of midpoints.

    Args:
        effects: ``[..., 2]`` times that the effect was there, without and with the cause.
        trials: ``[..., 2]`` times it could have been.
        points: Of the grid on each axis.
    """
    grid = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    there, none = effects.double(), (trials - effects).double()
    base = grid.log() * there.sum(-1, keepdim=True) + torch.log1p(-grid) * none.sum(-1, keepdim=True)
    alone = torch.logsumexp(base, -1) - math.log(points)
    # log(1 - (1 - w0)(1 - w1)) on the grid of both.
    log_none = torch.log1p(-grid)[:, None] + torch.log1p(-grid)[None, :]
    log_there = torch.log(-torch.expm1(log_none))
    without = grid.log() * there[..., :1] + torch.log1p(-grid) * none[..., :1]
    both = without[..., :, None] + log_there * there[..., 1, None, None] + log_none * none[..., 1, None, None]
    return torch.logsumexp(both.flatten(-2), -1) - 2 * math.log(points) - alone


def positive(value: Tensor) -> Tensor:
    """A variance from any number."""
    return softplus(value) + 1e-6

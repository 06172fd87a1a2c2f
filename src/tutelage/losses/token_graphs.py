"""What tokens are to each other: neighbours across images, similarity within one (arXiv:2306.12442).

The teacher's branch has no gradient. Which tokens are neighbours is decided without one; how near they are has one.
float32 or better inside, also under autocast.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tutelage.losses._numeric import product, raised, relative_entropy, same_shape, unit


def neighbour_graph(tokens: Tensor, *, neighbours: int = 8, sigma: float | None = None) -> Tensor:
    """A_ij = exp(−‖t_i − t_j‖² / 2σ) where j is among the k nearest of i, else 0; no token is its own neighbour.

    Args:
        tokens: ``[tokens, width]``.
        neighbours: k, in [1, tokens − 1]; of tokens that lie equally far, k are taken.
        sigma: σ, above 0; ``None`` for the mean squared distance to neighbours, so that no width or scale lets the
            edges vanish. It has no gradient.

    Returns:
        ``[tokens, tokens]``, in [0, 1], with k entries above 0 a row; not symmetric.

    Raises:
        ValueError: The tokens are no matrix, k does not fit them, or σ is not positive.

    Source: arXiv:2306.12442, section 3.
    """
    if tokens.dim() != 2:
        raise ValueError(f"a graph needs [tokens, width], got {list(tokens.shape)}")
    count = len(tokens)
    if not 1 <= neighbours < count:
        raise ValueError(f"neighbours must lie in [1, {count - 1}] for {count} tokens, got {neighbours}")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    points = raised(tokens)
    # Distances do not see the origin, but the rounding of |a|² + |b|² − 2ab does.
    points = points - points.detach().mean(0)
    square = points.square().sum(-1)
    apart = (square[:, None] + square[None, :] - 2 * product(points, points.T)).clamp(min=0)
    with torch.no_grad():
        itself = torch.eye(count, dtype=torch.bool, device=tokens.device)
        nearest = apart.masked_fill(itself, float("inf")).topk(neighbours, largest=False).indices
    edges = apart.gather(1, nearest)
    width = edges.detach().mean().clamp(min=1e-12) if sigma is None else sigma
    return torch.zeros_like(apart).scatter(1, nearest, torch.exp(-edges / (2 * width)))


def graph_divergence(
    student: Tensor,
    teacher: Tensor,
    *,
    neighbours: int = 8,
    sigma: float | None = None,
    direction: Literal["forward", "reverse"] = "forward",
) -> Tensor:
    """Local relations: divergence between the softmaxes of both graphs' rows, absent edges included.

    Args:
        student: ``[tokens, width]``.
        teacher: As many tokens, of any width.
        neighbours: See ``neighbour_graph``.
        sigma: See ``neighbour_graph``; where it is ``None`` each side has its own.
        direction: ``forward`` is KL(teacher ‖ student), ``reverse`` KL(student ‖ teacher).

    Returns:
        ``[tokens]`` nats, at least 0.

    Raises:
        ValueError: The tokens differ in number, the direction is unknown, or see ``neighbour_graph``.

    Source: arXiv:2306.12442, local preserving loss.
    """
    if len(student) != len(teacher):
        raise ValueError(f"graphs need the same tokens: the student has {len(student)}, the teacher {len(teacher)}")
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction must be 'forward' or 'reverse', got {direction!r}")
    ours, theirs = (
        neighbour_graph(side, neighbours=neighbours, sigma=sigma).log_softmax(-1)
        for side in (student, teacher.detach())
    )
    return relative_entropy(theirs, ours) if direction == "forward" else relative_entropy(ours, theirs)


def token_contrast(student: Tensor, teacher: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Global relations: −log of the share that a token's own teacher token has among all, by cosine (InfoNCE).

    Args:
        student: ``[tokens, width]``, projected to the teacher's width.
        teacher: ``[tokens, width]``.
        temperature: τ, above 0.

    Returns:
        ``[tokens]`` nats, above 0.

    Raises:
        ValueError: The shapes differ or the temperature is not positive.

    Source: arXiv:2306.12442, global preserving loss.
    """
    same_shape(student, teacher, "tokens", "; project the student's to the teacher's width first")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    scores = product(unit(raised(student)), unit(raised(teacher.detach())).T) / temperature
    return -scores.log_softmax(-1).diagonal()


def context_similarity(tokens: Tensor) -> Tensor:
    """Softmax over tokens of F Fᵀ / √width: how an image's tokens attend to each other.

    Args:
        tokens: ``[batch, tokens, width]``.

    Returns:
        ``[batch, tokens, tokens]``, rows sum to 1.

    Raises:
        ValueError: They are no tokens of a batch.

    Source: arXiv:2306.12442, contextual similarity.
    """
    if tokens.dim() != 3:
        raise ValueError(f"context_similarity needs [batch, tokens, width], got {list(tokens.shape)}")
    features = raised(tokens)
    return torch.softmax(product(features, features.transpose(1, 2)) / tokens.shape[2] ** 0.5, -1)


def context_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Inner relations: mean squared difference of the similarities of an image's tokens.

    Args:
        student: ``[batch, tokens, width]``.
        teacher: As many tokens, of any width.

    Returns:
        ``[batch]``, at least 0.

    Raises:
        ValueError: The tokens differ in number, or are none.

    Source: arXiv:2306.12442, contextual similarity loss.
    """
    ours, theirs = context_similarity(student), context_similarity(teacher.detach())
    same_shape(ours, theirs, "similarities of tokens", "; pool both to one grid first")
    return (ours - theirs).square().mean((1, 2))

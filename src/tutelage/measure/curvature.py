"""Curvature of a loss: the largest eigenvalue of its Hessian."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def largest_curvature(loss: Tensor, parameters: Sequence[Tensor], *, rounds: int = 20, seed: int = 0) -> float:
    """The Hessian eigenvalue of largest magnitude, by power iteration on Hessian-vector products.

    Args:
        loss: Scalar with a graph that can be differentiated twice.
        parameters: What it is differentiated by.
        rounds: Iterations, at least 1.
        seed: Seed of the first vector.

    Raises:
        ValueError: ``rounds`` is below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    gradients = torch.autograd.grad(loss, list(parameters), create_graph=True, allow_unused=True)
    pairs = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None and g.requires_grad]
    used, slopes = [p for p, _ in pairs], [g for _, g in pairs]
    if not used:
        return 0.0
    generator = torch.Generator().manual_seed(seed)
    vector = [torch.randn(p.shape, generator=generator).to(p) for p in used]
    value = 0.0
    for _ in range(rounds):
        length = torch.stack([part.square().sum() for part in vector]).sum().sqrt()
        if length == 0:
            return 0.0
        vector = [part / length for part in vector]
        moved = torch.autograd.grad(slopes, used, vector, retain_graph=True, allow_unused=True)
        after = [torch.zeros_like(p) if m is None else m for p, m in zip(used, moved, strict=True)]
        value = float(torch.stack([(a * b).sum() for a, b in zip(vector, after, strict=True)]).sum())
        vector = after
    return value

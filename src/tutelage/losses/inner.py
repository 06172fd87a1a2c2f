"""Gradients through an optimiser's move: a virtual step forwards, an implicit gradient backwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def virtual_step(
    parameters: Mapping[str, Tensor],
    loss: Tensor,
    *,
    lr: float,
    weight_decay: float = 0.0,
    first_order: bool = False,
) -> dict[str, Tensor]:
    """One step of gradient descent that stays differentiable: θ' = θ − lr (∇L(θ) + decay · θ).

    The first step of SGD with momentum from an empty buffer is the same step.

    Args:
        parameters: θ by name, with a graph from them to the loss.
        loss: Scalar L(θ).
        lr: Step size, at least 0.
        weight_decay: L2 penalty.
        first_order: Treat the inner gradient as a constant, so that ∂θ'/∂θ is 1 − lr · decay.

    Returns:
        θ' by name; parameters that the loss does not reach only decay.

    Raises:
        ValueError: The step size or decay is negative.

    Source: MAML, arXiv:1703.03400, equation 1.
    """
    if lr < 0 or weight_decay < 0:
        raise ValueError(f"lr and weight_decay must be at least 0, got {lr} and {weight_decay}")
    names, values = list(parameters), list(parameters.values())
    gradients = torch.autograd.grad(loss, values, create_graph=not first_order, retain_graph=True, allow_unused=True)
    moved = {}
    for name, value, gradient in zip(names, values, gradients, strict=True):
        push = weight_decay * value if gradient is None else gradient + weight_decay * value
        moved[name] = value - lr * push
    return moved


def implicit_vector(
    fixed_map: Callable[[Tensor], Tensor], at: Tensor, outer_gradient: Tensor, *, rounds: int
) -> Tensor:
    """The vector v of an implicit gradient by fixed-point iteration: v ← (∂Φ/∂δ)ᵀ v + ∂h/∂δ, from 0.

    Where δ is a fixed point of the map Φ(δ, θ), the gradient of h(δ(θ), θ) is ∂h/∂θ + (∂Φ/∂θ)ᵀ v with v the limit; the
    gradient of ``h + (Φ * v).sum()`` at a constant δ is just that.

    Args:
        fixed_map: δ to Φ(δ, θ) of the same shape, differentiable.
        at: δ.
        outer_gradient: ∂h/∂δ, of δ's shape.
        rounds: K, at least 1.

    Returns:
        v, of δ's shape, without a graph.

    Raises:
        ValueError: ``rounds`` is below 1, or the map changes the shape.

    Source: arXiv:2006.16218, section 2.2, as used by arXiv:2306.02368.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    point = at.detach().requires_grad_()
    image = fixed_map(point)
    if image.shape != point.shape:
        raise ValueError(f"the map takes {list(point.shape)} to {list(image.shape)}; both must have one shape")
    v = torch.zeros_like(point)
    for index in range(rounds):
        (pulled,) = torch.autograd.grad(image, point, v, retain_graph=index < rounds - 1)
        v = pulled + outer_gradient.detach()
    return v

"""Optimisers by name, from torch; the signatures add the ranges that torch checks only when it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt

from tutelage.recipe.registry import component

Params = Iterable[dict[str, Any]]
# Fused kernels do in one pass what others do in many; every optimiser that has one has it for these devices.
_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


def _fused(params: Params) -> tuple[list[dict[str, Any]], bool]:
    groups = [{**group, "params": list(group["params"])} for group in params]
    tensors = [p for group in groups for p in group["params"]]
    return groups, bool(tensors) and all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for p in tensors)


@component("optimizer", "sgd")
def sgd(
    params: Params,
    /,
    *,
    lr: Annotated[float, Gt(0)] = 0.05,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
    nesterov: bool = False,
    weight_decay: Annotated[float, Ge(0)] = 5e-4,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum.

    Args:
        params: Parameter groups.
        lr: Learning rate.
        momentum: Share of the last move that is kept.
        nesterov: Look ahead along the momentum.
        weight_decay: L2 penalty.
    """
    groups, fused = _fused(params)
    # The fused kernel cannot begin with one parameter's momentum when another already has its own, as when a term of
    # the loss sets in late.
    return torch.optim.SGD(
        groups,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov and momentum > 0,
        weight_decay=weight_decay,
        foreach=fused and momentum > 0,
        fused=fused and momentum == 0,
    )


@component("optimizer", "adam")
def adam(
    params: Params,
    /,
    *,
    lr: Annotated[float, Gt(0)] = 1e-3,
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999),
    eps: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
    amsgrad: bool = False,
) -> torch.optim.Optimizer:
    """Adam (arXiv:1412.6980).

    Args:
        params: Parameter groups.
        lr: Learning rate.
        betas: Decay of the averages of gradient and squared gradient.
        eps: Added to the denominator.
        weight_decay: L2 penalty.
        amsgrad: Use the largest average so far.
    """
    groups, fused = _fused(params)
    return torch.optim.Adam(
        groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, fused=fused
    )


@component("optimizer", "adamw")
def adamw(
    params: Params,
    /,
    *,
    lr: Annotated[float, Gt(0)] = 1e-3,
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999),
    eps: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 0.01,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (arXiv:1711.05101).

    Args:
        params: Parameter groups.
        lr: Learning rate.
        betas: Decay of the averages of gradient and squared gradient.
        eps: Added to the denominator.
        weight_decay: Share of each weight, times the learning rate, that is taken off every step.
    """
    groups, fused = _fused(params)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused)


@component("optimizer", "nadam")
def nadam(
    params: Params,
    /,
    *,
    lr: Annotated[float, Gt(0)] = 2e-3,
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999),
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """Adam with Nesterov momentum.

    Args:
        params: Parameter groups.
        lr: Learning rate.
        betas: Decay of the averages of gradient and squared gradient.
        weight_decay: L2 penalty.
    """
    return torch.optim.NAdam(params, lr=lr, betas=betas, weight_decay=weight_decay)


@component("optimizer", "radam")
def radam(
    params: Params,
    /,
    *,
    lr: Annotated[float, Gt(0)] = 1e-3,
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999),
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """Rectified Adam (arXiv:1908.03265).

    Args:
        params: Parameter groups.
        lr: Learning rate.
        betas: Decay of the averages of gradient and squared gradient.
        weight_decay: L2 penalty.
    """
    return torch.optim.RAdam(params, lr=lr, betas=betas, weight_decay=weight_decay)


@component("optimizer", "rmsprop")
def rmsprop(
    params: Params,
    /,
    *,
    lr: Annotated[float, Gt(0)] = 1e-2,
    alpha: Annotated[float, Ge(0), Lt(1)] = 0.99,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """RMSprop.

    Args:
        params: Parameter groups.
        lr: Learning rate.
        alpha: Decay of the average of the squared gradient.
        momentum: Share of the last move that is kept.
        weight_decay: L2 penalty.
    """
    return torch.optim.RMSprop(params, lr=lr, alpha=alpha, momentum=momentum, weight_decay=weight_decay)


@component("optimizer", "adagrad")
def adagrad(
    params: Params,
    /,
    *,
    lr: Annotated[float, Gt(0)] = 1e-2,
    lr_decay: Annotated[float, Ge(0)] = 0.0,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """Adagrad.

    Args:
        params: Parameter groups.
        lr: Learning rate.
        lr_decay: Decay of the learning rate with the steps.
        weight_decay: L2 penalty.
    """
    return torch.optim.Adagrad(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay)


@component("optimizer", "adafactor")
def adafactor(
    params: Params, /, *, lr: Annotated[float, Gt(0)] = 1e-2, weight_decay: Annotated[float, Ge(0)] = 0.0
) -> torch.optim.Optimizer:
    """Adafactor (arXiv:1804.04235): second moments kept as row and column averages.

    Args:
        params: Parameter groups.
        lr: Largest relative step.
        weight_decay: Share of each weight, times the learning rate, that is taken off every step.
    """
    return torch.optim.Adafactor(params, lr=lr, weight_decay=weight_decay)

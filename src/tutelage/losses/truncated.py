"""Logits cut to their k largest, and what may stand in the place of the rest."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tutelage.losses._numeric import raised

Fill = Literal["tail", "zero", "last_mean", "uniform", "half", "random"]
Scale = Literal["softmax", "sigmoid"]


class Top(NamedTuple):
    """The largest logits of each row.

    Args:
        values: ``[batch, k]``, the largest first.
        indices: ``[batch, k]`` int64 classes.
        tail: ``[batch]`` log-sum-exp of all others; −inf where there are none.
    """

    values: Tensor
    indices: Tensor
    tail: Tensor


def truncate(logits: Tensor, k: int) -> Top:
    """The k largest logits, and how much the others weigh together.

    Args:
        logits: ``[batch, classes]``.
        k: In [1, classes].

    Raises:
        ValueError: k does not fit the classes.
    """
    classes = logits.shape[-1]
    if not 1 <= k <= classes:
        raise ValueError(f"k must lie in [1, {classes}] for {classes} classes, got {k}")
    values, indices = raised(logits).sort(dim=-1, descending=True, stable=True)
    return Top(values[:, :k], indices[:, :k], values[:, k:].logsumexp(-1))


def complete(
    values: Tensor,
    indices: Tensor,
    classes: int,
    *,
    tail: Tensor | None = None,
    fill: Fill = "tail",
    scale: Scale = "softmax",
    noise: Tensor | None = None,
) -> Tensor:
    """Logits of all classes again: the kept ones as they were, the others as ``fill`` says.

    With p the probability of a class on the scale given (before the fill), and K the number of kept ones, each class
    that was not kept gets the logit of: ``tail``: its even share of what was not kept, so that softmax of the kept ones
    is exact; ``zero``: 0; ``last_mean``: min p / (classes − K); ``uniform``: 1 / classes; ``half``: min p / 2;
    ``random``: a uniform number below min p. On the softmax scale all but ``tail`` sum to more or less than one; the
    softmax of what is returned divides by that sum. On the sigmoid scale it is exactly as described (arXiv:2308.11957's
    code).

    Args:
        values: ``[batch, K]`` logits that were kept.
        indices: ``[batch, K]`` int64 classes that they are of, without repetition.
        classes: How many classes there are, at least K.
        tail: ``[batch]`` log-sum-exp of those not kept; only the softmax scale needs it.
        fill: See above.
        scale: Which probabilities: of one class among all, or of each class by itself.
        noise: ``[batch, classes]`` in [0, 1), for ``random``.

    Returns:
        ``[batch, classes]`` float32 or better; the kept logits to the bit.

    Raises:
        ValueError: Shapes do not fit, or what the fill needs is missing.
    """
    batch, kept = values.shape
    if indices.shape != values.shape or kept > classes:
        shapes = f"values are {list(values.shape)} and indices {list(indices.shape)}"
        raise ValueError(f"{shapes}; both must be [batch, k] with k at most the {classes} classes")
    values = raised(values)
    if kept == classes:
        return torch.empty_like(values).scatter(-1, indices, values)
    rest = _rest(values, classes, tail, fill, scale)
    filled = rest[:, None].expand(batch, classes)
    if fill == "random":
        if noise is None or noise.shape != (batch, classes):
            raise ValueError(f"fill 'random' needs noise of shape {[batch, classes]}")
        smallest = values.amin(-1, keepdim=True)
        filled = smallest + noise.log() if scale == "softmax" else (noise * smallest.sigmoid()).logit()
    return filled.scatter(-1, indices, values)


def _rest(values: Tensor, classes: int, tail: Tensor | None, fill: str, scale: str) -> Tensor:
    """``[batch]``: the logit of a class that was not kept."""
    others = classes - values.shape[-1]
    smallest = values.amin(-1)
    if fill in ("zero", "random"):
        return torch.full_like(smallest, -math.inf)
    divisors = {"last_mean": others, "half": 2}
    if scale == "sigmoid":
        if fill == "uniform":
            return torch.full_like(smallest, -math.log(classes - 1))
        if fill in divisors:
            return (smallest.sigmoid() / divisors[fill]).logit()
        raise ValueError(f"fill '{fill}' is of the softmax scale: sigmoids have no mass to share; choose e.g. 'zero'")
    if fill in divisors:
        return smallest - math.log(divisors[fill])
    if tail is None:
        raise ValueError(f"fill '{fill}' needs the tail's mass")
    tail = raised(tail)
    if fill == "uniform":
        return torch.logaddexp(values.logsumexp(-1), tail) - math.log(classes)
    if fill == "tail":
        return tail - math.log(others)
    raise ValueError(f"fill must be tail, zero, last_mean, uniform, half or random, got {fill!r}")

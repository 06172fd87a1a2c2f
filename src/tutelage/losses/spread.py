"""Logits in units of their own spread."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import raised


def unit_spread(logits: Tensor) -> Tensor:
    """Each sample's logits divided by their standard deviation over classes: z / σ(z), with K − 1 below the root.

    The softmax of the result is the same for z and a z + b, for any a above 0. Its largest probability is bounded, by
    e^√K / (e^√K + K − 1) for K classes, so confidence is a matter of shape alone.

    Args:
        logits: ``[..., classes]``, of at least two classes. Gradients flow through the standard deviation.

    Returns:
        ``[..., classes]``, not centred. Logits that are all equal have no spread: they are 0, with a gradient of 0.

    Raises:
        ValueError: There is one class only.

    Source: arXiv:2211.03946, equation 5.
    """
    if logits.shape[-1] < 2:
        raise ValueError(f"logits of {logits.shape[-1]} class have no spread; expected at least 2")
    values = raised(logits)
    centred = values - values.mean(-1, keepdim=True)
    square = centred.square().sum(-1, keepdim=True) / (logits.shape[-1] - 1)
    present = square > 1e-24
    # The root's gradient is infinite at 0, so that what has no spread must not reach it.
    return values * present * torch.where(present, square, 1.0).rsqrt()

"""Which positions and which vocabulary entries count."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.losses._numeric import raised


def mask_mean(values: Tensor, mask: Tensor | None, count: Tensor | float | None = None) -> Tensor:
    """Mean over the valid positions.

    With ``count`` the number of valid positions of the whole optimiser step, the sum over micro-batches (and over
    ranks) of these values is the mean over all valid positions, however they were split or padded.

    Args:
        values: Any shape; one number a position, e.g. ``[batch, tokens]``. What stands at masked positions (even NaN)
            is not read.
        mask: The same shape, bool or whole 0/1: true where a position counts; ``None`` counts all.
        count: What to divide by; ``None``: the valid positions in ``mask``.

    Returns:
        A scalar in float32 or better. Nothing valid gives 0 that still has a graph, so that a rank without valid tokens
        takes part in the backward pass.

    Raises:
        ValueError: The shapes of values and mask differ, or the mask is floating-point.
    """
    values = raised(values)
    if mask is None:
        return values.sum() / _at_least_one(values.numel() if count is None else count)
    if mask.is_floating_point():
        raise ValueError(f"a mask is bool or whole 0/1, got {mask.dtype}; multiply the values by weights beforehand")
    if mask.shape != values.shape:
        raise ValueError(
            f"the mask is {list(mask.shape)} and the values are {list(values.shape)}; both must have one shape"
        )
    valid = mask.bool()
    total = torch.where(valid, values, 0.0).sum()
    return total / _at_least_one(valid.sum() if count is None else count)


def _at_least_one(count: Tensor | float) -> Tensor | float:
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)


def pad_logits(logits: Tensor, size: int, *, valid: int | None = None) -> Tensor:
    """Widen logits to another vocabulary size with impossible entries (−inf, probability 0).

    Models of one family share a tokenizer and pad their vocabularies to different sizes. Padding with zeros would
    give the new entries probability; −inf gives them none. The wider model may put a little probability on entries
    that no token has: ``valid`` takes it away, and a Kullback-Leibler divergence from it stays finite.

    Args:
        logits: ``[..., vocabulary]``.
        size: Vocabulary size wanted.
        valid: Entries at and after this index become −inf too, e.g. the number of tokens in the tokenizer.

    Returns:
        ``[..., size]``; the input itself where nothing changes.

    Raises:
        ValueError: ``size`` is below the present vocabulary (its entries would be lost), or ``valid`` is below 1.
    """
    present = logits.shape[-1]
    if size < present:
        raise ValueError(f"cannot pad logits of {present} entries to {size}: widen the narrower model instead")
    if valid is not None and valid < 1:
        raise ValueError(f"valid must be at least 1, got {valid}")
    if valid is not None and valid < present:
        logits = logits[..., :valid]
    if logits.shape[-1] == size:
        return logits
    return torch.nn.functional.pad(logits, (0, size - logits.shape[-1]), value=float("-inf"))

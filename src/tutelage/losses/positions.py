"""Which positions of a sequence count, by one rule.

A mask lies over tokens: it is true where a token is to be learnt. The logits at position i score token i + 1, so what
is compared at position i belongs to the mask at i + 1. The first token of a response is scored by the last of its
prompt; what the model says after the end is scored by nothing. Data and samples that a student wrote use the same
functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tutelage.losses.masks import mask_mean


class Shifted(NamedTuple):
    """What is compared, position by position.

    Args:
        values: ``[batch, tokens - 1, ...]``: what a model says at each position but the last.
        tokens: ``[batch, tokens - 1]``: the token that each is about.
        mask: ``[batch, tokens - 1]`` bool: whether that token counts.
    """

    values: Tensor
    tokens: Tensor
    mask: Tensor


def shift(values: Tensor, tokens: Tensor, mask: Tensor) -> Shifted:
    """Put what a model says beside the tokens that it says it about.

    Args:
        values: ``[batch, tokens, ...]`` logits or hidden states; those at i are about token i + 1.
        tokens: ``[batch, tokens]`` token ids.
        mask: ``[batch, tokens]`` bool or whole 0/1: true where a token is to be learnt.

    Raises:
        ValueError: The shapes do not fit, or the mask is floating-point.
    """
    _fit(tokens, mask)
    if values.shape[:2] != tokens.shape:
        raise ValueError(
            f"the values are {list(values.shape)} and the tokens {list(tokens.shape)}; one each a position"
        )
    return Shifted(values[:, :-1], tokens[:, 1:], mask[:, 1:].bool())


def scored(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The positions that count, one after the other, and what is to come after each.

    Args:
        tokens: ``[batch, tokens]`` token ids.
        mask: ``[batch, tokens]`` bool or whole 0/1: true where a token is to be learnt.

    Returns:
        Two ``[valid]`` int64 tensors: places in ``values.flatten(0, 1)`` of what a model says at each position, and the
        tokens that they are about. Both are empty where nothing counts.

    Raises:
        ValueError: The shapes do not fit, or the mask is floating-point.
    """
    _fit(tokens, mask)
    sample, place = mask[:, 1:].bool().nonzero(as_tuple=True)
    return sample * tokens.shape[1] + place, tokens[sample, place + 1].long()


def response_mask(tokens: Tensor, starts: Tensor, ends: Tensor | None = None, *, stop: Sequence[int] = ()) -> Tensor:
    """Which tokens are of the response: from its first one to the first that ends it, which counts as well.

    Args:
        tokens: ``[batch, tokens]`` token ids, padded on either side.
        starts: ``[batch]`` place of each response's first token.
        ends: ``[batch]`` place after each response's last token, where padding may begin; ``None``: the whole row.
        stop: Ids that end a response. What follows the first of them in the response is padding, also where padding has
            the same id.

    Returns:
        ``[batch, tokens]`` bool.

    Raises:
        ValueError: The shapes do not fit.
    """
    if tokens.dim() != 2 or starts.shape != tokens.shape[:1] or (ends is not None and ends.shape != starts.shape):
        raise ValueError(f"tokens are {list(tokens.shape)} and starts {list(starts.shape)}; both need one row a sample")
    place = torch.arange(tokens.shape[1], device=tokens.device)
    mask = place >= starts[:, None]
    if ends is not None:
        mask &= place < ends[:, None]
    if not stop:
        return mask
    stops = mask & torch.isin(tokens, torch.as_tensor(list(stop), device=tokens.device, dtype=tokens.dtype))
    before = stops.long().cumsum(1) - stops.long()
    return mask & (before == 0)


def token_mean(values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, int]:
    """The mean over the tokens that count, and how many they are: what `Losses.over` takes.

    The engine weighs each part of an optimiser step by its count, so that the step's loss is the mean over all its
    tokens, however they were split, padded or chunked.

    Args:
        values: One number a position, any shape.
        mask: The same shape, true where a position counts, see `shift`; ``None``: all count.

    Returns:
        A scalar (0 with a graph where nothing counts), and the count.

    Raises:
        ValueError: The shapes differ, or the mask is floating-point.
    """
    count = values.numel() if mask is None else int(mask.bool().sum())
    return mask_mean(values, mask, count), count


def _fit(tokens: Tensor, mask: Tensor) -> None:
    if mask.is_floating_point():
        raise ValueError(f"a mask is bool or whole 0/1, got {mask.dtype}; multiply the values by weights afterwards")
    if tokens.dim() != 2 or mask.shape != tokens.shape:
        raise ValueError(f"tokens are {list(tokens.shape)} and their mask {list(mask.shape)}; both are [batch, tokens]")

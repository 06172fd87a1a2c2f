"""Nested state to JSON and tensors, and back: checkpoints without pickles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

# JSON has neither tuples nor non-string keys, and optimiser states use both, so every container says what it is.
_TENSOR, _TUPLE, _DICT = "__tensor__", "__tuple__", "__dict__"


def pack(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split nested state into a JSON value and the tensors it refers to.

    Args:
        state: Dictionaries (keys: numbers, strings, ``None``, tuples of these), lists, tuples, numbers, strings,
            ``None`` and tensors.

    Raises:
        TypeError: A value of another type, named with its place.
    """
    tensors: dict[str, Tensor] = {}
    return _split(state, "", tensors), tensors


# Not a function inside `pack`: one that calls itself is a cycle, which would keep copies of all tensors until somebody
# looks for garbage.
def _split(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = f"t{len(tensors)}"
        # A copy: two entries that share memory cannot be stored as they are.
        tensors[key] = value.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: key}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        pairs = value.items()
        return {_DICT: [[_split(k, place, tensors), _split(v, f"{place}.{k}", tensors)] for k, v in pairs]}
    if isinstance(value, tuple):
        return {_TUPLE: [_split(v, f"{place}.{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [_split(v, f"{place}.{i}", tensors) for i, v in enumerate(value)]
    raise TypeError(f"state{place} is a {type(value).__name__}, which a checkpoint cannot hold")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The state that `pack` split."""
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _TUPLE in value:
            return tuple(unpack(v, tensors) for v in value[_TUPLE])
        return {_key(unpack(k, tensors)): unpack(v, tensors) for k, v in value[_DICT]}
    if isinstance(value, list):
        return [unpack(v, tensors) for v in value]
    return value


def _key(key: Any) -> Any:
    if isinstance(key, torch.Tensor):
        raise TypeError("a tensor cannot be the key of stored state")
    return key

"""Feature reuse: how alike consecutive blocks' outputs are, and what dropping or swapping blocks costs."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tutelage.losses import linear_cka
from tutelage.models.inert import evaluating
from tutelage.models.taps import Taps

Score = Callable[[nn.Module], float]


def consecutive_cka(module: nn.Module, blocks: Sequence[str], inputs: Tensor) -> list[float]:
    """Linear CKA between each block's output and the next one's, in evaluation mode.

    Args:
        module: The model.
        blocks: Paths of its blocks, in order.
        inputs: ``[batch, *input_shape]``, at least 2.

    Returns:
        One number fewer than blocks; near 1 where a block changes little.
    """
    taps = Taps(module, blocks)
    try:
        with evaluating(module), torch.no_grad():
            module(inputs)
        found = list(taps.collect().values())
    finally:
        taps.remove()
    return [float(linear_cka(a, b)) for a, b in itertools.pairwise(found)]


def dropped_and_swapped(module: nn.Module, blocks: Sequence[str], inputs: Tensor, score: Score) -> dict[str, float]:
    """How much a score falls, on average, when one block is left out, or two neighbours change places.

    Only blocks are touched whose output has the shape of their input, and neighbours inside one container.

    Args:
        module: The model; copies of it are changed.
        blocks: Paths of its blocks, in order.
        inputs: ``[batch, *input_shape]``, to learn their shapes.
        score: Scores a model, e.g. by accuracy.

    Returns:
        ``drop`` and ``swap``, where there is a block to drop or a pair to swap.
    """
    taps = Taps(module, [side for path in blocks for side in (path, f"{path}:input")])
    try:
        with evaluating(module), torch.no_grad():
            module(inputs[:2])
        shapes = {path: tensor.shape for path, tensor in taps.collect().items()}
    finally:
        taps.remove()
    same = [path for path in blocks if shapes[path] == shapes[f"{path}:input"]]
    whole = score(module)

    def fall(changes: dict[str, nn.Module]) -> float:
        other = copy.deepcopy(module)
        for path, part in changes.items():
            parent, _, name = path.rpartition(".")
            setattr(other.get_submodule(parent), name, part)
        return whole - score(other)

    found: dict[str, float] = {}
    if same:
        found["drop"] = sum(fall({path: nn.Identity()}) for path in same) / len(same)
    pairs = [
        (a, b)
        for a, b in itertools.pairwise(same)
        if shapes[a] == shapes[b] and a.rpartition(".")[0] == b.rpartition(".")[0]
    ]
    if pairs:
        parts = {path: copy.deepcopy(module.get_submodule(path)) for path in same}
        found["swap"] = sum(fall({a: parts[b], b: parts[a]}) for a, b in pairs) / len(pairs)
    return found

"""Finding the standard taps of a model that declares none, and listing every place that can be tapped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tutelage.models.inert import dry_forward
from tutelage.models.outputs import first_tensor
from tutelage.models.paths import modules_of
from tutelage.recipe.errors import InputError


@dataclass(frozen=True)
class TapRow:
    """A place that can be tapped.

    Args:
        path: Dotted path.
        type: Class of the module.
        shape: Shape of its output (first tensor) for the example; ``None`` if the forward does not call it.
        parameters: Numbers in it and below.
        standard: Names of the standard taps that lie at it, e.g. ``embedding (input)``.
    """

    path: str
    type: str
    shape: tuple[int, ...] | None
    parameters: int
    standard: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Call:
    path: str
    module: nn.Module
    shape: tuple[int, ...]


def standard_taps_of(module: nn.Module, example: Tensor | None = None) -> dict[str, str]:
    """Where a model's ``embedding``, ``features`` and ``classifier`` are.

    A model's own ``standard_taps`` count. Otherwise one dry forward tells: the classifier is the last ``nn.Linear``
    called whose output is ``[batch, classes]``, the embedding what enters it, the features the last feature map before
    it, ``[batch, channels, height, width]`` or ``[batch, tokens, width]``; of a map that was pooled to one position,
    what was pooled. A model without an ``nn.Linear`` or a feature map lacks those taps. Neither its state nor the
    random state moves.

    Args:
        module: The model.
        example: ``[batch, *input_shape]``; only its shape counts where the model can run on shapes alone.

    Returns:
        Standard name to tap, e.g. ``{"embedding": "head:input", "features": "blocks", "classifier": "head"}``.

    Raises:
        InputError: The model declares none and there is no example.
    """
    declared = getattr(module, "standard_taps", None)
    if declared is not None:
        return dict(declared)
    if example is None:
        raise InputError(
            f"the model {type(module).__name__} declares no standard taps, and without a sample they cannot be found;"
            " give it an attribute standard_taps, or name paths"
        )
    calls = _calls(module, example)
    linear = [i for i, call in enumerate(calls) if isinstance(call.module, nn.Linear)]
    flat = [i for i in linear if len(calls[i].shape) == 2]
    found: dict[str, str] = {}
    before = calls
    if linear:
        at = (flat or linear)[-1]
        found = {"embedding": f"{calls[at].path}:input", "classifier": calls[at].path}
        before = calls[:at]
    maps = [call for call in before if call.path and len(call.shape) in (3, 4)]
    if maps:
        found["features"] = _unpooled(maps).path
    return found


def tap_tree(module: nn.Module, example: Tensor) -> list[TapRow]:
    """Every place that can be tapped, in the model's order, with the output's shape for an example.

    Computed on shapes alone where the model can; its weights are neither copied nor moved.

    Args:
        module: The model.
        example: ``[batch, *input_shape]``.
    """
    shapes = {call.path: call.shape for call in _calls(module, example)}
    names: dict[str, list[str]] = {}
    for name, tap in standard_taps_of(module, example).items():
        path, _, side = tap.partition(":")
        names.setdefault(path, []).append(f"{name} ({side})" if side else name)
    return [
        TapRow(path, type(part).__name__, shapes.get(path), parameters_of(part), tuple(names.get(path, ())))
        for path, part in modules_of(module).items()
        if path
    ]


def _unpooled(maps: Sequence[_Call]) -> _Call:
    """The last map; where it has one position, the last before it with more, if that has the same channels."""
    last = maps[-1]
    spread = [call for call in maps if _positions(call) > 1]
    if _positions(last) > 1 or not spread or _channels(spread[-1]) != _channels(last):
        return last
    return spread[-1]


def _positions(call: _Call) -> int:
    return math.prod(call.shape[2:] if len(call.shape) == 4 else call.shape[1:2])


def _channels(call: _Call) -> int:
    return call.shape[1] if len(call.shape) == 4 else call.shape[2]


def parameters_of(module: nn.Module) -> int:
    """How many numbers a model's parameters are, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _calls(module: nn.Module, example: Tensor) -> list[_Call]:
    """Modules in the order in which their calls end, each by every path that leads to it."""
    paths: dict[nn.Module, list[str]] = {}
    for path, part in modules_of(module).items():
        paths.setdefault(part, []).append(path)
    calls: list[_Call] = []

    def ended(part: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None:
            calls.extend(_Call(path, part, tuple(tensor.shape)) for path in paths[part])

    handles = [part.register_forward_hook(ended) for part in paths]
    # A dry forward may need a second attempt.
    handles.append(module.register_forward_pre_hook(lambda part, args: calls.clear()))
    try:
        output = dry_forward(module, example)
    finally:
        for handle in handles:
            handle.remove()
    if first_tensor(output) is None:
        raise InputError(f"the model {type(module).__name__} returns no tensor, but a {type(output).__name__}")
    return calls

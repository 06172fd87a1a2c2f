"""Taps: what a submodule takes in or puts out, captured without changing the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.recipe.errors import InputError, nearest

STANDARD = ("embedding", "features", "classifier")
_INPUT = ":input"


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor of an output, however it is wrapped: in tuples, lists, mappings or dataclass-like objects."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = list(value.values())
    elif not isinstance(value, list | tuple) and hasattr(value, "__dataclass_fields__"):
        value = [getattr(value, name) for name in value.__dataclass_fields__]
    if isinstance(value, list | tuple):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    return None


def matching(module: nn.Module, pattern: str) -> list[str]:
    """Paths of submodules that a dotted pattern matches, in the module's order; ``*`` and ``?`` stay within a segment.

    Raises:
        InputError: Nothing matches; the text lists the nearest real paths.
    """
    wanted = pattern.split(".")
    names = [name for name, _ in module.named_modules() if name]
    found = [
        name
        for name in names
        if len(parts := name.split(".")) == len(wanted) and all(map(fnmatchcase, parts, wanted))
    ]
    if not found:
        raise InputError(
            f"tap '{pattern}' matches no part of {type(module).__name__}. {nearest(pattern, names)} "
            "`tutelage taps RECIPE` prints them all."
        )
    return found


def standard_taps_of(module: nn.Module, example: Tensor) -> dict[str, str]:
    """Where a model's standard taps are: what it declares, or else what a forward pass of it shows.

    The classifier is the last linear layer that ran, the embedding its input, and the features the last output before it that
    has an axis more than a vector: ``[batch, channels, height, width]`` or ``[batch, tokens, width]``.

    Args:
        module: Any model.
        example: ``[batch, *input_shape]`` input for the forward pass.
    """
    declared = getattr(module, "standard_taps", None)
    if isinstance(declared, Mapping):
        return dict(declared)
    seen: list[tuple[str, nn.Module, int]] = []
    hooks = [
        part.register_forward_hook(
            lambda part, args, out, name=name: seen.append((name, part, t.ndim if (t := first_tensor(out)) is not None else 0))
        )
        for name, part in module.named_modules()
        if name
    ]
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
        for part, mode in modes:
            part.training = mode
    taps: dict[str, str] = {}
    last = max((i for i, (_, part, _) in enumerate(seen) if isinstance(part, nn.Linear)), default=None)
    if last is not None:
        taps["classifier"] = seen[last][0]
        taps["embedding"] = seen[last][0] + _INPUT
    features = [name for name, _, axes in seen[:last] if axes >= 3]
    if features:
        taps["features"] = features[-1]
    return taps


class Taps:
    """Captures of one model.

    Args:
        module: The model; its weights, its outputs and its ``state_dict`` stay as they are.
        names: A standard tap (``embedding``, ``features``), a dotted path, a glob (``layers.*.attn``), or one of these
            with ``:input`` behind for what goes in. A submodule that runs several times in a forward pass is captured at its
            last run.
        standard: Paths of the standard taps, see `standard_taps_of`.

    Raises:
        InputError: A name matches nothing.
    """

    def __init__(self, module: nn.Module, names: Sequence[str], standard: Mapping[str, str] | None = None) -> None:
        self._captured: dict[str, Tensor] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self.paths: dict[str, tuple[str, ...]] = {}
        standard = dict(standard or {})
        for name in names:
            target = standard.get(name, name)
            if name in STANDARD and name not in standard:
                raise InputError(
                    f"{type(module).__name__} has no tap '{name}': it was neither declared nor found; "
                    "name a submodule by its dotted path instead"
                )
            path, takes_input = (target.removesuffix(_INPUT), target.endswith(_INPUT))
            found = matching(module, path)
            keys = [name] if name == target and len(found) == 1 and "*" not in name and "?" not in name else []
            for place in found:
                key = name if keys or name in standard else place + (_INPUT if takes_input else "")
                self.paths[name] = (*self.paths.get(name, ()), key)
                self._hook(module.get_submodule(place), key, takes_input)

    def _hook(self, part: nn.Module, key: str, takes_input: bool) -> None:
        captured = self._captured

        if takes_input:

            def before(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                found = first_tensor((*args, *kwargs.values()))
                if found is not None:
                    captured[key] = found

            self._hooks.append(part.register_forward_pre_hook(before, with_kwargs=True))
        else:

            def after(part: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                found = first_tensor(output)
                if found is not None:
                    captured[key] = found

            self._hooks.append(part.register_forward_hook(after))

    def collect(self) -> dict[str, Tensor]:
        """What the last forward pass captured, by name; nothing is kept here afterwards.

        A glob's captures come under the paths that it matched.
        """
        out = dict(self._captured)
        self._captured.clear()
        return out

    def remove(self) -> None:
        """Take all hooks off the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._captured.clear()


def tap_tree(module: nn.Module, example: Tensor) -> list[dict[str, Any]]:
    """Every submodule with its type, output shape and parameters, in the order of the module tree.

    Args:
        module: The model; may be on the meta device, together with the example.
        example: ``[batch, *input_shape]`` input for one forward pass.

    Returns:
        Rows with ``path``, ``type``, ``shape`` (of the first output tensor, batch axis first; ``None`` where the part did
        not run) and ``parameters``.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = [
        part.register_forward_hook(
            lambda part, args, out, name=name: shapes.update(
                {name: tuple(t.shape)} if (t := first_tensor(out)) is not None else {}
            )
        )
        for name, part in module.named_modules()
    ]
    try:
        with torch.no_grad():
            module.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        {
            "path": name or ".",
            "type": type(part).__name__,
            "shape": shapes.get(name),
            "parameters": sum(p.numel() for p in part.parameters()),
        }
        for name, part in module.named_modules()
    ]

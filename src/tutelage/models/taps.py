"""Taps: named places inside a model whose input or output is captured without changing the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tutelage.models.outputs import first_tensor
from tutelage.models.paths import STANDARD, Place, modules_of, parse, resolve
from tutelage.models.standard import standard_taps_of, tap_tree
from tutelage.recipe.errors import InputError

__all__ = ["Taps", "places", "standard_taps_of", "tap_tree"]


class Taps:
    """Captures what passes named places of a module during its forward.

    A name is a standard tap (``embedding``, ``features``, ``classifier``), a dotted path (``blocks.1``), or a glob
    whose segments are matched one by one (``layers.*.attn``; ``**`` for any depth). ``path:input`` captures what enters
    a module instead of what leaves it; ``path:output`` also reaches a module that bears a standard tap's name. Of a
    module that returns or takes several things, the first tensor is captured. Of a module that is called several times
    in one forward, the last call is kept.

    What is captured keeps its graph: gradients flow to it and through it. The module's ``state_dict``, results, copies
    and pickles are what they were without taps (a copy is not tapped). Place taps before a compiled model's first
    forward, for compiled code does not look for new hooks.

    Args:
        module: The raw module, never a wrapper around it.
        names: What to capture; each result carries the name that asked for it, or the real path where that was a glob.
        standard: Where the standard taps lie; the module's own ``standard_taps`` unless given.
        example: ``[batch, *input_shape]``, needed to find the standard taps of a module that declares none.
        detach: Whether captures are cut off from the graph.
        stop_after: End the forward once this place was captured; only with `run`.

    Attributes:
        enabled: Whether forwards are captured.

    Raises:
        InputError: A name matches nothing (the text lists the nearest real ones), or comes after ``stop_after``.
    """

    def __init__(
        self,
        module: nn.Module,
        names: Sequence[str] = (),
        *,
        standard: Mapping[str, str] | None = None,
        example: Tensor | None = None,
        detach: bool = False,
        stop_after: str | None = None,
    ) -> None:
        self.enabled = True
        self.detach = detach
        self._captured: dict[str, tuple[Tensor, int | None]] = {}
        self._handles: list[RemovableHandle] = []
        self._stop: Place | None = None
        modules = modules_of(module)
        self.places = places(module, names, modules, standard=standard, example=example)
        if stop_after is not None:
            self._stop = _only(stop_after, places(module, [stop_after], modules, standard=standard, example=example))
            self._refuse_enclosing()
        keys: dict[Place, list[str]] = {self._stop: []} if self._stop else {}
        for key, place in self.places.items():
            keys.setdefault(place, []).append(key)
        for place, asked in keys.items():
            part, ends = modules[place.path], place == self._stop
            if place.side == "input":
                hook = _InputHook(self, tuple(asked), ends)
                self._handles.append(part.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                self._handles.append(
                    part.register_forward_hook(_OutputHook(self, tuple(asked), ends), with_kwargs=True)
                )

    def collect(self) -> dict[str, Tensor]:
        """What the last forward captured, by name; nothing is kept here afterwards.

        Raises:
            InputError: A later operation of the forward changed a capture in place, so that its values are not those
                of the place that was asked for.
        """
        captured, self._captured = self._captured, {}
        changed = [key for key, (tensor, version) in captured.items() if version not in (None, _version(tensor))]
        if changed:
            raise InputError(
                f"what the tap '{changed[0]}' captured was changed in place later in the forward (e.g. by"
                " ReLU(inplace=True) or '+='); tap the module that does it, or make it work out of place"
            )
        return {key: captured[key][0] for key in self.places if key in captured}

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Capture inside this block only, so that recomputed forwards of a backward pass leave nothing behind."""
        self.enabled = True
        try:
            yield
        finally:
            self.enabled = False

    def run(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the model, ended early where ``stop_after`` says so: its output, or ``None`` if it was ended."""
        try:
            return forward(*args, **kwargs)
        except _Stopped as stopped:
            if stopped.taps is not self:
                raise
            return None

    def remove(self) -> None:
        """Take the taps out of the module and forget what they captured."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._captured.clear()

    def _take(self, keys: tuple[str, ...], value: Any, ends: bool) -> None:
        tensor = first_tensor(value)
        if tensor is None:
            raise InputError(f"the tap '{(*keys, self._stop)[0]}' captures no tensor, but a {type(value).__name__}")
        if self.detach:
            tensor = tensor.detach()
        version = None if torch.compiler.is_compiling() else _version(tensor)
        for key in keys:
            self._captured[key] = (tensor, version)
        if ends:
            late = [key for key in self.places if key not in self._captured]
            if late:
                raise InputError(f"the tap '{late[0]}' comes after '{self._stop}', where the forward is to stop")
            raise _Stopped(self)

    def _refuse_enclosing(self) -> None:
        """A module's output comes after everything inside it, which can be told without a forward."""
        assert self._stop is not None
        for key, place in self.places.items():
            around = not place.path or self._stop.path.startswith(f"{place.path}.")
            same = place.path == self._stop.path and self._stop.side == "input"
            if place.side == "output" and place != self._stop and (around or same):
                raise InputError(f"the tap '{key}' comes after '{self._stop}', where the forward is to stop")


def places(
    module: nn.Module,
    names: Sequence[str],
    modules: Mapping[str, nn.Module] | None = None,
    *,
    standard: Mapping[str, str] | None = None,
    example: Tensor | None = None,
) -> dict[str, Place]:
    """The places that names of taps mean, see `Taps`; globs are replaced by what they match.

    Raises:
        InputError: A name matches nothing.
    """
    paths = modules if modules is not None else modules_of(module)
    declared = standard if standard is not None else getattr(module, "standard_taps", None)
    out: dict[str, Place] = {}
    for name in names:
        if name in STANDARD or (declared is not None and name in declared):
            if declared is None:
                declared = standard_taps_of(module, example)
            if name not in declared:
                kind = type(module).__name__
                raise InputError(f"the model {kind} has no standard tap '{name}'; name a path, or let it declare one")
            place = parse(declared[name])
            if place.path not in paths:
                raise InputError(f"the standard tap '{name}' is declared as '{place}', which the model does not have")
            out[name] = place
            continue
        asked = parse(name)
        if not asked.path:
            out[name] = asked
            continue
        for path in resolve(asked.path, paths, "tap"):
            place = Place(path, asked.side)
            out[name if path == asked.path else str(place)] = place
    return out


def _only(name: str, found: Mapping[str, Place]) -> Place:
    if len(found) != 1:
        raise InputError(f"the forward can stop after one place, but '{name}' matches {len(found)}")
    return next(iter(found.values()))


def _version(tensor: Tensor) -> int | None:
    # Inference tensors count no versions.
    return None if tensor.is_inference() else tensor._version


class _Stopped(BaseException):
    """Ends a forward. Not an ``Exception``, so that a model that handles those does not handle this."""

    def __init__(self, taps: Taps) -> None:
        super().__init__("the forward was stopped by its taps: call it through Taps.run")
        self.taps = taps


class _Hook:
    """A forward hook whose copies and unpickled forms do nothing: a tapped model can be copied and pickled."""

    def __init__(self, taps: Taps | None = None, keys: tuple[str, ...] = (), ends: bool = False) -> None:
        self.taps, self.keys, self.ends = taps, keys, ends

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class _OutputHook(_Hook):
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self.taps is not None and self.taps.enabled:
            self.taps._take(self.keys, output, self.ends)


class _InputHook(_Hook):
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.taps is not None and self.taps.enabled:
            self.taps._take(self.keys, (args, kwargs), self.ends)

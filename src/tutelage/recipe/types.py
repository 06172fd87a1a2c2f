"""Markers that a component's signature may carry in ``Annotated``; light, so that a recipe is checked without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Of:
    """The argument is itself a component of this kind: a name, or a mapping with ``name`` and its arguments.

    ``Annotated[Any, Of("augment")]``; ``Annotated[list[Any], Of("measure")]`` for a list of them.
    """

    kind: str


@dataclass(frozen=True)
class Ramped:
    """The number may also be a ramp, ``{name: linear, start: 1, end: 4}``: the engine sets it before each step."""

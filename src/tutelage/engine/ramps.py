"""Ramps: numbers that move with training."""

from __future__ import annotations

import math
from typing import Annotated, Any, Protocol, runtime_checkable

from annotated_types import Ge, Gt, Le
from torch import nn

from tutelage.recipe.registry import component


@runtime_checkable
class Ramp(Protocol):
    """A number as a function of progress."""

    def at(self, progress: float) -> float:
        """Its value after this share of the stage, in [0, 1]."""
        ...


@component("ramp", "linear")
class Linear:
    """A number that moves in a straight line.

    Args:
        start: Value at the beginning.
        end: Value from ``until`` on.
        until: Share of the stage at which ``end`` is reached.
    """

    def __init__(self, *, start: float, end: float, until: Annotated[float, Gt(0), Le(1)] = 1.0) -> None:
        self.start, self.end, self.until = start, end, until

    def at(self, progress: float) -> float:
        """Its value after this share of the stage."""
        return self.start + (self.end - self.start) * min(progress / self.until, 1.0)


@component("ramp", "cosine")
class Cosine:
    """A number that moves along half a cosine: slowly, fast, slowly.

    Args:
        start: Value at the beginning.
        end: Value from ``until`` on.
        until: Share of the stage at which ``end`` is reached.
    """

    def __init__(self, *, start: float, end: float, until: Annotated[float, Gt(0), Le(1)] = 1.0) -> None:
        self.start, self.end, self.until = start, end, until

    def at(self, progress: float) -> float:
        """Its value after this share of the stage."""
        turn = math.pi * min(progress / self.until, 1.0)
        return self.end + (self.start - self.end) * (1.0 + math.cos(turn)) / 2.0


@component("ramp", "step")
class Jump:
    """A number that changes once.

    Args:
        start: Value before.
        end: Value after.
        at_progress: Share of the stage after which it changes.
    """

    def __init__(self, *, start: float, end: float, at_progress: Annotated[float, Ge(0), Le(1)] = 0.5) -> None:
        self.start, self.end, self.at_progress = start, end, at_progress

    def at(self, progress: float) -> float:
        """Its value after this share of the stage."""
        return self.start if progress < self.at_progress else self.end


class Ramps:
    """The ramps among a module's attributes; each is replaced by its present value before every step.

    A method therefore always reads plain numbers. The ramps themselves are remembered on the module, so that a second
    stage of the same method begins from them again.

    Args:
        module: A method; the methods it is composed of are its submodules and are searched too.
    """

    def __init__(self, module: nn.Module) -> None:
        self._found: list[tuple[nn.Module, str, Ramp]] = []
        for part in module.modules():
            remembered: dict[str, Any] = part.__dict__.setdefault("_tutelage_ramps", {})
            remembered.update({name: value for name, value in vars(part).items() if isinstance(value, Ramp)})
            self._found.extend((part, name, ramp) for name, ramp in remembered.items())
        self.set(0.0)

    def set(self, progress: float) -> None:
        """Give every ramped attribute its value after this share of the stage."""
        for part, name, ramp in self._found:
            setattr(part, name, ramp.at(progress))

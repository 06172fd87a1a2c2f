"""Fixture: small parts of every kind (arXiv:0000.00000)."""

from __future__ import annotations

import typing as t
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from tutelage.recipe.registry import component, method
from tutelage.recipe.types import Of, Ramped

from . import base as shared
from .base import Base, Positive


@method("fx-inherit", paper="arXiv:0000.00001", route="distill")
class Inherit(Base):
    """Takes everything from its base."""


@method("fx-own", paper="arXiv:0000.00002", route="distill")
class Own(shared.Base):
    """Has its own keys.

    Args:
        temperature: Temperature, may be a ramp.
        mode: Which way.
        layers: Which layers.
        pair: Two numbers.
        inner: A nested augmentation.
        many: Several nested augmentations.
        where: A path.
        flag: A switch.
    """

    slots = {"student": "model", "data": "data", "teacher": "model?", "peers": "model*"}  # noqa: RUF012

    def __init__(
        self,
        *,
        temperature: Annotated[float, Gt(0), Le(20), Ramped()] = 4.0,
        mode: Literal["forward", "reverse"] = "forward",
        layers: list[int] = [1, 2],  # noqa: B006
        pair: tuple[float, float] = (0.9, 0.999),
        inner: Annotated[Any, Of("augment")] | None = None,
        many: Annotated[tuple[Any, ...], Of("augment")] = (),
        where: Path | None = None,
        flag: bool = False,
    ) -> None:
        self.temperature, self.mode, self.layers, self.pair = temperature, mode, layers, pair
        self.inner, self.many, self.where, self.flag = inner, many, where, flag


@component("model", "fx-net")
def net(data: Any, /, *, width: Annotated[int, Ge(1)], depth: t.Optional[int] = None) -> Any:  # noqa: UP045
    """A model that is a tuple.

    Args:
        width: Channels.
        depth: Layers.
    """
    return ("net", data, width, depth)


@component("data", "fx-data")
class Data:
    """A data set.

    Args:
        size: Samples.
    """

    def __init__(self, *, size: Annotated[int, Ge(1)] = 10) -> None:
        self.size = size


@component("augment", "fx-move")
class Move:
    """Move things.

    Args:
        pixels: How far.
    """

    def __init__(self, *, pixels: Annotated[int, Ge(0)] = 1) -> None:
        self.pixels = pixels


@component("optimizer", "fx-sgd")
def sgd(params: Any, /, *, lr: Positive = 0.1) -> Any:
    """Steepest descent.

    Args:
        lr: Learning rate.
    """
    return ("sgd", params, lr)


@component("schedule", "fx-flat")
def flat(steps: int, /, *, warmup: Annotated[int, Ge(0)] = 0) -> Any:
    """No change.

    Args:
        warmup: Steps of rising.
    """
    return lambda step: 1.0


@component("ramp", "fx-line")
class Line:
    """A straight line.

    Args:
        start: First value.
        end: Last value.
    """

    def __init__(self, *, start: float, end: float) -> None:
        self.start, self.end = start, end

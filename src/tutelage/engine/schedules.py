"""Schedules: the learning rate as a multiple of its base, at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from tutelage.recipe.registry import component

Schedule = Callable[[int], float]


def _warmed(steps: int, warmup: float, after: Callable[[float], float]) -> Schedule:
    """A linear rise over the first share of the steps, then ``after`` of the share of the rest."""
    rise = round(steps * warmup)

    def multiplier(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return after((step - rise) / max(steps - rise, 1))

    return multiplier


@component("schedule", "constant")
def constant(steps: int, /, *, warmup: Annotated[float, Ge(0), Lt(1)] = 0.0) -> Schedule:
    """The base learning rate throughout.

    Args:
        steps: Optimiser steps of the stage.
        warmup: Share of the steps over which it first rises linearly.
    """
    return _warmed(steps, warmup, lambda share: 1.0)


@component("schedule", "cosine")
def cosine(
    steps: int, /, *, warmup: Annotated[float, Ge(0), Lt(1)] = 0.0, floor: Annotated[float, Ge(0), Le(1)] = 0.0
) -> Schedule:
    """Half a cosine from the base learning rate down to a floor (arXiv:1608.03983, without restarts).

    Args:
        steps: Optimiser steps of the stage.
        warmup: Share of the steps over which it first rises linearly.
        floor: Where it ends, as a share of the base.
    """
    return _warmed(steps, warmup, lambda share: floor + (1.0 - floor) * (1.0 + math.cos(math.pi * share)) / 2.0)


@component("schedule", "linear")
def linear(
    steps: int, /, *, warmup: Annotated[float, Ge(0), Lt(1)] = 0.0, floor: Annotated[float, Ge(0), Le(1)] = 0.0
) -> Schedule:
    """A straight line from the base learning rate down to a floor.

    Args:
        steps: Optimiser steps of the stage.
        warmup: Share of the steps over which it first rises linearly.
        floor: Where it ends, as a share of the base.
    """
    return _warmed(steps, warmup, lambda share: 1.0 - (1.0 - floor) * share)


@component("schedule", "step")
def step(
    steps: int,
    /,
    *,
    at: list[Annotated[float, Gt(0), Lt(1)]] = [0.625, 0.75, 0.875],  # noqa: B006 - a schedule never changes it
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1,
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.0,
) -> Schedule:
    """Drops by a factor at given shares of the steps; the defaults are 150, 180 and 210 of 240 epochs.

    Args:
        steps: Optimiser steps of the stage.
        at: Shares of the steps at which it drops.
        factor: What it is multiplied by at each drop.
        warmup: Share of the steps over which it first rises linearly; the drops divide what is left.
    """
    drops = tuple(at)
    return _warmed(steps, warmup, lambda share: factor ** sum(share >= drop for drop in drops))


@component("schedule", "exponential")
def exponential(
    steps: int, /, *, end: Annotated[float, Gt(0), Lt(1)] = 0.01, warmup: Annotated[float, Ge(0), Lt(1)] = 0.0
) -> Schedule:
    """Falls by the same factor every step.

    Args:
        steps: Optimiser steps of the stage.
        end: Where it ends, as a share of the base.
        warmup: Share of the steps over which it first rises linearly.
    """
    return _warmed(steps, warmup, lambda share: end**share)


@component("schedule", "one-cycle")
def one_cycle(
    steps: int,
    /,
    *,
    peak: Annotated[float, Gt(0), Lt(1)] = 0.3,
    start: Annotated[float, Gt(0), Le(1)] = 0.04,
    end: Annotated[float, Ge(0), Lt(1)] = 0.0001,
) -> Schedule:
    """Rises to the base learning rate and falls far below where it began, along cosines (arXiv:1708.07120).

    Args:
        steps: Optimiser steps of the stage.
        peak: Share of the steps at which the base is reached.
        start: Where it begins, as a share of the base.
        end: Where it ends, as a share of the base.
    """

    def multiplier(at: int) -> float:
        share = at / max(steps, 1)
        low, place = (start, share / peak) if share < peak else (end, (1.0 - share) / (1.0 - peak))
        return low + (1.0 - low) * (1.0 - math.cos(math.pi * place)) / 2.0

    return multiplier

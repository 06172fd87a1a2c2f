"""Loss terms between the step that makes them and the log that shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Noted(NamedTuple):
    """A number, once it is read.

    Args:
        step: The step that made it.
        name: ``turn/term``.
        value: The number.
    """

    step: int
    name: str
    value: float


class Meter:
    """Collects terms as tensors and turns them into numbers when asked, for reading a number off a GPU waits for it."""

    def __init__(self) -> None:
        self._places: list[tuple[int, str, int]] = []
        self._values: list[Tensor] = []
        self._numbers: list[float] = []
        self._sums: dict[str, float] = {}
        self._weights: dict[str, int] = {}

    def add(self, turn: str, step: int, terms: Mapping[str, Tensor], total: Tensor, count: int) -> None:
        """Note the terms of one part of a turn, averaged over ``count`` samples."""
        for name, value in (*terms.items(), ("loss", total)):
            self._note(step, f"{turn}/{name}", value, count)

    def gradient(self, turn: str, step: int, norm: Tensor) -> None:
        """Note a gradient norm."""
        self._note(step, f"{turn}/gradient", norm, 1)

    def _note(self, step: int, name: str, value: Tensor, count: int) -> None:
        self._places.append((step, name, count))
        self._values.append(value.detach())

    def read(self) -> list[Noted]:
        """What was noted since the last reading, in order; each tensor is read once."""
        start = len(self._numbers)
        fresh = self._values[start:]
        if not fresh:
            return []
        if all(value.device.type == "cpu" for value in fresh):
            self._numbers.extend(value.item() for value in fresh)
        else:
            device = next(value.device for value in fresh if value.device.type != "cpu")
            self._numbers.extend(torch.stack([v.float().reshape(()).to(device) for v in fresh]).tolist())
        return [
            Noted(step, name, value)
            for (step, name, _), value in zip(self._places[start:], self._numbers[start:], strict=True)
        ]

    def flush(self) -> dict[str, float]:
        """Add what was noted to the epoch's means; returns the latest number of each name."""
        self.read()
        latest: dict[str, float] = {}
        for (_, name, count), value in zip(self._places, self._numbers, strict=True):
            latest[name] = value
            if math.isfinite(value):
                self._sums[name] = self._sums.get(name, 0.0) + value * count
                self._weights[name] = self._weights.get(name, 0) + count
        self._places, self._values, self._numbers = [], [], []
        return latest

    def epoch_means(self) -> dict[str, float]:
        """Mean of each name since the last call, over samples."""
        means = {name: self._sums[name] / self._weights[name] for name in self._sums}
        self._sums, self._weights = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """The epoch's sums so far; flush first."""
        return {"sums": dict(self._sums), "weights": dict(self._weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the epoch."""
        self._sums, self._weights = dict(state["sums"]), dict(state["weights"])

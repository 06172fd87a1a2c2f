"""Loss terms between the step that makes them and the log that shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Meter:
    """Collects terms as tensors and turns them into numbers when asked, for reading a number off a GPU waits for it."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.names: list[str] = []
        self.values: list[Tensor] = []
        self.counts: list[int] = []
        self._sums: dict[str, float] = {}
        self._weights: dict[str, int] = {}

    def add(self, turn: str, step: int, terms: Mapping[str, Tensor], total: Tensor, count: int) -> None:
        """Note the terms of one part of a turn, averaged over ``count`` samples."""
        for name, value in (*terms.items(), ("loss", total)):
            self._note(step, f"{turn}/{name}", value, count)

    def gradient(self, turn: str, norm: Tensor) -> None:
        """Note the gradient norm of the turn that was added last."""
        self._note(self.steps[-1], f"{turn}/gradient", norm, 1)

    def _note(self, step: int, name: str, value: Tensor, count: int) -> None:
        self.steps.append(step)
        self.names.append(name)
        self.values.append(value.detach())
        self.counts.append(count)

    def numbers(self) -> list[float]:
        """What was noted since the last flush, in order."""
        if not self.values:
            return []
        if self.values[0].device.type == "cpu":
            return [value.item() for value in self.values]
        return [float(v) for v in torch.stack([value.float().reshape(()) for value in self.values]).tolist()]

    def flush(self) -> dict[str, float]:
        """Add what was noted to the epoch's means; returns the latest number of each name."""
        numbers = self.numbers()
        for name, value, count in zip(self.names, numbers, self.counts, strict=True):
            if math.isfinite(value):
                self._sums[name] = self._sums.get(name, 0.0) + value * count
                self._weights[name] = self._weights.get(name, 0) + count
        latest = dict(zip(self.names, numbers, strict=True))
        for noted in (self.steps, self.names, self.values, self.counts):
            noted.clear()
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

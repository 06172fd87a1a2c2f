"""The window of SWAD: which blocks of a training run lie in one flat valley (arXiv:2102.08604)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tutelage.models.averaging import running_mean

State = Mapping[str, Tensor]


class Valley:
    """Averages blocks from where validation stops improving to where it is worse than tolerated.

    It begins when the oldest of the last ``n_converge`` losses is the smallest of them, with the oldest block that
    waits, and ends when all of the last ``n_tolerance`` losses are above ``tolerance_ratio`` times the mean of those
    that it began with. Every block weighs the same.

    Args:
        n_converge: Losses among which the oldest must be the smallest.
        n_tolerance: Losses that must all be too large.
        tolerance_ratio: How many times larger a loss may be.

    Attributes:
        average: The average so far; ``None`` before it begins.
        blocks: Numbers of the averaged blocks, from 1.
        threshold: The loss that is tolerated.
        ended: Whether the valley is left behind.
    """

    def __init__(self, *, n_converge: int = 3, n_tolerance: int = 6, tolerance_ratio: float = 1.3) -> None:
        self.n_converge, self.n_tolerance, self.ratio = n_converge, n_tolerance, tolerance_ratio
        self.average: State | None = None
        self.blocks: list[int] = []
        self.threshold: float | None = None
        self.ended = False
        self._losses: list[float] = []
        self._waiting: list[tuple[int, State]] = []

    def add(self, loss: float, block: State) -> None:
        """Take in the next block.

        Args:
            loss: Validation loss of the model at the block's end.
            block: Mean of the weights over the block.
        """
        if self.ended:
            return
        self._losses.append(loss)
        self._waiting.append((len(self._losses), block))
        if self.average is None:
            self._begin()
        elif len(self._waiting) >= self.n_tolerance - 1:
            self._take()
            if min(self._losses[-self.n_tolerance :]) > self.threshold_set:
                self.ended = True
                self._waiting.clear()

    def finish(self) -> None:
        """Training is over: what waits belongs to the valley, if it has begun and not ended."""
        while self.average is not None and self._waiting:
            self._take()

    @property
    def threshold_set(self) -> float:
        """The threshold, once it has begun."""
        assert self.threshold is not None
        return self.threshold

    def _begin(self) -> None:
        if len(self._waiting) <= self.n_converge:
            return
        latest = self._losses[-self.n_converge :]
        if latest[0] == min(latest):
            self.threshold = sum(latest) / len(latest) * self.ratio
            self._take()
        else:
            self._waiting.pop(0)

    def _take(self) -> None:
        number, block = self._waiting.pop(0)
        self.average = block if self.average is None else running_mean(self.average, block, len(self.blocks))
        self.blocks.append(number)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {
            "average": None if self.average is None else dict(self.average),
            "blocks": list(self.blocks),
            "threshold": self.threshold,
            "ended": self.ended,
            "losses": list(self._losses),
            "waiting": [(number, dict(block)) for number, block in self._waiting],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.average, self.blocks = state["average"], list(state["blocks"])
        self.threshold, self.ended = state["threshold"], state["ended"]
        self._losses, self._waiting = list(state["losses"]), list(state["waiting"])

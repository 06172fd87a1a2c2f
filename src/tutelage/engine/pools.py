"""Further examples beside a stage's own: a batch of each with every step."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.data.batch import Batch
from tutelage.data.loader import Loader


class Pool:
    """Batches of a pool, one after the other, over and over; any of them can be the first.

    Args:
        loader: Of the pool's examples.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self._batches: Iterator[Batch] = iter(())
        self._next = -1

    def batch(self, index: int) -> Batch:
        """The batch of this place in the whole sequence; cheapest in order."""
        epoch, start = divmod(index, self.loader.steps_per_epoch)
        if index != self._next or start == 0:
            self._batches = self.loader.epoch(epoch, start)
        self._next = index + 1
        return next(self._batches)

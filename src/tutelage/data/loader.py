"""Batches in an order that is a function of (seed, epoch), for any number of ranks, workers and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tutelage.data.batch import Batch
from tutelage.data.seeds import derive, mix, shuffle
from tutelage.data.splits import Examples
from tutelage.recipe.errors import InputError, RunError

Augmentation = Callable[[Batch], Batch]


def apply(batch: Batch, augment: Sequence[Augmentation]) -> Batch:
    """Pass a whole batch through a chain of augmentations, on the device it is on.

    Each augmentation sees seeds of its own place in the chain, so that two of the same kind decide independently; the
    result carries the batch's own seeds again, and applying the chain twice to the same batch gives the same views.
    """
    seeds = batch.seeds
    for place, augmentation in enumerate(augment):
        batch = augmentation(batch.with_(seeds=derive(seeds, place)))
    return batch.with_(seeds=seeds) if augment else batch


def micro(batch: Batch, parts: int) -> list[Batch]:
    """Divide a batch into contiguous parts whose sizes differ by at most one, for gradient accumulation.

    Args:
        batch: The batch of one optimiser step.
        parts: How many parts, at least 1; a batch smaller than this gives one part a sample.

    Raises:
        ValueError: ``parts`` is below 1.
    """
    if parts < 1:
        raise ValueError(f"a batch is divided into 1 part or more, not {parts}")
    if parts == 1:
        return [batch]
    return batch.divided(min(parts, max(len(batch), 1)))


def share(count: int, rank: int, world: int) -> slice:
    """A rank's contiguous part of ``count`` samples; the first ``count % world`` ranks have one more."""
    size, extra = divmod(count, world)
    start = rank * size + min(rank, extra)
    return slice(start, start + size + (rank < extra))


def bucketed(order: Tensor, lengths: Tensor, batch_size: int, seed: int, epoch: int, *, pool: int = 32) -> Tensor:
    """An order in which samples of a batch are about equally long, so that little is filled up.

    Within every ``pool`` batches of the order samples are sorted by length; then the batches change places.

    Args:
        order: ``[count]`` int64 positions.
        lengths: ``[count]`` int64 length of the sample at each position.
        batch_size: Samples of a batch.
        seed: Seed of the order.
        epoch: The epoch.
        pool: Batches whose samples are sorted together.
    """
    parts = [part[lengths[part].argsort(stable=True)] for part in order.split(batch_size * pool)]
    batches = list(torch.cat(parts).split(batch_size))
    whole = len(batches) if len(batches[-1]) == batch_size else len(batches) - 1
    places = shuffle(whole, seed + 1, epoch).tolist() if whole > 1 else range(whole)
    return torch.cat([*(batches[place] for place in places), *batches[whole:]])


class _Fetched(Dataset[Batch]):
    """Examples as DataLoader sees them: one call a batch."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.examples.fetch(indices)


class _Plan:
    """The batches of the coming epoch; refilled in place, because persistent workers keep their sampler."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _as_fetched(batch: Any) -> Any:
    return batch


class Loader:
    """Batches of examples.

    Global batch ``i`` of an epoch is a fixed slice of an order that depends on (seed, epoch) alone; a rank receives its
    contiguous part of every global batch, so the union over ranks is the batch that one process would have seen.

    Args:
        examples: What to load.
        batch_size: Samples of one optimiser step, over all ranks.
        seed: Seed of the order and of the views.
        shuffle: Reorder every epoch; otherwise the examples' own order.
        augment: Augmentations applied here, on the CPU. Leave empty to ``apply`` them on the model's device.
        workers: Processes that fetch ahead; 0 fetches in this one, which is fastest for data in memory.
        rank: This process.
        world: Number of processes.
        drop_last: Leave out an incomplete last batch.
        views: How many different views of a sample there are: epoch e shows those of epoch e modulo this; ``None``:
            each epoch shows new ones. The order is always the epoch's own.
        pin_memory: Put batches into page-locked memory, from where a GPU copies asynchronously.

    Raises:
        InputError: There is nothing to load, or some rank would be left without a sample.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        augment: Sequence[Augmentation] = (),
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        views: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        count = len(examples)
        if batch_size < 1 or workers < 0 or not 0 <= rank < world:
            raise InputError(
                f"batch_size {batch_size} >= 1, workers {workers} >= 0 and 0 <= rank {rank} < world {world} must hold"
            )
        if count == 0:
            raise InputError("there is nothing to load: the split has no samples")
        self.steps_per_epoch = count // batch_size if drop_last else -(-count // batch_size)
        if self.steps_per_epoch == 0:
            raise InputError(
                f"batch_size {batch_size} is larger than the split: choose at most {count}, its number of samples"
            )
        last = batch_size if drop_last else count - (self.steps_per_epoch - 1) * batch_size
        if min(batch_size, last) < world:
            raise InputError(
                f"the last batch of an epoch has {last} samples for {world} processes ({count} samples in "
                f"batches of {batch_size}): "
                "choose another batch_size or limit, or drop the last batch"
            )
        self.examples, self.batch_size, self.seed, self.shuffled = examples, batch_size, seed, shuffle
        self.augment, self.workers, self.rank, self.world = tuple(augment), workers, rank, world
        self.pin_memory, self.views = pin_memory, views
        self._count = count
        self._plan = _Plan()
        self._ahead: DataLoader[Batch] | None = None
        self._latest = 0

    def __len__(self) -> int:
        return self.steps_per_epoch

    def order(self, epoch: int) -> Tensor:
        """``[count]`` int64: positions in the order of an epoch, over all ranks."""
        if not self.shuffled:
            return torch.arange(self._count)
        order = shuffle(self._count, self.seed, epoch)
        lengths = getattr(self.examples, "lengths", None)
        return order if lengths is None else bucketed(order, lengths, self.batch_size, self.seed, epoch)

    def view(self, epoch: int) -> int:
        """The epoch whose views an epoch shows."""
        return epoch if self.views is None else epoch % self.views

    def global_size(self, step: int) -> int:
        """Samples of a step's batch over all ranks: what a mean over the whole batch divides by."""
        return min(self.batch_size, self._count - step * self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's batches of an epoch, from step ``start``; what comes before it is not fetched.

        Raises:
            InputError: ``start`` is outside the epoch.
            RunError: With workers, an earlier iterator is used after a later one began: they share the workers.
        """
        if not 0 <= start <= self.steps_per_epoch:
            raise InputError(f"an epoch has {self.steps_per_epoch} steps, so it cannot start at step {start}")
        order = self.order(epoch)
        bounds = [self._bounds(step) for step in range(start, self.steps_per_epoch)]
        seeds = self._seeds(epoch, order)
        fetched = (
            self._fetch_ahead(order, bounds) if self.workers else (self.examples.fetch(order[a:b]) for a, b in bounds)
        )
        return self._views(epoch, fetched, bounds, seeds)

    def _views(
        self, epoch: int, fetched: Iterator[Batch], bounds: list[tuple[int, int]], seeds: Tensor | None
    ) -> Iterator[Batch]:
        for (start, stop), batch in zip(bounds, fetched, strict=True):
            own = mix(self.seed, self.view(epoch), batch.ids) if seeds is None else seeds[start:stop]
            view = batch.with_(seeds=own)
            if self.augment:
                view = apply(view, self.augment)
            yield view.pin_memory() if self.pin_memory else view

    def _bounds(self, step: int) -> tuple[int, int]:
        """Where this rank's part of a step lies in the order."""
        part = share(self.global_size(step), self.rank, self.world)
        return step * self.batch_size + part.start, step * self.batch_size + part.stop

    def _seeds(self, epoch: int, order: Tensor) -> Tensor | None:
        """Seeds of the whole epoch, where ids are known without fetching: cheaper than a few operations a step."""
        ids = getattr(self.examples, "ids", None)
        return mix(self.seed, self.view(epoch), ids[order]) if isinstance(ids, Tensor) else None

    def _fetch_ahead(self, order: Tensor, bounds: list[tuple[int, int]]) -> Iterator[Batch]:
        self._latest += 1
        mine = self._latest
        self._plan.batches = [order[start:stop].tolist() for start, stop in bounds]
        if self._ahead is None:
            self._ahead = DataLoader(
                _Fetched(self.examples),
                batch_sampler=self._plan,
                collate_fn=_as_fetched,
                num_workers=self.workers,
                persistent_workers=True,
            )
        for batch in self._ahead:
            yield batch
            if mine != self._latest:
                raise RunError("an epoch was continued after a later one began; with workers, finish or drop it first")

"""Splits of a data set, and the examples they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.dividing import by_class
from tutelage.data.domains import Domains
from tutelage.recipe.errors import InputError

Indices = Sequence[int] | Tensor


@runtime_checkable
class Examples(Protocol):
    """Samples that can be fetched by position.

    An implementation may also offer ``ids`` and ``labels`` (``[count]`` int64), which save fetching where only these
    are needed.
    """

    def __len__(self) -> int: ...

    def fetch(self, indices: Indices) -> Batch:
        """The samples at these positions, in this order, with zero seeds."""
        ...


@dataclass(frozen=True)
class Splits:
    """A data set divided into parts that share no sample.

    Args:
        train: What is learned from.
        validation: What decisions during training are made on, or ``None``.
        test: What the report's numbers are measured on.
        info: Facts that models are built from.
        warnings: What a reader of the report must know: rows skipped, classes too small to split.
        record: How the parts were made (fractions, seed, sizes, files), for the run's manifest.
        unlabelled: Samples to learn from whose labels are hidden and read -1, or ``None``.
        domains: Where each sample comes from, for data of several domains.
        triggered: Test samples that bear a trigger, with the label that the attacker wants; ``None`` for clean data.
    """

    train: Examples
    validation: Examples | None
    test: Examples
    info: DataInfo
    warnings: list[str] = field(default_factory=list)
    record: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: Examples | None = None
    domains: Domains | None = None
    triggered: Examples | None = None


class TensorExamples:
    """Examples held in memory.

    Args:
        inputs: ``[count, *input_shape]`` float32, or uint8 where ``scale`` is given.
        labels: ``[count]`` int64 class indices.
        ids: ``[count]`` int64 stable positions in the data set; ``0 .. count - 1`` when left out.
        scale: ``(factor, offset)`` applied to what is fetched, broadcast over a sample: bytes stay bytes in memory.

    Raises:
        InputError: The lengths differ.
    """

    def __init__(
        self, inputs: Tensor, labels: Tensor, ids: Tensor | None = None, *, scale: tuple[Tensor, Tensor] | None = None
    ) -> None:
        # A float tensor is scaled once, here.
        if scale is not None and inputs.dtype == torch.float32:
            inputs, scale = inputs * scale[0] + scale[1], None
        self.inputs = inputs
        self.scale = scale
        self.labels = labels
        self.ids = torch.arange(len(labels)) if ids is None else ids
        if not len(inputs) == len(labels) == len(self.ids):
            raise InputError(
                f"{len(inputs)} inputs, {len(labels)} labels and {len(self.ids)} ids: expected as many of each"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def fetch(self, indices: Indices) -> Batch:
        """The samples at these positions, by one gather of each field."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        inputs = self.inputs.index_select(0, index)
        if self.scale is not None:
            inputs = inputs.float().mul_(self.scale[0]).add_(self.scale[1])
        return Batch(
            inputs,
            self.labels.index_select(0, index),
            self.ids.index_select(0, index),
            torch.zeros(len(index), dtype=torch.int64),
        )

    def select(self, positions: Tensor) -> TensorExamples:
        """Only these samples, with their ids."""
        return TensorExamples(self.inputs[positions], self.labels[positions], self.ids[positions], scale=self.scale)


class Nothing:
    """Samples without content, for stages that make their own inputs: identities and seeds, and zeros for the rest.

    Args:
        info: Gives the inputs' shape.
        count: How many samples an epoch has.
    """

    def __init__(self, info: DataInfo, count: int) -> None:
        self.shape, self.count = info.input_shape, count
        self.ids = torch.arange(count)

    def __len__(self) -> int:
        return self.count

    def fetch(self, indices: Indices) -> Batch:
        """Zeros, with the label -1 that no class has."""
        ids = torch.as_tensor(indices, dtype=torch.int64)
        labels = torch.full((len(ids),), -1, dtype=torch.int64)
        return Batch(torch.zeros(len(ids), *self.shape), labels, ids, torch.zeros(len(ids), dtype=torch.int64))


class Subset:
    """Some positions of other examples, which stay where they are.

    Args:
        examples: The whole.
        positions: ``[count]`` int64 positions in it.
    """

    def __init__(self, examples: Examples, positions: Tensor) -> None:
        self.examples = examples
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def labels(self) -> Tensor:
        """``[count]`` int64."""
        return labels_of(self.examples)[self.positions]

    def fetch(self, indices: Indices) -> Batch:
        """The samples at these positions of the subset."""
        return self.examples.fetch(self.positions[torch.as_tensor(indices, dtype=torch.int64)])


def passing(examples: Examples, batch_size: int) -> Iterator[Batch]:
    """All samples once, in the examples' own order."""
    for start in range(0, len(examples), batch_size):
        yield examples.fetch(range(start, min(start + batch_size, len(examples))))


class Joined:
    """Some examples and others after them.

    Args:
        first: What comes first.
        second: What comes after it.
    """

    def __init__(self, first: Examples, second: Examples) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def labels(self) -> Tensor:
        """``[count]`` int64."""
        return torch.cat([labels_of(self.first), labels_of(self.second)])

    def fetch(self, indices: Indices) -> Batch:
        """The samples at these positions, of either."""
        index, border = torch.as_tensor(indices, dtype=torch.int64), len(self.first)
        early = index < border
        if bool(early.all()) or not bool(early.any()):
            return self.first.fetch(index) if bool(early.all()) else self.second.fetch(index - border)
        parts = [self.first.fetch(index[early]), self.second.fetch(index[~early] - border)]
        back = torch.cat([early.nonzero().flatten(), (~early).nonzero().flatten()]).argsort()
        fields = ("inputs", "labels", "ids", "seeds")
        return Batch(*(torch.cat([getattr(part, name) for part in parts])[back] for name in fields))


def labels_of(examples: Examples) -> Tensor:
    """``[count]`` int64: all labels, read without the inputs where the examples keep them apart."""
    labels = getattr(examples, "labels", None)
    if isinstance(labels, Tensor):
        return labels
    return torch.cat([batch.labels for batch in passing(examples, 1024)])


def ids_of(examples: Examples) -> Tensor:
    """``[count]`` int64: all identities, read without the inputs where the examples keep them apart."""
    ids = getattr(examples, "ids", None)
    if isinstance(ids, Tensor):
        return ids
    if isinstance(examples, Subset):
        return ids_of(examples.examples)[examples.positions]
    return torch.cat(
        [examples.fetch(range(at, min(at + 1024, len(examples)))).ids for at in range(0, len(examples), 1024)]
    )


def select(examples: Examples, positions: Tensor) -> Examples:
    """Only these positions of the examples; ids stay."""
    own = getattr(examples, "select", None)
    chosen: Examples = own(positions) if callable(own) else Subset(examples, positions)
    return chosen


def limit(examples: Examples, count: int | None, seed: int) -> Examples:
    """The first ``count`` examples of a seeded shuffle that takes the classes in turn.

    A smaller limit is a prefix of a larger one, so that a curve over data sizes only ever adds samples.

    Args:
        examples: What to choose from.
        count: How many; ``None`` for all.
        seed: Seed of the choice.

    Raises:
        InputError: ``count`` is below 1 or above the number of examples.
    """
    if count is None:
        return examples
    if not 1 <= count <= len(examples):
        raise InputError(f"limit {count} is outside 1..{len(examples)}: the training split has {len(examples)} samples")
    turns = [
        (turn, place, int(p)) for place, c in enumerate(by_class(labels_of(examples), seed)) for turn, p in enumerate(c)
    ]
    turns.sort()
    return select(examples, torch.tensor([position for _, _, position in turns[:count]]))

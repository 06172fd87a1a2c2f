"""What was measured of a model whose answers are no logits for classes: of texts, rankings, sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tutelage.measure.bootstrap import mean_interval
from tutelage.measure.number import Number

Groups = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Scored:
    """A model's scores on the samples of one split, ready to be averaged, compared and reported.

    Args:
        name: Whose they are, e.g. ``student``.
        ids: ``[n]`` int64: each sample's stable identity.
        samples: By group (see `GROUPS`) and name, ``[n]`` values whose mean is the score.
        numbers: By group and name, scores that are no mean over samples, with their intervals.
        lower_is_better: Names of ``quality`` scores that are better when lower.
        right: ``[n]`` bool, where a sample can be right or wrong: of what the source gets right, how much is kept?

    Raises:
        ValueError: Shapes do not fit the identities, or there is no sample.
    """

    name: str
    ids: Tensor
    samples: Groups
    numbers: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)
    lower_is_better: frozenset[str] = frozenset()
    right: Tensor | None = None

    def __post_init__(self) -> None:
        if not len(self.ids):
            raise ValueError(f"'{self.name}' was measured on no sample")
        every = {f"{group}.{name}": v for group, values in self.samples.items() for name, v in values.items()}
        if self.right is not None:
            every["right"] = self.right
        for name, values in every.items():
            if tuple(values.shape) != (len(self.ids),):
                raise ValueError(f"{name} of '{self.name}' must be [{len(self.ids)}], not {list(values.shape)}")

    def __len__(self) -> int:
        return len(self.ids)

    def measures(self) -> dict[str, dict[str, Number]]:
        """All its scores by group and name, means with their bootstrap intervals."""
        found: dict[str, dict[str, Number]] = {}
        for group, values in self.samples.items():
            found.setdefault(group, {}).update({name: mean_interval(v.double().numpy()) for name, v in values.items()})
        for group, numbers in self.numbers.items():
            found.setdefault(group, {}).update(numbers)
        return found

    def aligned_to(self, other: Scored) -> Scored:
        """The same scores in the other's sample order.

        Raises:
            ValueError: The two are not about the same samples.
        """
        if torch.equal(self.ids, other.ids):
            return self
        here, there = self.ids.argsort(stable=True), other.ids.argsort(stable=True)
        if len(self) != len(other) or not torch.equal(self.ids[here], other.ids[there]):
            raise ValueError(f"'{self.name}' and '{other.name}' were measured on different samples")
        order = torch.empty_like(here)
        order[there] = here
        moved = {group: {name: v[order] for name, v in values.items()} for group, values in self.samples.items()}
        right = None if self.right is None else self.right[order]
        return replace(self, ids=self.ids[order], samples=moved, right=right)

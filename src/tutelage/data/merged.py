"""Another data set with its classes merged into fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.outline import Outline
from tutelage.data.splits import Examples, Indices, Splits, labels_of, select
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import component
from tutelage.recipe.spec import fingerprint
from tutelage.recipe.types import Of


class MergedExamples:
    """Examples under coarser labels, which remember the finer ones.

    Args:
        examples: With the finer labels.
        coarse: ``[fine classes]`` int64: the coarse class of each.
    """

    def __init__(self, examples: Examples, coarse: Tensor) -> None:
        self.examples, self.coarse = examples, coarse

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def fine(self) -> Tensor:
        """``[count]`` int64: the labels before merging."""
        return labels_of(self.examples)

    @property
    def labels(self) -> Tensor:
        """``[count]`` int64."""
        return self.coarse[self.fine]

    def fetch(self, indices: Indices) -> Batch:
        """The samples at these positions."""
        batch = self.examples.fetch(indices)
        return batch.with_(labels=self.coarse[batch.labels])

    def select(self, positions: Tensor) -> MergedExamples:
        """Only these samples."""
        return MergedExamples(select(self.examples, positions), self.coarse)


@component("data", "merged")
@dataclass(frozen=True, kw_only=True)
class Merged:
    """The samples of another data set, in fewer and coarser classes, such as odd and even digits.

    Args:
        of: The data set.
        groups: The coarse classes: of each, the classes that it is made of, by number or name. Every class belongs to
            one group.
        names: Names of the coarse classes; ``null`` to join the names of their parts.
    """

    of: Annotated[Any, Of("data")]
    groups: list[list[int | str]]
    names: list[str] | None = None

    def outline(self) -> Outline:
        """Sizes and shapes."""
        own = getattr(self.of, "outline", None)
        if not callable(own):
            splits = self.of.load(0)
            sizes = [len(part) if part is not None else 0 for part in (splits.train, splits.validation, splits.test)]
            return Outline(self._info(splits.info), *sizes)
        whole: Outline = own()
        return whole._replace(info=self._info(whole.info))

    def load(self, seed: int) -> Splits:
        """The data set's own splits, merged.

        Args:
            seed: The run's seed, for the data set.

        Raises:
            InputError: A class is in no group or in several, or does not exist.
        """
        splits: Splits = self.of.load(seed)
        info = self._info(splits.info)
        coarse = self._coarse(splits.info.class_names)
        record = {**splits.record, "merged": {"groups": self.groups, "classes": list(info.class_names)}}
        return replace(
            splits,
            train=MergedExamples(splits.train, coarse),
            validation=MergedExamples(splits.validation, coarse) if splits.validation is not None else None,
            test=MergedExamples(splits.test, coarse),
            info=info,
            record=record,
        )

    def _info(self, info: DataInfo) -> DataInfo:
        joined = ["+".join(info.class_names[i] for i in group) for group in self._numbers(info.class_names)]
        names = self.names or joined
        if len(names) != len(joined):
            raise InputError(f"data.names: {len(names)} names for {len(joined)} groups; expected as many")
        mark = fingerprint([info.fingerprint, self.groups]) if info.fingerprint else ""
        return replace(info, classes=len(names), class_names=tuple(names), fingerprint=mark)

    def _coarse(self, names: Sequence[str]) -> Tensor:
        coarse = torch.empty(len(names), dtype=torch.int64)
        for number, group in enumerate(self._numbers(names)):
            coarse[group] = number
        return coarse

    def _numbers(self, names: Sequence[str]) -> list[list[int]]:
        numbers = [[_number(one, names) for one in group] for group in self.groups]
        every = [one for group in numbers for one in group]
        again = sorted({names[one] for one in every if every.count(one) > 1})
        missing = [name for i, name in enumerate(names) if i not in every]
        if again or missing or len(numbers) < 2 or not all(numbers):
            wrong = "; ".join(
                [f"in several: {', '.join(again)}"] * bool(again) + [f"in none: {', '.join(missing)}"] * bool(missing)
            )
            raise InputError(
                f"data.groups: expected two groups or more, with each of the {len(names)} classes in one of them"
                + (f"; {wrong}" if wrong else "")
            )
        return numbers


def _number(one: int | str, names: Sequence[str]) -> int:
    if isinstance(one, str):
        if one not in names:
            raise InputError(f"data.groups: there is no class '{one}'. {nearest(one, names)}")
        return list(names).index(one)
    if not 0 <= one < len(names):
        raise InputError(f"data.groups: there is no class {one}; expected 0 to {len(names) - 1}, or a name")
    return one

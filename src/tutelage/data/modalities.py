"""Samples of several modalities, each in channels of its own; a model's ``channels`` key says which of them it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.outline import Outline
from tutelage.data.pool import fingerprint
from tutelage.data.seeds import shuffle
from tutelage.data.splits import Examples, Indices, Splits, ids_of, labels_of
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.types import Of


class Paired:
    """Examples joined to others: the inputs of both, one after the other along the channels.

    Args:
        first: Gives ids and labels.
        second: What they are joined to.
        partners: ``[count]`` int64: the position in ``second`` of each of the first's partners.
    """

    def __init__(self, first: Examples, second: Examples, partners: Tensor) -> None:
        self.first, self.second, self.partners = first, second, partners
        self.labels, self.ids = labels_of(first), ids_of(first)

    def __len__(self) -> int:
        return len(self.first)

    def fetch(self, indices: Indices) -> Batch:
        """The pairs at these positions."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        batch = self.first.fetch(index)
        return batch.with_(inputs=torch.cat([batch.inputs, self.second.fetch(self.partners[index]).inputs], 1))


class Seen:
    """Examples through a function of their inputs.

    Args:
        examples: What is looked at.
        view: ``[batch, *input_shape]`` to what is seen of it.
    """

    def __init__(self, examples: Examples, view: Callable[[Tensor], Tensor]) -> None:
        self.examples, self.view = examples, view
        self.labels, self.ids = labels_of(examples), ids_of(examples)

    def __len__(self) -> int:
        return len(self.examples)

    def fetch(self, indices: Indices) -> Batch:
        """The samples at these positions."""
        batch = self.examples.fetch(indices)
        return batch.with_(inputs=self.view(batch.inputs))


def match(first: Tensor, second: Tensor, seed: int) -> Tensor:
    """``[count]`` int64: for each of the first, a position in the second with the same label.

    Partners are taken in a seeded order, each of them once before any is taken again.

    Args:
        first: ``[count]`` int64 labels.
        second: ``[others]`` int64 labels.
        seed: Seed of the order.

    Raises:
        InputError: The second lacks a label.
    """
    order, partners = shuffle(len(second), seed), torch.empty_like(first)
    for label in first.unique().tolist():
        mine, theirs = (first == label).nonzero().flatten(), order[second[order] == label]
        if not len(theirs):
            raise InputError(f"no partner has the label {label}")
        partners[mine] = theirs[torch.arange(len(mine)) % len(theirs)]
    return partners


@component("data", "paired")
@dataclass(frozen=True, kw_only=True)
class PairedData:
    """Two data sets joined by their labels into samples of two modalities, ``[channels of both, height, width]``.

    Each sample of the first meets a sample of the second with the same class and in the same part, so that training
    and test share none. The first decides how many there are; partners are used again where it has more.

    Args:
        first: The data set whose ids and order are kept.
        second: The data set joined to it; its shape must be the same but for the channels.
        pair_seed: Seed of who meets whom; it does not follow the run's seed.
    """

    first: Annotated[Any, Of("data")]
    second: Annotated[Any, Of("data")]
    pair_seed: Annotated[int, Ge(0)] = 0

    def load(self, seed: int) -> Splits:
        """Load both and join them.

        Args:
            seed: The run's seed, for the two data sets.

        Raises:
            InputError: Classes or shapes do not fit, or one lacks a part or a class that the other has.
        """
        one: Splits = self.first.load(seed)
        two: Splits = self.second.load(seed)
        names, others = one.info.class_names, two.info.class_names
        if sorted(names) != sorted(others):
            raise InputError(f"the data sets to be paired have different classes: {_few(names)} and {_few(others)}")
        shapes = one.info.input_shape, two.info.input_shape
        if shapes[0][1:] != shapes[1][1:]:
            raise InputError(
                f"the data sets to be paired have the shapes {list(shapes[0])} and {list(shapes[1])}: all but the "
                "first number must agree (audio takes 'bins' and 'frames', folders and tables take 'size')"
            )
        renamed = torch.tensor([names.index(name) for name in others])

        def joined(name: str) -> Paired | None:
            first, second = getattr(one, name), getattr(two, name)
            if first is None:
                return None
            if second is None:
                raise InputError(f"the second data set has no {name} split to pair the first's with")
            try:
                partners = match(labels_of(first), renamed[labels_of(second)], self.pair_seed)
            except InputError as error:
                raise InputError(f"the second data set's {name} split cannot be paired: {error}") from error
            return Paired(first, second, partners)

        train, test = joined("train"), joined("test")
        assert train is not None
        assert test is not None
        how = {"pair_seed": self.pair_seed, "of": [one.info.fingerprint, two.info.fingerprint]}
        channels = [shape[0] for shape in shapes]
        info = replace(
            one.info,
            input_shape=(sum(channels), *shapes[0][1:]),
            fingerprint=fingerprint([], {"data": "paired", **how}),
        )
        record = {
            "data": "paired",
            "channels": channels,
            "pair_seed": self.pair_seed,
            "first": one.record,
            "second": two.record,
            "sizes": one.record.get("sizes"),
        }
        warnings = [*one.warnings, *two.warnings]
        validation = joined("validation")
        return replace(one, train=train, validation=validation, test=test, info=info, warnings=warnings, record=record)


@component("data", "halves")
@dataclass(frozen=True, kw_only=True)
class Halves:
    """Images whose left and right halves are two modalities: ``[2 * channels, height, width / 2]``, the left first.

    Args:
        of: The images.
    """

    of: Annotated[Any, Of("data")] = "digits"

    def outline(self) -> Outline:
        """Sizes and shapes, without reading more than the images need for theirs."""
        own = getattr(self.of, "outline", None)
        if callable(own):
            base: Outline = own()
            return base._replace(info=self._info(base.info))
        splits = self.load(0)
        validation = 0 if splits.validation is None else len(splits.validation)
        return Outline(splits.info, len(splits.train), validation, len(splits.test))

    def load(self, seed: int) -> Splits:
        """Load the images and cut them.

        Args:
            seed: The run's seed, for the images.

        Raises:
            InputError: They are no images, or of odd width.
        """
        whole: Splits = self.of.load(seed)
        info = self._info(whole.info)
        return replace(
            whole,
            train=Seen(whole.train, halve),
            validation=None if whole.validation is None else Seen(whole.validation, halve),
            test=Seen(whole.test, halve),
            info=info,
            record={**whole.record, "data": "halves", "channels": [info.input_shape[0] // 2] * 2, "of": whole.record},
        )

    def _info(self, info: DataInfo) -> DataInfo:
        shape = info.input_shape
        if len(shape) != 3 or shape[2] % 2:
            raise InputError(f"'halves' needs images of an even width [channels, height, width], not {list(shape)}")
        mark = fingerprint([], {"data": "halves", "of": info.fingerprint})
        return replace(info, input_shape=(2 * shape[0], shape[1], shape[2] // 2), fingerprint=mark)


def halve(images: Tensor) -> Tensor:
    """``[batch, channels, height, width]`` to ``[batch, 2 * channels, height, width / 2]``, the left half first."""
    return torch.cat(images.chunk(2, dim=3), 1)


def _few(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''} ({len(names)})"

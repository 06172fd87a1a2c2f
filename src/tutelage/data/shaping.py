"""What a recipe's ``data`` keys make of a training split: fewer samples, a long tail, most labels hidden."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.seeds import shuffle
from tutelage.data.splits import Examples, Indices, Splits, ids_of, labels_of, limit, select
from tutelage.recipe.errors import InputError


class Unlabelled:
    """Examples whose labels read -1.

    Args:
        examples: The same samples with their labels, which only `answer` gives away.
    """

    def __init__(self, examples: Examples) -> None:
        self._examples = examples
        self.ids = ids_of(examples)
        self.labels = torch.full((len(examples),), -1, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._examples)

    def fetch(self, indices: Indices) -> Batch:
        """The samples at these positions, without their labels."""
        batch = self._examples.fetch(indices)
        return batch.with_(labels=torch.full_like(batch.labels, -1))

    def select(self, positions: Tensor) -> Unlabelled:
        """Only these samples, still without their labels."""
        return Unlabelled(select(self._examples, positions))

    def answer(self, positions: Tensor) -> Examples:
        """These samples with their labels: what an annotator would say when asked about them."""
        return select(self._examples, positions)


def shape(splits: Splits, keys: Mapping[str, Any], seed: int) -> Splits:
    """The splits as a recipe's ``limit``, ``imbalance`` and ``labelled`` want them, in this order.

    Validation and test stay as they are. The number of training samples of each class goes into the facts about the
    data, and what was done into the record.

    Args:
        splits: The whole data set.
        keys: The keys that all data sets share.
        seed: The run's seed.

    Raises:
        InputError: There are not enough samples for one of them.
    """
    classes, train, unlabelled = splits.info.classes, splits.train, splits.unlabelled
    asked = {key: keys[key] for key in ("limit", "imbalance", "labelled") if keys.get(key) is not None}
    if not splits.info.classified:
        return _without_classes(splits, asked, seed)
    train = limit(train, asked.get("limit"), seed)
    if "imbalance" in asked:
        train = long_tailed(train, asked["imbalance"], classes, seed, names=splits.info.class_names)
    if "labelled" in asked:
        if unlabelled is not None:
            raise InputError("data.labelled: this data set comes with an unlabelled part already")
        train, unlabelled = hide(train, asked["labelled"], classes, seed)
    record = dict(splits.record)
    info = splits.info
    # Counting would read all of a data set that does not keep its labels apart.
    if asked or isinstance(getattr(train, "labels", None), Tensor):
        counts = torch.bincount(labels_of(train), minlength=classes).tolist()
        info = replace(info, class_counts=tuple(counts))
        record |= {**asked, "class_counts": counts}
    return replace(splits, train=train, unlabelled=unlabelled, info=info, record=record)


def _without_classes(splits: Splits, asked: Mapping[str, Any], seed: int) -> Splits:
    """As `shape`, where a sample has no class: only their number can be limited."""
    wrong = [key for key in asked if key != "limit"]
    if wrong:
        raise InputError(f"data.{wrong[0]}: samples of this data have no class to count; leave it out, or use `limit`")
    if "limit" not in asked:
        return splits
    count, whole = asked["limit"], len(splits.train)
    if count > whole:
        raise InputError(f"limit {count} is outside 1..{whole}: the training split has {whole} samples")
    kept = select(splits.train, shuffle(whole, seed, epoch=0)[:count].sort().values)
    return replace(splits, train=kept, record={**splits.record, **asked})


def training_size(train: int, classes: int, keys: Mapping[str, Any]) -> int:
    """How many training samples would keep their labels if the classes were equally large, before anything is read."""
    size = min(train, keys.get("limit") or train)
    if keys.get("imbalance") is not None:
        size = int(tail(torch.full((classes,), size // classes), keys["imbalance"]).sum())
    return min(size, keys.get("labelled") or size)


def tail(available: Tensor, imbalance: float) -> Tensor:
    """``[classes]`` int64: the sizes n_c = ⌊n_0 · imbalance^(−c / (C − 1))⌋ of a long tail (arXiv:1901.05555, 5.1).

    n_0 is the largest that every class has enough samples for.

    Args:
        available: ``[classes]`` int64 samples of each class.
        imbalance: How many times larger the first class is than the last, at least 1.
    """
    places = torch.arange(len(available), dtype=torch.float64) / max(len(available) - 1, 1)
    shares = float(imbalance) ** -places
    first = torch.floor((available / shares).min() + 1e-9)
    return torch.floor(first * shares + 1e-9).long()


def long_tailed(examples: Examples, imbalance: float, classes: int, seed: int, names: tuple[str, ...] = ()) -> Examples:
    """Examples whose classes become rarer in label order, see `tail`; which ones stay is seeded.

    A larger imbalance leaves a subset of a smaller one wherever the first class stays as large.

    Raises:
        InputError: A class would be left without a sample.
    """
    labels = labels_of(examples)
    wanted = tail(torch.bincount(labels, minlength=classes), imbalance)
    if int(wanted.min()) < 1:
        empty = int(wanted.argmin())
        most = math.floor(float(torch.bincount(labels, minlength=classes).min()))
        raise InputError(
            f"data.imbalance {imbalance:g} empties class '{names[empty] if names else empty}': the first class has "
            f"{int(wanted[0])} samples, so choose at most {max(most, 1)}"
        )
    order = shuffle(len(labels), seed, epoch=1)
    kept = [order[labels[order] == label][:count] for label, count in enumerate(wanted.tolist())]
    return select(examples, torch.cat(kept).sort().values)


def hide(examples: Examples, labelled: int, classes: int, seed: int) -> tuple[Examples, Unlabelled | None]:
    """A balanced, seeded choice of samples that keep their labels, and the others without; ``None`` for no others.

    More labels only ever add to fewer.

    Raises:
        InputError: There are fewer samples than labels, or fewer labels than classes.
    """
    if not classes <= labelled <= len(examples):
        raise InputError(
            f"data.labelled {labelled} is outside {classes}..{len(examples)}: every one of {classes} classes needs a "
            f"label, and the training split has {len(examples)} samples"
        )
    chosen = limit(examples, labelled, seed)
    others = (~torch.isin(ids_of(examples), ids_of(chosen))).nonzero().flatten()
    return chosen, Unlabelled(select(examples, others)) if len(others) else None

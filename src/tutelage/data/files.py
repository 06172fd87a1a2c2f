"""From inspected rows on disk to splits: what the readers of tables and folders share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from tutelage.data.arrow import PARTS, ArrowExamples, Store
from tutelage.data.batch import DataInfo
from tutelage.data.dividing import stratified
from tutelage.data.pictures import Pictures
from tutelage.data.pool import Pool, assemble, check_classes, fingerprint, repeats, statistics, streamed_statistics
from tutelage.data.splits import Examples, Splits, TensorExamples
from tutelage.recipe.errors import InputError, nearest

_SMALL = 256 << 20
_SAMPLED = 10_000


@dataclass(frozen=True, kw_only=True)
class Files(Pool):
    """Keys of a data set that is read from the user's files.

    Args:
        test_fraction: Fraction of each class kept for testing, where no test data is given.
        validation_fraction: Fraction of each class of the training data kept for validation, where no validation data
            is given; 0 for none.
        normalize: ``data`` subtracts the training split's mean and divides by its standard deviation, for each channel
            or feature (of 10,000 of its samples, evenly spaced, where it is not held in memory); ``none`` leaves the
            inputs as they are (pixels in [0, 1]).
        in_memory: Whether to decode all samples once and keep them: ``auto`` does below 256 MB.
        on_bad: What to do with samples that cannot be used: ``refuse`` the data and name them, or ``skip`` them and
            record it.
    """

    normalize: Literal["none", "data"] = "data"
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    in_memory: Literal["auto"] | bool = "auto"
    on_bad: Literal["refuse", "skip"] = "refuse"

    def splits(
        self, kept: Store, pictures: Pictures | None, *, key: str, seed: int, about: Mapping[str, Any]
    ) -> Splits:
        """Divide inspected rows; ids are their positions in the store.

        Args:
            kept: The rows.
            pictures: How to decode images; ``None`` for features.
            key: Identity of the data and its reading.
            seed: The run's seed.
            about: What to record of where it came from.

        Raises:
            InputError: One class only, a class that only the test data has, or an empty part.
        """
        check_classes(kept.names)
        positions, how, warnings = self._positions(kept, seed)
        everything = torch.arange(len(kept.labels))
        unscaled = (torch.tensor(1.0), torch.tensor(0.0))
        whole = ArrowExamples(kept.path, everything, kept.labels, pictures, unscaled)
        sample = whole.raw([0])
        shape = tuple(sample.shape[1:])
        stored: Tensor | None = None
        if self.in_memory is True or (self.in_memory == "auto" and sample.nbytes * len(whole) < _SMALL):
            chunks = [whole.raw(chunk) for chunk in everything.split(1024)]
            stored = torch.cat(chunks)
        scale = self._scale(whole, stored, positions["train"])

        def part(at: Tensor) -> Examples:
            if stored is None:
                return ArrowExamples(kept.path, at, kept.labels[at], pictures, scale)
            return TensorExamples(stored[at], kept.labels[at], at, scale=scale)

        warnings = [*kept.warnings, *warnings, *repeats(kept.digests, positions)]
        info = DataInfo(
            shape,
            len(kept.names),
            kept.names,
            fingerprint([kept.labels], {"key": key, "skipped": kept.warnings, **how}),
        )
        record = {**about, **how, "classes": dict(enumerate(kept.names)), "in_memory": stored is not None}
        return assemble({name: part(at) for name, at in positions.items()}, info, warnings, record)

    def _positions(self, kept: Store, seed: int) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
        """Rows of each part, how they were found, and warnings."""
        given = {name: (kept.parts == code).nonzero().flatten() for code, name in enumerate(PARTS)}
        pool = given["train"]
        if not len(pool):
            raise InputError("the training data has no samples")
        known = kept.labels[pool].unique()
        for name in PARTS[1:]:
            unknown = [kept.names[int(c)] for c in kept.labels[given[name]].unique() if c not in known]
            if unknown:
                trained = [kept.names[int(c)] for c in known]
                raise InputError(
                    f"the {name} data has the class '{unknown[0]}', which the training data lacks. "
                    f"{nearest(unknown[0], trained)}"
                )
        validation = 0.0 if len(given["validation"]) else self.validation_fraction
        test = 0.0 if len(given["test"]) else self.test_fraction
        chosen = self.seed_of_split(seed)
        names = kept.names
        division = stratified(kept.labels[pool], validation=validation, test=test, seed=chosen, names=names)
        how = {
            "validation_fraction": validation,
            "test_fraction": test,
            "split_seed": chosen,
            "normalize": self.normalize,
        }
        parts = {
            "train": pool[division.train],
            "validation": given["validation"] if len(given["validation"]) else pool[division.validation],
            "test": given["test"] if len(given["test"]) else pool[division.test],
        }
        return parts, how, list(division.warnings)

    def _scale(self, whole: ArrowExamples, stored: Tensor | None, train: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and offset from stored values to inputs."""
        unit = torch.tensor(1.0 if whole.pictures is None else 1.0 / 255.0)
        if self.normalize == "none":
            return unit, torch.tensor(0.0)
        if stored is not None and stored.dtype == torch.float32:
            mean, deviation = statistics(stored[train])
        else:
            # An even sample bounds the time: the error of a mean over 10,000 images is far below what a network
            # notices.
            some = train[torch.linspace(0, len(train) - 1, min(len(train), _SAMPLED)).round().long()]
            read = whole.raw if stored is None else stored.__getitem__
            mean, deviation = streamed_statistics(read(chunk).float() * unit for chunk in some.split(256))
        return unit / deviation, -mean / deviation


def check_labels(count: int, distinct: int, column: str, others: Sequence[str]) -> None:
    """Refuse a label column that is an identifier or a measurement.

    Raises:
        InputError: More than half of many rows have a label of their own.
    """
    if count > 20 and distinct * 2 > count:
        rest = [name for name in others if name != column]
        raise InputError(
            f"column '{column}' has {distinct} distinct values in {count} rows, so it is no class label. "
            f"{nearest(column, rest)}"
        )

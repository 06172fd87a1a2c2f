"""From rows of a table to a log of answers: what is wrong is counted, and rows of one question become one answer."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.data.answers import NONE, AnswerLog
from tutelage.recipe.errors import InputError

# Rows that are held in memory; beyond them learners are sorted bucket by bucket on disk.
HELD = 1 << 21
_ROW = np.dtype(
    [("learner", "<u8"), ("time", "<f8"), ("line", "<i8"), ("item", "<i4"), ("set", "<i4"), ("correct", "u1")]
)
_REASONS = {
    "columns": "a wrong number of columns",
    "quotes": "quotes that do not close",
    "learner": "no learner",
    "concept": "no concept",
    "correct": "an answer that is neither 0 nor 1",
    "time": "a time that cannot be read",
    "duplicate": "repeats another row",
    "contradiction": "contradicts another row of the same learner, time and question",
}


@dataclass
class Dropped:
    """Rows that were left out, by reason, with where the first of each stood."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, lines: NDArray[np.int64] | Sequence[int]) -> None:
        """Count rows."""
        if len(lines):
            self.counts[reason] = self.counts.get(reason, 0) + len(lines)
            self.first[reason] = min(self.first.get(reason, int(lines[0])), int(np.min(lines)))

    @property
    def total(self) -> int:
        """How many were left out."""
        return sum(self.counts.values())

    def warnings(self, where: str) -> list[str]:
        """A sentence for each reason."""
        return [
            f"{where}: {count:,} row{'' if count == 1 else 's'} left out: {_REASONS[reason]} "
            f"(the first in line {self.first[reason]:,})"
            for reason, count in self.counts.items()
        ]


class Names:
    """Names and their indices, in the order of first appearance."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.index = {name: i for i, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self.index)

    def place(self, name: str) -> int:
        """Its index; a new name gets the next."""
        return self.index.setdefault(name, len(self.index))

    def places(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """Indices of an array of names."""
        import pandas as pd

        codes, unique = pd.factorize(values)
        table = np.array([self.place(str(name)) for name in unique] or [0], dtype=np.int32)
        found: NDArray[np.int32] = table[codes]
        return found


class Collector:
    """Takes rows in the order of the file, and makes a log of them.

    Args:
        separator: Between several concepts of a question in one cell; ``None`` where none are several.
        combined: Whether concepts that a question has together count as one concept of its own.
        named: Whether learners' names are kept, to find them again.
        concepts: Names that are known already.
        items: Likewise.

    Attributes:
        timed: Whether rows came with something to order them by.
        dated: Whether that are times; where it is only a running number, answers count as a day apart.
    """

    def __init__(
        self,
        *,
        separator: str | None = None,
        combined: bool = False,
        named: bool = False,
        concepts: Sequence[str] = (),
        items: Sequence[str] = (),
    ) -> None:
        self.separator, self.combined, self.named = separator, combined, named
        self.concepts, self.items = Names(concepts), Names(items)
        self.dropped = Dropped()
        self.rows = 0
        self.timed = False
        self.dated = True
        self._sets = Names()
        self._members: list[tuple[int, ...]] = []
        self._learners: dict[int, str] = {}
        self._parts: list[NDArray[Any]] = []
        self._held = 0
        self._spill: tempfile.TemporaryDirectory[str] | None = None

    def again(self) -> Collector:
        """Another of the same vocabulary, which grows."""
        other = Collector(separator=self.separator, combined=self.combined, named=self.named)
        other.concepts, other.items, other._sets, other._members = self.concepts, self.items, self._sets, self._members
        return other

    def add(
        self,
        learners: NDArray[Any],
        concepts: NDArray[Any],
        correct: NDArray[Any],
        *,
        lines: NDArray[np.int64],
        items: NDArray[Any] | None = None,
        times: NDArray[Any] | None = None,
    ) -> None:
        """Add rows; those that say nothing usable are counted and left out.

        Args:
            learners: ``[rows]`` texts.
            concepts: ``[rows]`` texts.
            correct: ``[rows]`` texts or numbers.
            lines: ``[rows]`` where they stand, for messages.
            items: ``[rows]`` texts.
            times: ``[rows]`` seconds, NaN where there is none to read; the order of rows unless given.
        """
        import pandas as pd

        self.rows += len(lines)
        right = _answers(correct)
        empty = {"learner": _empty(learners), "concept": _empty(concepts), "correct": np.isnan(right)}
        if times is not None:
            self.timed = True
            empty["time"] = ~np.isfinite(times)
        good = np.ones(len(lines), dtype=bool)
        for reason, bad in empty.items():
            self.dropped.add(reason, lines[good & bad])
            good &= ~bad
        made = np.empty(int(good.sum()), dtype=_ROW)
        codes, unique = pd.factorize(learners[good])
        keys = np.array([_key(str(name)) for name in unique] or [0], dtype=np.uint64)
        if self.named:
            self._learners.update(zip(keys.tolist(), map(str, unique), strict=False))
        made["learner"] = keys[codes]
        made["time"] = 0.0 if times is None else times[good]
        made["line"] = lines[good]
        made["item"] = NONE if items is None else np.where(_empty(items[good]), NONE, self.items.places(items[good]))
        made["set"] = self._concept_sets(concepts[good])
        made["correct"] = right[good].astype(np.uint8)
        self._parts.append(made)
        self._held += len(made)
        if self._held > HELD:
            self._flush()

    def _concept_sets(self, values: NDArray[Any]) -> NDArray[np.int32]:
        import pandas as pd

        codes, unique = pd.factorize(values)
        places = []
        for value in unique:
            parts = [p.strip() for p in str(value).split(self.separator)] if self.separator else [str(value)]
            places.append(self._set(tuple(dict.fromkeys(self.concepts.place(p) for p in parts if p))))
        found: NDArray[np.int32] = np.array(places or [0], dtype=np.int32)[codes]
        return found

    def _set(self, members: tuple[int, ...]) -> int:
        place = self._sets.place(",".join(map(str, members)))
        if place == len(self._members):
            self._members.append(members)
        return place

    def _flush(self) -> None:
        """Rows move to files, a learner's always to the same."""
        if self._spill is None:
            self._spill = tempfile.TemporaryDirectory(prefix="tutelage-answers-")
        rows = np.concatenate(self._parts)
        self._parts, self._held = [], 0
        bucket = (rows["learner"] >> np.uint64(58)).astype(np.int64)
        for place in np.unique(bucket):
            with open(Path(self._spill.name) / f"{place:02d}", "ab") as file:
                rows[bucket == place].tofile(file)

    def log(self) -> AnswerLog:
        """The log of all rows that were added; one that is too large for memory is mapped from files.

        Raises:
            InputError: No row was usable.
        """
        large = self._spill is not None
        if self._spill is not None:
            if self._parts:
                self._flush()
            files = sorted(Path(self._spill.name).iterdir())
            buckets: Iterator[NDArray[Any]] = (np.fromfile(file, dtype=_ROW) for file in files)
        else:
            buckets = iter([np.concatenate(self._parts)] if self._parts else [])
        counts: list[NDArray[np.int64]] = []
        keys: list[NDArray[np.uint64]] = []
        with _Columns(large) as columns:
            for bucket in buckets:
                rows = self._one_answer_each(bucket[np.lexsort((bucket["line"], bucket["time"], bucket["learner"]))])
                who, count = np.unique(rows["learner"], return_counts=True)
                keys.append(who)
                counts.append(count)
                if not self.timed or not self.dated:
                    begin = np.repeat(count.cumsum() - count, count)
                    rows["time"] = (np.arange(len(rows)) - begin) * 86_400.0
                columns.add(rows, self._table())
            if self._spill is not None:
                self._spill.cleanup()
            if not sum(map(len, keys)):
                raise InputError(f"no usable row among {self.rows:,}: " + "; ".join(self.dropped.warnings("it")))
            offsets = np.concatenate([[0], np.concatenate(counts).cumsum()]).astype(np.int64)
            names = tuple(self._learners[int(key)] for part in keys for key in part) if self.named else ()
            return columns.log(offsets, names)

    def _one_answer_each(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Sorted rows without repetitions; rows of one question at one time, one for each concept, become one."""
        if not self.timed or len(rows) < 2:
            return rows
        same = np.zeros(len(rows), dtype=bool)
        same[1:] = (rows["learner"][1:] == rows["learner"][:-1]) & (rows["time"][1:] == rows["time"][:-1])
        same[1:] &= (rows["item"][1:] == rows["item"][:-1]) & (rows["item"][1:] != NONE) | (
            (rows["item"][1:] == NONE) & (rows["item"][:-1] == NONE) & (rows["set"][1:] == rows["set"][:-1])
        )
        if not same.any():
            return rows
        group = np.cumsum(~same) - 1
        first = np.flatnonzero(~same)[group]
        odd = same & (rows["correct"] != rows["correct"][first])
        self.dropped.add("contradiction", rows["line"][odd])
        more: dict[int, list[int]] = {}
        repeats = []
        for i in np.flatnonzero(same & ~odd).tolist():
            members = more.setdefault(int(first[i]), list(self._members[rows["set"][first[i]]]))
            new = [c for c in self._members[rows["set"][i]] if c not in members]
            members.extend(new)
            if not new:
                repeats.append(int(rows["line"][i]))
        self.dropped.add("duplicate", repeats)
        for place, members in more.items():
            rows["set"][place] = self._set(tuple(members))
        return rows[~same]

    def _table(self) -> NDArray[np.int32]:
        """``[sets, width]``: the concepts of each set."""
        if self.combined:
            return np.arange(len(self._members), dtype=np.int32)[:, None]
        width = max(map(len, self._members), default=1)
        table = np.full((len(self._members), width), NONE, dtype=np.int32)
        for i, members in enumerate(self._members):
            table[i, : len(members)] = members
        return table

    @property
    def concept_names(self) -> tuple[str, ...]:
        """Names by index; those of concepts that count together are joined."""
        own = tuple(self.concepts.index)
        if not self.combined:
            return own
        return tuple(" + ".join(own[c] for c in members) for members in self._members)


class _Columns:
    """The columns of a log, in memory or in files that stay as long as it does."""

    def __init__(self, large: bool) -> None:
        self.home = tempfile.TemporaryDirectory(prefix="tutelage-answers-") if large else None
        self.parts: dict[str, list[NDArray[Any]]] = {"concepts": [], "correct": [], "items": [], "times": []}
        self.shapes: list[tuple[int, int]] = []

    def __enter__(self) -> _Columns:
        return self

    def __exit__(self, *error: object) -> None:
        self.parts = {}

    def add(self, rows: NDArray[Any], sets: NDArray[np.int32]) -> None:
        """Further rows, and the concepts of each set."""
        made = {"concepts": sets[rows["set"]], "correct": rows["correct"], "items": rows["item"], "times": rows["time"]}
        self.shapes.append(made["concepts"].shape)
        for name, values in made.items():
            if self.home is None:
                self.parts[name].append(values.copy())
            else:
                # A set that comes later may be wider: each part has a file until all are known.
                values.tofile(Path(self.home.name) / f"{name}-{len(self.shapes)}")

    def log(self, offsets: NDArray[np.int64], names: tuple[str, ...]) -> AnswerLog:
        """The log."""
        width, count = max(w for _, w in self.shapes), int(offsets[-1])
        kinds = {"concepts": np.int32, "correct": np.uint8, "items": np.int32, "times": np.float64}
        whole: dict[str, NDArray[Any]] = {}
        for name, kind in kinds.items():
            shape = (count, width) if name == "concepts" else (count,)
            if self.home is None:
                whole[name] = np.full(shape, NONE, dtype=kind) if name == "concepts" else np.empty(shape, dtype=kind)
            else:
                whole[name] = np.memmap(Path(self.home.name) / name, dtype=kind, mode="w+", shape=shape)
                if name == "concepts":
                    whole[name][:] = NONE
            start = 0
            for place, (rows, own) in enumerate(self.shapes, 1):
                if self.home is None:
                    part = self.parts[name][place - 1]
                else:
                    file = Path(self.home.name) / f"{name}-{place}"
                    part = np.fromfile(file, dtype=kind)
                    file.unlink()
                if name == "concepts":
                    whole[name][start : start + rows, :own] = part.reshape(rows, own)
                else:
                    whole[name][start : start + rows] = part
                start += rows
        return AnswerLog(offsets, whole["concepts"], whole["correct"], whole["items"], whole["times"], names, self.home)


def _answers(values: NDArray[Any]) -> NDArray[np.float64]:
    """0, 1, or NaN for everything else."""
    import pandas as pd

    if values.dtype == object or values.dtype.kind in "US":
        said: Mapping[str, float] = {"true": 1.0, "false": 0.0}
        texts = pd.Series(values).astype(str).str.strip()
        numbers = pd.to_numeric(texts, errors="coerce").fillna(texts.str.lower().map(said))
        found: NDArray[np.float64] = numbers.to_numpy(dtype=np.float64).copy()
    else:
        found = values.astype(np.float64)
    found[(found != 0.0) & (found != 1.0)] = np.nan
    return found


def _empty(values: NDArray[Any]) -> NDArray[np.bool_]:
    import pandas as pd

    texts = pd.Series(values)
    missing: NDArray[np.bool_] = (texts.isna() | texts.isin(["", "NA", "nan", "NaN", "None", "null"])).to_numpy()
    return missing


def _key(name: str) -> int:
    """A number for a learner that is the same in every file."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")

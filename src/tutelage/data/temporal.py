"""Facts with the time in which they held, told in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.dated_files import OPEN, Fact, descriptions_of, read_facts, told
from tutelage.data.graph_files import Vocabulary, content_of
from tutelage.data.graph_splits import Parts, inductive_parts, random_parts, temporal_parts
from tutelage.data.splits import Indices, Splits
from tutelage.data.text_vectors import vectors_of
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@dataclass(frozen=True)
class TemporalInfo(DataInfo):
    """Facts about dated facts; a sample's input is the vector of its text.

    Args:
        first: The earliest time.
        last: The latest.
        relation_names: By index.
    """

    first: int = 0
    last: int = 0
    relation_names: tuple[str, ...] = ()

    @property
    def classified(self) -> bool:
        """No: what is asked for is a time."""
        return False

    @property
    def times(self) -> int:
        """How many there are, the first and the last among them."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class TemporalBatch(Batch):
    """Facts of a step.

    Args:
        spans: ``[batch, 2]`` int64 start and end counted from the first time; `OPEN` where one is not known.
        relations: ``[batch]`` int64.
        others: ``[batch, most, 2]`` int64 all times in which the same triple held, closed by the range; rows that
            there are not have an end before their start.
    """

    spans: Tensor
    relations: Tensor
    others: Tensor


class TemporalExamples:
    """Dated facts in memory.

    Args:
        text: ``[count, width]``.
        spans: ``[count, 2]`` int64.
        relations: ``[count]`` int64.
        others: ``[count, most, 2]`` int64.
        ids: ``[count]`` int64.
        unseen: ``[count]`` bool: whether nothing was learnt of one of its entities.
    """

    def __init__(
        self, text: Tensor, spans: Tensor, relations: Tensor, others: Tensor, ids: Tensor, unseen: Tensor
    ) -> None:
        self.text, self.spans, self.relations, self.others = text, spans, relations, others
        self.ids, self.unseen = ids, unseen

    def __len__(self) -> int:
        return len(self.ids)

    def fetch(self, indices: Indices) -> TemporalBatch:
        """The facts at these positions."""
        at = torch.as_tensor(indices, dtype=torch.int64)
        zeros = torch.zeros(len(at), dtype=torch.int64)
        fields = (self.spans[at], self.relations[at], self.others[at])
        return TemporalBatch(self.text[at], zeros, self.ids[at], zeros.clone(), *fields)

    def select(self, positions: Tensor) -> TemporalExamples:
        """Only these facts, with their ids."""
        p = positions
        parts = (self.text[p], self.spans[p], self.relations[p], self.others[p], self.ids[p], self.unseen[p])
        return TemporalExamples(*parts)


@dataclass(frozen=True, kw_only=True)
class Dated:
    """Keys of every data set of dated facts.

    Args:
        encoder: What makes a vector of a text: ``hashed`` pieces of words, ``minilm`` (a package's sentence encoder),
            or a folder of one for transformers.
        split: How facts are kept back: ``inductive``, each test with an entity that training lacks; ``random``, every
            entity in training; or ``temporal``, the latest.
        test_fraction: Fraction of the facts kept for testing.
        validation_fraction: Fraction kept for validation.
        split_seed: Seed of the division; ``null`` for the run's.
    """

    encoder: str = "hashed"
    split: Literal["inductive", "random", "temporal"] = "inductive"
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.1
    split_seed: Annotated[int, Ge(0)] | None = 0

    def assemble(
        self, facts: Sequence[Fact], texts: Sequence[str], seed: int, warnings: list[str], about: str
    ) -> Splits:
        """Divide facts and encode their texts."""
        entities, relations = Vocabulary(), Vocabulary()
        rows = [
            (
                entities.index.setdefault(f.head, len(entities)),
                relations.index.setdefault(f.relation, len(relations)),
                entities.index.setdefault(f.tail, len(entities)),
            )
            for f in facts
        ]
        triples = torch.tensor(rows)
        spans = torch.tensor([(f.start, f.end) for f in facts])
        known = spans[spans != OPEN]
        first, last = int(known.min()), int(known.max())
        spans = torch.where(spans == OPEN, OPEN, spans - first)
        others = _others(triples, spans, last - first)
        text = vectors_of(texts, self.encoder)
        parts = self._parts(triples, spans, seed)
        learnt = torch.zeros(len(entities), dtype=torch.bool)
        learnt[triples[parts.train][:, [0, 2]].flatten()] = True
        unseen = ~learnt[triples[:, 0]] | ~learnt[triples[:, 2]]
        ids = torch.arange(len(facts))
        whole = TemporalExamples(text, spans, triples[:, 1], others, ids, unseen)
        arrays = {"facts": [triples.numpy(), spans.numpy(), text.numpy()]}
        info = TemporalInfo(
            (text.shape[1],), 0, (), content_of(arrays, relations.names), (), first, last, relations.names
        )
        train, validation, test = (whole.select(getattr(parts, name)) for name in ("train", "validation", "test"))
        record = {
            "data": about,
            "split": self.split,
            "facts": {"train": len(train), "validation": len(validation), "test": len(test)},
            "tests with an unseen entity": int(test.unseen.sum()),
            "times": [first, last],
            "encoder": self.encoder,
        }
        return Splits(train, validation if len(validation) else None, test, info, warnings, record)

    def _parts(self, triples: Tensor, spans: Tensor, seed: int) -> Parts:
        chosen = seed if self.split_seed is None else self.split_seed
        shares = {"validation": self.validation_fraction, "test": self.test_fraction}
        if self.split == "temporal":
            when = torch.where(spans[:, 0] == OPEN, spans[:, 1], spans[:, 0])
            return temporal_parts(when.numpy(), **shares)
        return (inductive_parts if self.split == "inductive" else random_parts)(triples, **shares, seed=chosen)


def _others(triples: Tensor, spans: Tensor, last: int) -> Tensor:
    """``[count, most, 2]``: of each fact all times in which its triple held; sides that are open end with the range."""
    _, group = triples.unique(dim=0, return_inverse=True)
    closed = torch.stack([spans[:, 0].clamp(min=0), torch.where(spans[:, 1] == OPEN, last, spans[:, 1])], 1)
    by: dict[int, list[list[int]]] = {}
    for place, span in zip(group.tolist(), closed.tolist(), strict=True):
        by.setdefault(place, []).append(span)
    merged = {place: _merged(several) for place, several in by.items()}
    most = max(map(len, merged.values()))
    rows = [merged[place] + [[1, 0]] * (most - len(merged[place])) for place in group.tolist()]
    return torch.tensor(rows)


def _merged(spans: list[list[int]]) -> list[list[int]]:
    out: list[list[int]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1] + 1:
            out[-1][1] = max(out[-1][1], end)
        else:
            out.append([start, end])
    return out


@component("data", "dated-facts")
@dataclass(frozen=True, kw_only=True)
class DatedFacts(Dated):
    """Facts of text files with the time in which they held; their texts are the names of what they join.

    Args:
        path: Files of facts: head, relation, tail, and a date, two dates, or ``occursSince`` or ``occursUntil`` and a
            date; columns kept apart by tabs.
        unit: Of time.
        descriptions: A file of names and texts, kept apart by a tab, whose first sentences follow a fact's names;
            ``null`` for none.
        limit_facts: How many of the facts are used, chosen by the seed; ``null`` for all.
        on_bad: What to do with lines that are no facts: ``refuse`` the file and name the line, or ``skip`` them.
    """

    path: list[str]
    unit: Literal["year", "month", "day"] = "year"
    descriptions: str | None = None
    limit_facts: Annotated[int, Ge(10)] | None = None
    on_bad: Literal["refuse", "skip"] = "refuse"

    def load(self, seed: int) -> Splits:
        """Read, divide and encode the facts.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: A file cannot be read, a line is no fact, or so many cannot be spared.
        """
        facts, warnings = list[Fact](), list[str]()
        for one in self.path:
            found, said = read_facts(Path(one), self.unit, self.on_bad)
            facts, warnings = [*facts, *found], [*warnings, *said]
        facts = list(dict.fromkeys(facts))
        if self.limit_facts is not None and self.limit_facts < len(facts):
            generator = np.random.default_rng(0 if self.split_seed is None else self.split_seed)
            facts = [facts[i] for i in sorted(generator.choice(len(facts), self.limit_facts, replace=False))]
        more = {} if self.descriptions is None else descriptions_of(Path(self.descriptions))
        return self.assemble(facts, [told(fact, more) for fact in facts], seed, warnings, "dated-facts")


def with_text(examples: TemporalExamples, text: Tensor) -> TemporalExamples:
    """The same facts with other vectors."""
    e = examples
    return TemporalExamples(text, e.spans, e.relations, e.others, e.ids, e.unseen)


def temporal_info(splits: Splits) -> TemporalInfo:
    """The facts about data of dated facts.

    Raises:
        InputError: It is none.
    """
    if not isinstance(splits.info, TemporalInfo):
        raise InputError("data: this method learns when facts held: use 'dated-facts' with your files, or 'eras'")
    return splits.info

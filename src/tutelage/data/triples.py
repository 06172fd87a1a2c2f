"""Facts of a graph as integers: triples, their names, and which answers of a query are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.splits import Indices

HEAD, RELATION, TAIL = 0, 1, 2
Side = Literal["head", "tail"]
SIDES: tuple[Side, Side] = ("head", "tail")

Array = NDArray[np.int32]


@dataclass(frozen=True)
class GraphInfo(DataInfo):
    """Facts about a graph that a link predictor is built from; a sample is a triple (head, relation, tail).

    Args:
        entity_names: Names by index.
        relation_names: Likewise; with ``inverse``, those of the graph and then one for the inverse of each.
        inverse: Whether every triple is also there turned around, under the inverse of its relation.
    """

    entity_names: tuple[str, ...] = ()
    relation_names: tuple[str, ...] = ()
    inverse: bool = False

    @property
    def classified(self) -> bool:
        """No: a triple has no class."""
        return False

    @property
    def entities(self) -> int:
        """How many there are."""
        return len(self.entity_names)

    @property
    def relations(self) -> int:
        """How many there are."""
        return len(self.relation_names)

    def blank(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """``[count, 3]`` int64 zeros, which are a triple of every graph."""
        return torch.zeros(count, 3, dtype=torch.int64, device=device)


def graph_info(
    entities: Sequence[str], relations: Sequence[str], fingerprint: str, *, inverse: bool = False
) -> GraphInfo:
    """Facts about a graph of these names, to which the inverses' are added where they are wanted."""
    turned = [f"inverse of {name}" for name in relations] if inverse else []
    return GraphInfo((3,), 0, (), fingerprint, (), tuple(entities), (*relations, *turned), inverse)


class TripleExamples:
    """Triples, in memory or mapped from disk.

    Args:
        array: ``[count, 3]`` int32 head, relation and tail; a memory map stays one.
        ids: ``[count]`` int64 stable identities; ``0 .. count - 1`` when left out.
    """

    def __init__(self, array: Array, ids: Tensor | None = None) -> None:
        self.array = array
        self.ids = torch.arange(len(array)) if ids is None else ids
        # Small enough to keep: a gather from a tensor is an order of magnitude cheaper than one from a map.
        self._held = None if isinstance(array, np.memmap) else torch.from_numpy(np.ascontiguousarray(array)).long()

    def __len__(self) -> int:
        return len(self.array)

    @property
    def triples(self) -> Tensor:
        """``[count, 3]`` int64: all of them, in memory."""
        return self._held if self._held is not None else torch.from_numpy(np.array(self.array)).long()

    def fetch(self, indices: Indices) -> Batch:
        """The triples at these positions; a label is the index of the tail."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        if self._held is not None:
            inputs = self._held.index_select(0, index)
        else:
            inputs = torch.from_numpy(np.array(self.array[index.numpy()])).long()
        return Batch(
            inputs, inputs[:, TAIL], self.ids.index_select(0, index), torch.zeros(len(index), dtype=torch.long)
        )

    def select(self, positions: Tensor) -> TripleExamples:
        """Only these triples, with their ids."""
        return TripleExamples(np.asarray(self.array[positions.numpy()]), self.ids[positions])


class Known:
    """Which answers of (head, relation, ?) and (?, relation, tail) are known: a sorted index over all of them.

    Args:
        triples: ``[count, 3]`` int64, with or without repetitions.
        entities: Number of entities.
        relations: Number of relations.
    """

    def __init__(self, triples: Tensor, entities: int, relations: int) -> None:
        self.entities, self.relations = entities, relations
        self._keys: dict[str, Tensor] = {}
        for side, (given, asked) in {"tail": (HEAD, TAIL), "head": (TAIL, HEAD)}.items():
            # One number a fact, so that a fact, and all answers of a query, are found by a search in a sorted list.
            key = (triples[:, given] * relations + triples[:, RELATION]) * entities + triples[:, asked]
            self._keys[side] = key.unique()

    def __len__(self) -> int:
        return len(self._keys["tail"])

    def to(self, device: torch.device | str) -> Known:
        """The same on another device."""
        self._keys = {side: keys.to(device) for side, keys in self._keys.items()}
        return self

    def _query(self, side: Side, triples: Tensor) -> Tensor:
        given = HEAD if side == "tail" else TAIL
        return (triples[:, given] * self.relations + triples[:, RELATION]) * self.entities

    def answers(self, side: Side, triples: Tensor) -> tuple[Tensor, Tensor]:
        """All known answers of the triples' queries.

        Args:
            side: What is asked for.
            triples: ``[count, 3]`` int64; the asked place does not matter.

        Returns:
            ``[found]`` rows of ``triples``, ascending, and ``[found]`` entities.
        """
        keys, query = self._keys[side], self._query(side, triples)
        first = torch.searchsorted(keys, query)
        counts = torch.searchsorted(keys, query + self.entities) - first
        rows = torch.arange(len(triples), device=counts.device).repeat_interleave(counts)
        place = torch.arange(len(rows), device=counts.device) - (counts.cumsum(0) - counts)[rows]
        return rows, keys[first[rows] + place] - query[rows]

    def counts(self, side: Side, triples: Tensor) -> Tensor:
        """``[count]`` int64: how many answers of each triple's query are known."""
        keys, query = self._keys[side], self._query(side, triples)
        return torch.searchsorted(keys, query + self.entities) - torch.searchsorted(keys, query)

    def holds(self, triples: Tensor) -> Tensor:
        """``[...]`` bool: which of the triples ``[..., 3]`` are known."""
        flat = triples.reshape(-1, 3)
        keys = self._keys["tail"]
        key = self._query("tail", flat) + flat[:, TAIL]
        place = torch.searchsorted(keys, key).clamp_(max=max(len(keys) - 1, 0))
        found = keys[place] == key if len(keys) else torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        return found.view(triples.shape[:-1])


def inverted(triples: Tensor, relations: int) -> Tensor:
    """The triples, then each turned around under a relation of its own: ``(t, r + relations, h)``."""
    turned = torch.stack([triples[:, TAIL], triples[:, RELATION] + relations, triples[:, HEAD]], 1)
    return torch.cat([triples, turned])


def degrees(triples: Tensor, relations: int) -> tuple[Tensor, Tensor]:
    """Mean tails per head and mean heads per tail of each relation.

    Args:
        triples: ``[count, 3]`` int64.
        relations: Number of relations.

    Returns:
        Two ``[relations]`` float64, 0 for a relation without triples.
    """
    facts = triples.unique(dim=0)
    total = torch.bincount(facts[:, RELATION], minlength=relations).double()
    found = []
    for end in (HEAD, TAIL):
        pairs = torch.stack([facts[:, RELATION], facts[:, end]], 1).unique(dim=0)
        ends = torch.bincount(pairs[:, 0], minlength=relations).double()
        found.append(total / ends.clamp(min=1))
    return found[0], found[1]


RELATION_TYPES = ("1-1", "1-N", "N-1", "N-N")


def relation_types(triples: Tensor, relations: int, threshold: float = 1.5) -> Tensor:
    """Whether a relation joins one or many heads with one or many tails (Bordes et al. 2013, section 4.3).

    Args:
        triples: ``[count, 3]`` int64.
        relations: Number of relations.
        threshold: Mean number from which on it is many.

    Returns:
        ``[relations]`` int64 places in `RELATION_TYPES`.
    """
    tails, heads = degrees(triples, relations)
    return (heads >= threshold).long() * 2 + (tails >= threshold).long()

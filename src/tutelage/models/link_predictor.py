"""What link predictors share: rows of entities and relations, and scores of candidates in either place of a triple."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.triples import HEAD, RELATION, TAIL, GraphInfo, Side
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError


@dataclass(frozen=True)
class LinkBatch(Batch):
    """Triples, and what their head or tail is compared with.

    Args:
        tails: ``[batch]`` bool: whether the tail is asked for, and not the head.
        candidates: ``[batch, n]`` int64 entities; with ``n`` 0 for all.
    """

    tails: Tensor
    candidates: Tensor

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        """What link predictors are called with."""
        return self.inputs, self.tails, self.candidates


@dataclass(frozen=True)
class LinkOutputs(Outputs):
    """Scores of candidates.

    Args:
        factors: Absolute values of the rows that a penalty is put on, ``[batch, width]`` each; empty unless asked for.
    """

    factors: tuple[Tensor, ...] = ()


class LinkPredictor(nn.Module):
    """A model that says how plausible a triple is, from a row for each entity and one for each relation.

    Subclasses say what a query is (a triple without its head or tail, together with the relation) and how candidates
    are compared with it; the pieces in `tutelage.losses.candidates` keep memory small and gradients fast.

    Args:
        data: The graph that it is built for.
        entity_width: Numbers that an entity has.
        relation_width: Numbers that a relation has.

    Raises:
        InputError: The data is no graph.
    """

    standard_taps: ClassVar[Mapping[str, str]] = {}

    def __init__(self, data: DataInfo, entity_width: int, relation_width: int) -> None:
        super().__init__()
        if not isinstance(data, GraphInfo):
            raise InputError(
                "this model predicts links of a graph: use it with data of triples, such as 'triples' with your files"
            )
        self.graph = data
        self.entities = nn.Parameter(torch.empty(data.entities, entity_width))
        self.relations = nn.Parameter(torch.empty(data.relations, relation_width))
        self.penalized = False
        self._held: Tensor | None = None

    @classmethod
    def from_folder(cls, folder: Path, data: DataInfo, **args: Any) -> Self:
        """The model that a folder describes, with the names of its entities and relations."""
        info = json.loads((folder / "config.json").read_text(encoding="utf-8"))["data"]
        graph = GraphInfo(
            data.input_shape,
            data.classes,
            data.class_names,
            data.fingerprint,
            (),
            tuple(info["entity_names"]),
            tuple(info["relation_names"]),
            bool(info["inverse"]),
        )
        return cls(graph, **args)

    # ------------------------------------------------------------------ what subclasses say

    def ready(self) -> None:
        """Raise an `InputError` where it lacks something without which training is useless."""

    def rows(self, entities: Tensor | None = None) -> Tensor:
        """Rows ``[n, entity_width]`` of entities ``[n]`` int64, or of all: those that are learnt unless overridden."""
        return self.entities if entities is None else self.entities.index_select(0, entities)

    def present(self, rows: Tensor) -> Tensor:
        """Rows of entities ``[n, entity_width]`` as they are compared; unchanged unless overridden."""
        return rows

    @abstractmethod
    def query(self, known: Tensor, relation: Tensor, tails: Tensor) -> Tensor:
        """``[batch, any]`` of presented rows of the known entity, rows of the relation, and what is asked for.

        Args:
            known: ``[batch, width]``.
            relation: ``[batch, relation_width]``.
            tails: ``[batch]`` bool: the known entity is the head, and not the tail.
        """

    @abstractmethod
    def compare(self, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
        """Scores ``[batch, n]``, higher for more plausible, of presented rows ``table`` at ``index``, or of all."""

    def magnitudes(self, rows: Tensor) -> Tensor:
        """Absolute values of rows, for penalties; moduli where numbers are complex."""
        return rows.abs()

    # ------------------------------------------------------------------ scores

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Make the rows of all entities once, for as many questions as are asked meanwhile, without a graph."""
        before = self._held
        try:
            with torch.no_grad():
                self._held = self.present(self.rows())
            yield
        finally:
            self._held = before

    def scores(self, triples: Tensor, tails: Tensor, candidates: Tensor | None = None) -> Tensor:
        """How plausible candidates are in the place that is asked for.

        Args:
            triples: ``[batch, 3]`` int64.
            tails: ``[batch]`` bool: whether the tail is asked for.
            candidates: ``[batch, n]`` int64 entities; ``None`` for all.

        Returns:
            ``[batch, n]``, or ``[batch, entities]``.
        """
        return self._scored(triples, tails, candidates)[0]

    def _scored(self, triples: Tensor, tails: Tensor, candidates: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        known = torch.where(tails, triples[:, HEAD], triples[:, TAIL])
        index = candidates
        if self._held is not None and not torch.is_grad_enabled():
            relation = self.relations.index_select(0, triples[:, RELATION])
            given = self._held.index_select(0, known)
            return self.compare(self.query(given, relation, tails), self._held, index), given, relation
        if candidates is not None and candidates.numel() < 2 * self.graph.entities:
            # One gather of what occurs, and so one scatter of gradients, in a large table.
            every = torch.cat([known[:, None], candidates], 1)
            occurring, place = torch.unique(every, return_inverse=True)
            rows = self.rows(occurring)
            known, index = place[:, 0], place[:, 1:]
        else:
            rows = self.rows()
        table = self.present(rows)
        given, relation = table.index_select(0, known), self.relations.index_select(0, triples[:, RELATION])
        return self.compare(self.query(given, relation, tails), table, index), given, relation

    def forward(self, triples: Tensor, tails: Tensor | None = None, candidates: Tensor | None = None) -> LinkOutputs:
        """Scores as outputs' logits; of all tails where only triples are given."""
        if tails is None:
            tails = torch.ones(len(triples), dtype=torch.bool, device=triples.device)
        if candidates is not None and not candidates.shape[1]:
            candidates = None
        scores, given, relation = self._scored(triples, tails, candidates)
        if not self.penalized:
            return LinkOutputs(scores)
        other = torch.where(tails, triples[:, TAIL], triples[:, HEAD])
        answer = self.present(self.rows(other))
        penalized = (self.magnitudes(given), self.relation_magnitudes(relation), self.magnitudes(answer))
        return LinkOutputs(scores, factors=penalized)

    def relation_magnitudes(self, rows: Tensor) -> Tensor:
        """Absolute values of rows of relations, for penalties; as for entities unless overridden."""
        return self.magnitudes(rows)

    @torch.no_grad()
    def rank_scores(self, side: Side, triples: Tensor, candidates: Tensor | None = None) -> Tensor:
        """Scores without a graph, as an evaluation asks for them: ``[batch, n]``, or ``[batch, entities]``.

        In a graph with inverse relations, a head is asked for as the tail of the inverse.

        Args:
            side: What is asked for.
            triples: ``[batch, 3]`` int64, of the graph's own relations.
            candidates: ``[batch, n]`` int64; ``None`` for all.
        """
        if self.graph.inverse and side == "head":
            own = self.graph.relations // 2
            turned = [triples[:, TAIL], triples[:, RELATION] + own, triples[:, HEAD]]
            triples, side = torch.stack(turned, 1), "tail"
        tails = torch.full((len(triples),), side == "tail", device=triples.device)
        return self.scores(triples, tails, candidates)

    def grown(self, entities: tuple[str, ...], relations: tuple[str, ...]) -> GraphInfo:
        """The graph's facts with further names."""
        return replace(self.graph, entity_names=entities, relation_names=relations)


def halves(width: int, model: str) -> int:
    """Half of a width, for models whose numbers are complex or come in pairs.

    Raises:
        InputError: It is odd.
    """
    if width % 2:
        raise InputError(f"width {width}: {model} pairs its numbers, so it must be even, e.g. {width + 1}")
    return width // 2

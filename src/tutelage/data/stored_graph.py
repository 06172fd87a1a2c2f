"""Triples of a graph that is kept in a folder, or behind an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt

from tutelage.data.graph_files import Vocabulary
from tutelage.data.graph_splits import inductive_parts, random_parts
from tutelage.data.graphs import Graph
from tutelage.data.splits import Splits
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("data", "graph")
@dataclass(frozen=True, kw_only=True)
class StoredGraph(Graph):
    """Triples of a graph that ``tutelage graph load`` made, or of a SPARQL endpoint; literals are no entities.

    Args:
        path: The graph's folder, or the endpoint's URL.
        predicates: Only triples of these relations, by name, CURIE or IRI; ``null`` for all.
        split: How triples are kept back: ``random`` with every entity in training, or ``inductive``, where each test
            triple has an entity that training has not.
        test_fraction: Fraction of the triples kept for testing.
        validation_fraction: Fraction kept for validation.
        split_seed: Seed of the division; ``null`` for the run's.
    """

    path: str
    predicates: list[str] | None = None
    split: Literal["random", "inductive"] = "random"
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.1
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.05
    split_seed: Annotated[int, Ge(0)] | None = 0

    def load(self, seed: int) -> Splits:
        """Read and divide the triples.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: There is no such graph, or it joins no entities.
        """
        entities, relations = Vocabulary(), Vocabulary()
        rows = sorted(set(self._named()))
        if not rows:
            raise InputError(f"{self.path} holds no triples that join entities")
        numbers = [
            (
                entities.index.setdefault(head, len(entities)),
                relations.index.setdefault(relation, len(relations)),
                entities.index.setdefault(tail, len(entities)),
            )
            for head, relation, tail in rows
        ]
        array = np.array(numbers, dtype=np.int32)
        chosen = seed if self.split_seed is None else self.split_seed
        divide = random_parts if self.split == "random" else inductive_parts
        shares = {"validation": self.validation_fraction, "test": self.test_fraction}
        at = divide(torch.from_numpy(array).long(), **shares, seed=chosen)
        found = {name: array[getattr(at, name).numpy()] for name in ("train", "validation", "test")}
        how: dict[str, Any] = {"data": "graph", "path": self.path, "split": self.split, "split_seed": chosen}
        return self.assemble(found, entities, relations, [], how)

    def _named(self) -> list[tuple[str, str, str]]:
        from pyoxigraph import BlankNode, NamedNode

        from tutelage.data.rdf.opening import open_graph
        from tutelage.data.rdf.terms import plain

        with open_graph(self.path) as graph:

            def name(term: Any) -> str:
                if isinstance(term, BlankNode):
                    return str(term)
                return plain(term.value) or graph.prefixes.contract(term.value) or str(term.value)

            wanted = None if self.predicates is None else set(self.predicates)
            out = []
            for triple in graph.match():
                if not isinstance(triple.object, NamedNode | BlankNode):
                    continue
                relation = name(triple.predicate)
                if wanted is None or relation in wanted or triple.predicate.value in wanted:
                    out.append((name(triple.subject), relation, name(triple.object)))
            return out

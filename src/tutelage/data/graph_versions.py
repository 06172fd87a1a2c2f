"""Two versions of a graph: what a curator changed, as something to be carried from the newer to the older."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.graph_files import Vocabulary, package_folder, read_triples
from tutelage.data.outline import Outline
from tutelage.data.splits import Indices, Splits
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@dataclass(frozen=True)
class VersionsInfo(DataInfo):
    """Facts about two versions of a graph; a sample is a fact that one of them states.

    Args:
        facts: In N-Triples, by index; what hangs together by blank nodes is one fact.
        before: Lines of N-Triples of the older version, its blank nodes as they are.
        after: Those of the newer.
        drawn: Commands that led from one to the other, where they are known.
        prefixes: Names of namespaces that the files declare.
    """

    facts: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    prefixes: tuple[tuple[str, str], ...] = ()

    @property
    def classified(self) -> bool:
        """No: a fact has no class."""
        return False


class Facts:
    """Facts by number, and which of the versions state them.

    Args:
        stated: ``[facts, 2]`` bool: by the older, by the newer version.
        rows: ``[count]`` int64: which of the facts these are.
    """

    def __init__(self, stated: Tensor, rows: Tensor) -> None:
        self.stated, self.ids = stated, rows

    def __len__(self) -> int:
        return len(self.ids)

    def fetch(self, indices: Indices) -> Batch:
        """``inputs`` ``[count, 2]`` float32, ``labels`` 1 where the newer version states it."""
        rows = self.ids[torch.as_tensor(indices, dtype=torch.int64)]
        stated = self.stated[rows]
        return Batch(stated.float(), stated[:, 1].long(), rows, torch.zeros_like(rows))


@component("data", "graph-versions")
@dataclass(frozen=True, kw_only=True)
class GraphVersions:
    """An ontology before and after curation: two files, or one file, or UMLS's network, with changes drawn at random.

    Args:
        before: File of the older version, in any format that graphs are loaded from; ``null`` for the semantic network
            of UMLS, which the package pykeen carries.
        after: File of the newer version; ``null`` to draw changes.
        changes: How many are drawn.
    """

    before: str | None = None
    after: str | None = None
    changes: Annotated[int, Ge(1)] = 200

    def outline(self) -> Outline:
        """Sizes are known only once both versions are."""
        splits = self.load(0)
        return Outline(splits.info, len(splits.train), 0, len(splits.test))

    def load(self, seed: int) -> Splits:
        """Read or draw both versions.

        Args:
            seed: Of the changes that are drawn.

        Raises:
            InputError: A file is no graph, or the versions are the same.
        """
        from tutelage.data.drawn_changes import Drawing
        from tutelage.data.rdf.graph import Memory
        from tutelage.data.rdf.terms import to_lines

        if self.after is not None and self.before is None:
            raise InputError("data.after: a newer version needs the older one beside it: data.before")
        prefixes: dict[str, str] = {}
        old = self._umls() if self.before is None else _read(self.before, prefixes)
        drawn: list[str] = []
        if self.after is None:
            new = Memory(old.match(), prefixes, name=old.name)
            drawn = Drawing(new, Random(seed)).draw(self.changes)
        else:
            new = _read(self.after, prefixes)
        before, after = set(facts(old.match())), set(facts(new.match()))
        if before == after:
            raise InputError("data: both versions say the same; there is nothing to carry")
        names = sorted(before | after)
        stated = torch.tensor([[name in before, name in after] for name in names])
        lines = tuple(to_lines(old.match())), tuple(to_lines(new.match()))
        content = hashlib.sha256("\n".join([*lines[0], "", *lines[1]]).encode()).hexdigest()
        info = VersionsInfo((2,), 0, (), content, (), tuple(names), *lines, tuple(drawn), tuple(prefixes.items()))
        rows = torch.arange(len(names))
        record = {
            "data": "graph-versions",
            "before": self.before or "umls",
            "after": self.after,
            "changes": len(drawn) or None,
            "facts": {"before": len(before), "after": len(after), "both": len(before & after)},
        }
        return Splits(Facts(stated, rows[stated[:, 0]]), None, Facts(stated, rows), info, [], record)

    @staticmethod
    def _umls() -> Any:
        from tutelage.data.drawn_changes import classes

        home = package_folder("pykeen", "1.11.1", "datasets/umls")
        entities, relations = Vocabulary(), Vocabulary()
        rows: list[tuple[str, str, str]] = []
        for file in ("train.txt", "valid.txt", "test.txt"):
            read = read_triples(home / file, entities, relations).triples
            rows += [(entities.names[h], relations.names[r], entities.names[t]) for h, r, t in read.tolist()]
        return classes(sorted(rows), "isa")


def _read(path: str, prefixes: dict[str, str]) -> Any:
    from tutelage.data.rdf.graph import Memory
    from tutelage.data.rdf.journal import Stamp
    from tutelage.data.rdf.sources import Source

    source = Source(Path(path).expanduser())
    graph = Memory(name=path)
    graph.load([source], Stamp())
    prefixes.update(source.prefixes)
    return graph


def facts(triples: Iterable[Any]) -> list[str]:
    """Triples as text that does not depend on names of blank nodes; those that hang together by some are one text."""
    from pyoxigraph import BlankNode, CanonicalizationAlgorithm, Dataset, Quad

    ground: list[str] = []
    parent: dict[Any, Any] = {}
    blank: list[tuple[Any, Any]] = []

    def root(node: Any) -> Any:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for t in triples:
        ends = [end for end in (t.subject, t.object) if isinstance(end, BlankNode)]
        if not ends:
            ground.append(f"{t.subject} {t.predicate} {t.object} .")
            continue
        for end in ends:
            parent.setdefault(end, end)
        parent[root(ends[0])] = root(ends[-1])
        blank.append((ends[0], t))
    together: dict[Any, list[Any]] = {}
    for end, t in blank:
        together.setdefault(root(end), []).append(t)
    seen: dict[str, int] = {}
    for part in together.values():
        dataset = Dataset(Quad(t.subject, t.predicate, t.object) for t in part)
        dataset.canonicalize(CanonicalizationAlgorithm.RDFC_1_0)
        text = "\n".join(sorted(f"{q.subject} {q.predicate} {q.object} ." for q in dataset))
        # What is said twice by different blank nodes is two facts.
        seen[text] = seen.get(text, 0) + 1
        ground.append(text if seen[text] == 1 else f"{text}\n# {seen[text]}")
    return ground

"""Blank nodes told apart by what they say, so that a patch can speak of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from pyoxigraph import BlankNode, NamedNode, Triple

from tutelage.data.rdf import terms as t
from tutelage.data.rdf.terms import Subject, Term


class Matched(Protocol):
    """Whatever has triples."""

    def match(
        self, subject: Subject | None = None, predicate: NamedNode | None = None, object: Term | None = None
    ) -> Iterable[Triple]:
        """Triples that fit."""


def blank_name(key: str) -> str:
    """What commands call a blank node of a graph."""
    return f"h{hashlib.sha256(key.encode()).hexdigest()[:20]}"


def keyed(graph: Matched) -> dict[str, BlankNode]:
    """Blank nodes by what they say and who says what of them; equal ones are numbered."""
    above: dict[BlankNode, list[Triple]] = {}
    nodes: set[BlankNode] = set()
    for x in graph.match():
        if isinstance(x.subject, BlankNode):
            nodes.add(x.subject)
        if isinstance(x.object, BlankNode):
            above.setdefault(x.object, []).append(x)
            nodes.add(x.object)
    inner = {node: _content(graph, node) for node in nodes}
    outer: dict[BlankNode, str] = {}

    def key(node: BlankNode, seen: frozenset[BlankNode] = frozenset()) -> str:
        if node in outer:
            return outer[node]
        if node in seen:
            return inner[node]
        found = sorted(
            f"{key(x.subject, seen | {node}) if isinstance(x.subject, BlankNode) else x.subject} {x.predicate}"
            for x in above.get(node, ())
        )
        out = hashlib.sha256("\n".join([inner[node], *found]).encode()).hexdigest()
        if not seen:
            outer[node] = out
        return out

    out: dict[str, BlankNode] = {}
    counts: Counter[str] = Counter()
    for node in sorted(nodes, key=lambda n: (key(n), n.value)):
        counts[key(node)] += 1
        out[f"{key(node)} {counts[key(node)]}"] = node
    return out


def _content(graph: Matched, node: BlankNode) -> str:
    """What a blank node says, down to named nodes; of a cycle of blank nodes, only that it is one."""

    def text(term: Subject | Term, seen: frozenset[BlankNode]) -> str:
        if not isinstance(term, BlankNode):
            return str(term)
        if term in seen:
            return "_:loop"
        inner = sorted(f"{x.predicate} {text(x.object, seen | {term})}" for x in graph.match(term))
        return "[" + " ; ".join(inner) + "]"

    return hashlib.sha256(text(node, frozenset()).encode()).hexdigest()


def revised(old: Matched, new: Matched, gone: set[BlankNode], come: set[BlankNode]) -> dict[BlankNode, BlankNode]:
    """Axioms about another text of the same node and predicate are the same axioms, revised; new ones by old ones."""
    here, there = _axioms(old, gone), _axioms(new, come)
    return {
        after: before
        for about in here.keys() & there.keys()
        for before, after in zip(here[about], there[about], strict=False)
    }


def _axioms(graph: Matched, nodes: set[BlankNode]) -> dict[tuple[str, ...], list[BlankNode]]:
    out: dict[tuple[str, ...], list[BlankNode]] = {}
    for node in sorted(nodes, key=lambda n: _content(graph, n)):
        said = {x.predicate: x.object for x in graph.match(node)}
        if said.get(t.TYPE) == t.AXIOM:
            out.setdefault((str(said.get(t.AXIOM_SOURCE)), str(said.get(t.AXIOM_PREDICATE))), []).append(node)
    return out

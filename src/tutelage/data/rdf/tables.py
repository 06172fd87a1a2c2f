"""Graphs as tables of triples."""

from __future__ import annotations

from typing import IO

from pyoxigraph import Literal, NamedNode

from tutelage.data.rdf.graph import Graph
from tutelage.data.rdf.terms import Prefixes, Term, plain


def write_table(graph: Graph, out: IO[bytes]) -> None:
    """Subject, predicate and object, kept apart by tabs: CURIEs, plain names, and literals as in N-Triples."""
    for triple in graph.match():
        cells = (_cell(term, graph.prefixes) for term in (triple.subject, triple.predicate, triple.object))
        out.write("\t".join(cells).encode() + b"\n")


def _cell(term: Term, prefixes: Prefixes) -> str:
    if isinstance(term, Literal):
        return str(term).replace("\t", "\\t")
    if isinstance(term, NamedNode):
        name = plain(term.value)
        # A name is written plainly only where it is read back as the same.
        if (
            name
            and ":" not in name
            and not name.startswith(("<", '"', "_", "#", "http", "urn", " "))
            and name == name.strip()
        ):
            return name if not set(name) & set("\t\n\r") else str(term)
        found = prefixes.contract(term.value)
        prefix = found.partition(":")[0] if found else ""
        # Prefixes of this graph alone would not be known to the reader of the table.
        return found if found and prefix not in prefixes.own and prefix != "name" else str(term)
    return str(term)

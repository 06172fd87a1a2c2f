"""A graph as OBO."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from pyoxigraph import BlankNode, Literal, NamedNode, Triple

from tutelage.data.rdf import terms as t
from tutelage.data.rdf.graph import Graph
from tutelage.data.rdf.obo import _FIRST, _FLAGS, _ID, _INTERSECTION, _NAMED, _REST, _TEXTS

_SCOPES = {predicate: (scope or "related").upper() for scope, predicate in t.SYNONYMS.items()}
_TAGS = {predicate: tag for tag, predicate in (*_NAMED.items(), *_TEXTS.items()) if tag != "subsetdef"}
_FLAG_TAGS = {kind: tag for tag, kind in _FLAGS.items()}
_INDIVIDUAL = NamedNode(f"{t.OWL}NamedIndividual")
# fmt: off
_ORDER = (
    "name", "namespace", "alt_id", "def", "comment", "subset", "synonym", "xref", "property_value", "is_transitive",
    "is_symmetric", "is_functional", "domain", "range", "is_a", "intersection_of", "disjoint_from", "inverse_of",
    "relationship", "is_obsolete", "replaced_by", "consider", "created_by", "creation_date",
)
# fmt: on


class Writer:
    """Writes frames, and counts the triples that went into them.

    Args:
        graph: Any.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.used = 0
        ontology = next((x.subject for x in graph.match(None, t.TYPE, NamedNode(f"{t.OWL}Ontology"))), None)
        self.ontology = ontology.value if isinstance(ontology, NamedNode) else f"{t.OBO}unnamed.owl"
        self.space = self.ontology.removesuffix(".owl") + "#"

    def write(self, out: IO[bytes]) -> int:
        """Write the whole; returns how many triples have no form in OBO."""
        name = self.ontology.removeprefix(t.OBO).removesuffix(".owl")
        out.write(f"format-version: 1.4\nontology: {name}\n".encode())
        for kind, title in ((t.CLASS, "Term"), (t.PROPERTY, "Typedef"), (_INDIVIDUAL, "Instance")):
            nodes = {x.subject for x in self.graph.match(None, t.TYPE, kind) if isinstance(x.subject, NamedNode)}
            for node in sorted(nodes, key=lambda n: n.value):
                out.write(f"\n[{title}]\nid: {self.id(node)}\n".encode())
                for tag, value in sorted(self._clauses(node, kind), key=lambda c: (_ORDER.index(c[0]), c[1])):
                    out.write(f"{tag}: {value}\n".encode())
        return max(0, len(self.graph) - self.used)

    def id(self, node: NamedNode) -> str:
        """As OBO writes it: ``GO:1``, a word of the ontology, or the IRI."""
        iri = node.value
        if iri.startswith(self.space) and ":" not in iri[len(self.space) :]:
            return iri[len(self.space) :]
        if iri.startswith(t.OBO):
            prefix, line, local = iri[len(t.OBO) :].partition("_")
            if line and local and "#" not in iri:
                return f"{prefix}:{_escaped(local)}"
        return iri

    def _clauses(self, node: NamedNode, kind: NamedNode) -> Iterator[tuple[str, str]]:
        for triple in self.graph.match(node):
            found = self._clause(triple, kind)
            if found is not None:
                self.used += 1
                if found[0]:
                    yield found
            elif triple.predicate == t.EQUIVALENT and isinstance(triple.object, BlankNode):
                yield from self._intersection(triple.object)

    def _clause(self, triple: Triple, kind: NamedNode) -> tuple[str, str] | None:
        predicate, object = triple.predicate, triple.object
        parent = {t.CLASS: t.SUBCLASS, t.PROPERTY: t.SUBPROPERTY}.get(kind, t.TYPE)
        if predicate in (t.TYPE, _ID) and object != _INDIVIDUAL and object in _FLAG_TAGS:
            return _FLAG_TAGS[object], "true"  # type: ignore[index]
        if (predicate == t.TYPE and object == kind) or predicate == _ID:
            return "", ""
        if isinstance(object, Literal):
            return self._text(triple, object)
        if isinstance(object, BlankNode):
            restriction = self._restriction(object) if predicate == t.SUBCLASS else None
            return ("relationship", restriction) if restriction else None
        if not isinstance(object, NamedNode):
            return None
        if predicate == parent:
            return "is_a", self.id(object)
        if predicate in _TAGS:
            return _TAGS[predicate], self.id(object)
        if predicate in (t.TYPE, t.SUBCLASS, t.SUBPROPERTY, t.EQUIVALENT) or predicate.value.startswith(t.OWL):
            return None
        return "property_value", f"{self.id(predicate)} {self.id(object)}"

    def _text(self, triple: Triple, object: Literal) -> tuple[str, str] | None:
        predicate, text = triple.predicate, object.value
        if object.language:
            return None
        if predicate == t.LABEL:
            return "name", _line(text)
        if predicate == t.DEFINITION:
            return "def", f'"{_quoted(text)}" [{self._cited(triple)}]'
        if predicate in _SCOPES:
            return "synonym", f'"{_quoted(text)}" {_SCOPES[predicate]} [{self._cited(triple)}]'
        if predicate == t.COMMENT:
            return "comment", _line(text)
        if predicate == t.XREF and ":" in text:
            return "xref", _xref(text)
        if predicate == t.DEPRECATED:
            return "is_obsolete", text
        if predicate in _TAGS:
            return _TAGS[predicate], _line(text)
        datatype = self.id(object.datatype).replace(t.XSD, "xsd:")
        return "property_value", f'{self.id(predicate)} "{_quoted(text)}" {datatype}'

    def _cited(self, triple: Triple) -> str:
        out = []
        for found in self.graph.match(None, t.AXIOM_SOURCE, triple.subject):
            node = found.subject
            same = Triple(node, t.AXIOM_TARGET, triple.object), Triple(node, t.AXIOM_PREDICATE, triple.predicate)
            if all(self.graph.has(x) for x in same):
                cited = [x.object.value for x in self.graph.match(node, t.XREF) if isinstance(x.object, Literal)]
                self.used += 4 + len(cited)
                out.extend(cited)
        return ", ".join(_xref(x) for x in sorted(out))

    def _restriction(self, node: BlankNode) -> str | None:
        on = next((x.object for x in self.graph.match(node, t.ON_PROPERTY)), None)
        some = next((x.object for x in self.graph.match(node, t.SOME)), None)
        if isinstance(on, NamedNode) and isinstance(some, NamedNode):
            self.used += 3
            return f"{self.id(on)} {self.id(some)}"
        return None

    def _intersection(self, node: BlankNode) -> Iterator[tuple[str, str]]:
        place = next((x.object for x in self.graph.match(node, _INTERSECTION)), None)
        members: list[str] = []
        before = self.used
        count = 3
        while isinstance(place, BlankNode):
            member = next((x.object for x in self.graph.match(place, _FIRST)), None)
            shown = self.id(member) if isinstance(member, NamedNode) else None
            if isinstance(member, BlankNode):
                shown = self._restriction(member)
            if shown is None:
                self.used = before
                return
            members.append(shown)
            count += 2
            place = next((x.object for x in self.graph.match(place, _REST)), None)
        if len(members) > 1:
            self.used += count
            for one in members:
                yield "intersection_of", one


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _line(text: str) -> str:
    out = text.replace("\\", "\\\\").replace("\n", "\\n")
    for mark in "!{}":
        out = out.replace(mark, f"\\{mark}")
    return out


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(" ", "\\ ")


def _xref(text: str) -> str:
    out = text.replace("\\", "\\\\")
    for mark in ' ,"]}':
        out = out.replace(mark, f"\\{mark}")
    return out

"""OBO: frames as triples of OWL in the way of the Gene Ontology, and back; fastobo reads the syntax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from pyoxigraph import BlankNode, Literal, NamedNode

from tutelage.data.rdf.graph import Graph
from tutelage.data.rdf.terms import (
    ALTERNATIVE_ID,
    AXIOM,
    AXIOM_PREDICATE,
    AXIOM_SOURCE,
    AXIOM_TARGET,
    CLASS,
    COMMENT,
    CONSIDER,
    DEFINITION,
    DEPRECATED,
    EQUIVALENT,
    LABEL,
    OBO,
    OIO,
    ON_PROPERTY,
    OWL,
    PROPERTY,
    RDF,
    REPLACED_BY,
    RESTRICTION,
    SOME,
    SUBCLASS,
    SUBPROPERTY,
    SUBSET,
    SYNONYMS,
    TRUE,
    TYPE,
    XREF,
    Prefixes,
)
from tutelage.recipe.errors import InputError

if TYPE_CHECKING:
    from tutelage.data.rdf.sources import Source

_NIL, _FIRST, _REST = (NamedNode(f"{RDF}{n}") for n in ("nil", "first", "rest"))
_INTERSECTION = NamedNode(f"{OWL}intersectionOf")
_NAMESPACE, _ID = NamedNode(f"{OIO}hasOBONamespace"), NamedNode(f"{OIO}id")
_NAMED = {
    "inverse_of": NamedNode(f"{OWL}inverseOf"),
    "disjoint_from": NamedNode(f"{OWL}disjointWith"),
    "domain": NamedNode("http://www.w3.org/2000/01/rdf-schema#domain"),
    "range": NamedNode("http://www.w3.org/2000/01/rdf-schema#range"),
    "replaced_by": REPLACED_BY,
    "consider": CONSIDER,
    "subset": SUBSET,
    "subsetdef": SUBSET,
}
_TEXTS = {
    "namespace": _NAMESPACE,
    "alt_id": ALTERNATIVE_ID,
    "created_by": NamedNode(f"{OIO}created_by"),
    "creation_date": NamedNode(f"{OIO}creation_date"),
}
_FLAGS = {
    "is_transitive": NamedNode(f"{OWL}TransitiveProperty"),
    "is_symmetric": NamedNode(f"{OWL}SymmetricProperty"),
    "is_functional": NamedNode(f"{OWL}FunctionalProperty"),
}


def read_obo(stream: IO[bytes], source: Source) -> Iterator[bytes]:
    """N-Triples of a file's frames, one after the other.

    Raises:
        InputError: It is no OBO, with the line.
    """
    import fastobo

    try:
        frames = fastobo.iter(stream, ordered=True)
        reader = _Reader(frames.header(), source.curies)
        yield from (line.encode() for line in reader.head())
        for frame in frames:
            yield "".join(reader.frame(frame)).encode()
    except SyntaxError as error:
        raise InputError(f"{source.path}, line {error.lineno}: no OBO: {error.msg}. Nothing was loaded") from error
    if reader.unread:
        shown = ", ".join(f"{tag} ({count})" for tag, count in sorted(reader.unread.items()))
        source.warnings.append(f"{source.name}: clauses without a form in triples were left out: {shown}")


class _Reader:
    """Turns frames into lines."""

    def __init__(self, header: Any, prefixes: Prefixes) -> None:
        self.prefixes = prefixes
        self.header = list(header)
        self.unread: dict[str, int] = {}
        names = {c.raw_tag(): c.raw_value() for c in self.header}
        self.ontology = NamedNode(f"{OBO}{names.get('ontology', 'unnamed')}.owl")
        self.namespace = names.get("default-namespace")

    def head(self) -> Iterator[str]:
        yield f"{self.ontology} {TYPE} <{OWL}Ontology> .\n"
        for clause in self.header:
            tag, value = clause.raw_tag(), clause.raw_value()
            if tag == "subsetdef":
                name, _, text = value.partition(" ")
                subset = self.node(name)
                yield f"{subset} {SUBPROPERTY} <{OIO}SubsetProperty> .\n"
                yield f"{subset} {COMMENT} {Literal(text.strip().strip(chr(34)))} .\n"
            elif tag == "format-version":
                yield f"{self.ontology} <{OIO}hasOBOFormatVersion> {Literal(value)} .\n"
            elif tag == "data-version":
                yield f"{self.ontology} <{OWL}versionInfo> {Literal(value)} .\n"

    def node(self, name: str) -> NamedNode:
        """The node of an identifier: ``GO:1``, an IRI, or a plain word of the ontology."""
        if name.startswith(("http://", "https://")):
            return NamedNode(name)
        prefix, colon, local = name.partition(":")
        if colon:
            return NamedNode(self.prefixes.spaces.get(prefix, f"{OBO}{prefix}_") + local)
        return NamedNode(f"{self.ontology.value.removesuffix('.owl')}#{name}")

    def frame(self, frame: Any) -> Iterator[str]:
        kind = type(frame).__name__
        subject = self.node(str(frame.id))
        types = {"TermFrame": CLASS, "TypedefFrame": PROPERTY, "InstanceFrame": NamedNode(f"{OWL}NamedIndividual")}
        yield f"{subject} {TYPE} {types[kind]} .\n"
        yield f"{subject} {_ID} {Literal(str(frame.id))} .\n"
        if self.namespace and not any(c.raw_tag() == "namespace" for c in frame):
            yield f"{subject} {_NAMESPACE} {Literal(self.namespace)} .\n"
        parts: list[str] = []
        for clause in frame:
            if clause.raw_tag() == "intersection_of":
                lines, member = self._member(clause)
                yield from lines
                parts.append(member)
            else:
                yield from self._clause(subject, clause, kind)
        if parts:
            yield from self._intersection(subject, parts)

    def _clause(self, subject: NamedNode, clause: Any, kind: str) -> Iterator[str]:
        tag = clause.raw_tag()
        if tag == "name":
            yield f"{subject} {LABEL} {Literal(clause.name)} .\n"
        elif tag == "def":
            yield from self._cited(subject, DEFINITION, clause.definition, clause.xrefs)
        elif tag == "synonym":
            found = clause.synonym
            yield from self._cited(subject, SYNONYMS[found.scope.lower()], found.desc, found.xrefs)
        elif tag == "comment":
            yield f"{subject} {COMMENT} {Literal(clause.comment)} .\n"
        elif tag == "xref":
            yield f"{subject} {XREF} {Literal(str(clause.xref.id))} .\n"
        elif tag == "is_a":
            parent = SUBCLASS if kind == "TermFrame" else SUBPROPERTY if kind == "TypedefFrame" else TYPE
            yield f"{subject} {parent} {self.node(clause.raw_value())} .\n"
        elif tag == "relationship":
            lines, member = self._member(clause)
            yield from lines
            yield f"{subject} {SUBCLASS} {member} .\n"
        elif tag == "is_obsolete":
            if clause.obsolete:
                yield f"{subject} {DEPRECATED} {TRUE} .\n"
        elif tag in _NAMED:
            yield f"{subject} {_NAMED[tag]} {self.node(clause.raw_value())} .\n"
        elif tag in _TEXTS:
            yield f"{subject} {_TEXTS[tag]} {Literal(clause.raw_value())} .\n"
        elif tag in _FLAGS and clause.raw_value() == "true":
            yield f"{subject} {TYPE} {_FLAGS[tag]} .\n"
        elif tag == "property_value":
            found = clause.property_value
            value = getattr(found, "value", None)
            if isinstance(value, str):
                object: Any = Literal(value, datatype=NamedNode(str(self.node(str(found.datatype)).value)))
            else:
                object = self.node(str(value))
            yield f"{subject} {self.node(str(found.relation))} {object} .\n"
        else:
            self.unread[tag] = self.unread.get(tag, 0) + 1

    def _member(self, clause: Any) -> tuple[list[str], str]:
        """A class, or the restriction that a relation and a class make."""
        term, typedef = self.node(str(clause.term)), getattr(clause, "typedef", None)
        if typedef is None:
            return [], str(term)
        node = BlankNode()
        return [
            f"{node} {TYPE} {RESTRICTION} .\n",
            f"{node} {ON_PROPERTY} {self.node(str(typedef))} .\n",
            f"{node} {SOME} {term} .\n",
        ], str(node)

    @staticmethod
    def _intersection(subject: NamedNode, parts: list[str]) -> Iterator[str]:
        whole, cells = BlankNode(), [BlankNode() for _ in parts]
        yield f"{subject} {EQUIVALENT} {whole} .\n{whole} {TYPE} {CLASS} .\n{whole} {_INTERSECTION} {cells[0]} .\n"
        for place, (here, part) in enumerate(zip(cells, parts, strict=True)):
            after = cells[place + 1] if place + 1 < len(cells) else _NIL
            yield f"{here} {_FIRST} {part} .\n{here} {_REST} {after} .\n"

    @staticmethod
    def _cited(subject: NamedNode, predicate: NamedNode, text: str, xrefs: Any) -> Iterator[str]:
        value = Literal(text)
        yield f"{subject} {predicate} {value} .\n"
        if cited := [str(x.id) for x in xrefs]:
            node = BlankNode()
            yield f"{node} {TYPE} {AXIOM} .\n{node} {AXIOM_SOURCE} {subject} .\n"
            yield f"{node} {AXIOM_PREDICATE} {predicate} .\n{node} {AXIOM_TARGET} {value} .\n"
            for one in cited:
                yield f"{node} {XREF} {Literal(one)} .\n"


def write_obo(graph: Graph, out: IO[bytes]) -> int:
    """Write a graph as OBO; returns how many triples have no form in it."""
    from tutelage.data.rdf.obo_writing import Writer

    return Writer(graph).write(out)

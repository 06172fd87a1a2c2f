"""Changes as RDF, with the predicates of the published schema."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

from pyoxigraph import BlankNode, Literal, NamedNode, RdfFormat, Triple, parse, serialize

from tutelage.data.kgcl.elements import Change, Edge
from tutelage.data.kgcl.forms import from_dict, to_dict
from tutelage.data.kgcl.model import TYPES
from tutelage.data.kgcl.words import is_iri
from tutelage.data.rdf.terms import RDF, RDFS, Prefixes
from tutelage.recipe.errors import InputError

KGCL, OM = "http://w3id.org/kgcl/", "http://w3id.org/kgcl/om/"
_TYPE = NamedNode(f"{RDF}type")
_DCTERMS, _PROV = "http://purl.org/dc/terms/", "http://www.w3.org/ns/prov#"
_ELSEWHERE = {
    **{name: OM + name for name in Edge.model_fields},
    **{name: OM + name for name in ("name", "owl_type", "property", "filler", "property_type", "filler_type")},
    "see_also": f"{RDFS}seeAlso",
    "creator": f"{_DCTERMS}creator",
    "contributor": f"{_DCTERMS}contributor",
    "change_date": f"{_DCTERMS}date",
    "was_generated_by": f"{_PROV}wasGeneratedBy",
}
_FIELDS = {iri: name for name, iri in _ELSEWHERE.items()}
_NODES = {"about_node", "subject", "predicate", "object", "in_subset", "superclass", "property"}
_LISTS = {"change_set", "associated_change_set", "has_nondirect_replacement"}
_SESSION, _SET, _ORDER = NamedNode(f"{KGCL}Session"), NamedNode(f"{KGCL}change_set"), NamedNode(f"{KGCL}order")


def to_rdf(changes: Iterable[Change], prefixes: Prefixes | None = None) -> str:
    """A session in Turtle. Nodes whose prefix is known are IRIs, all else is text.

    The order of changes, for which the schema has no predicate, is in ``kgcl:order``.
    """
    known = prefixes or Prefixes()
    triples: list[Triple] = []
    session = BlankNode()
    triples.append(Triple(session, _TYPE, _SESSION))
    for place, change in enumerate(changes):
        node = _described(to_dict(change), known, triples)
        triples.append(Triple(session, _SET, node))
        triples.append(Triple(node, _ORDER, Literal(place)))
    out = io.BytesIO()
    spaces = {"kgcl": KGCL, "om": OM, "rdfs": RDFS, **{n: s for n, s in known.own.items() if n}}
    serialize(triples, out, RdfFormat.TURTLE, prefixes=spaces)
    return out.getvalue().decode()


def _described(found: Mapping[str, Any], prefixes: Prefixes, triples: list[Triple]) -> NamedNode | BlankNode:
    said = found.get("id")
    name = _iri(said, prefixes) if said else None
    node: NamedNode | BlankNode = NamedNode(name) if name else BlankNode()
    if said and name is None:
        triples.append(Triple(node, NamedNode(f"{KGCL}id"), Literal(said)))
    for field, value in found.items():
        if field == "id":
            continue
        if field == "type":
            triples.append(Triple(node, _TYPE, NamedNode(KGCL + value)))
            continue
        predicate = NamedNode(_ELSEWHERE.get(field, KGCL + field))
        for place, one in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(one, Mapping):
                object: Any = _described(one, prefixes, triples)
                if field in _LISTS:
                    triples.append(Triple(object, _ORDER, Literal(place)))
            else:
                object = _term(field, str(one), found, prefixes)
            triples.append(Triple(node, predicate, object))
    return node


def _term(field: str, text: str, found: Mapping[str, Any], prefixes: Prefixes) -> NamedNode | Literal:
    """Only what comes back as it was is written as an IRI."""
    beside = found.get(f"{field}_representation") or found.get(f"{field}_type") or "curie"
    if field in _NODES and beside == "curie" and (iri := _iri(text, prefixes)):
        back = prefixes.contract(iri) or iri
        if back == text:
            return NamedNode(iri)
    return Literal(text)


def _iri(text: str, prefixes: Prefixes) -> str | None:
    if is_iri(text):
        iri = text
    else:
        space, colon, local = text.partition(":")
        if not colon or space not in prefixes.spaces:
            return None
        iri = prefixes.spaces[space] + local
    try:
        return NamedNode(iri).value
    except ValueError:
        return None


def from_rdf(text: str, prefixes: Prefixes | None = None) -> list[Change]:
    """Changes of a session, or all that are there, in Turtle.

    Raises:
        InputError: It is no Turtle, or describes no change.
    """
    known = prefixes or Prefixes()
    about: dict[Any, dict[str, list[Any]]] = {}
    try:
        for quad in parse(text.encode(), RdfFormat.TURTLE, base_iri="urn:kgcl:"):
            about.setdefault(quad.subject, {}).setdefault(quad.predicate.value, []).append(quad.object)
    except SyntaxError as error:
        raise InputError(f"no Turtle: {error}") from error
    sessions = [s for s, said in about.items() if _SESSION in said.get(_TYPE.value, [])]
    if sessions:
        nodes = [n for s in sessions for n in about[s].get(_SET.value, [])]
    else:
        inside = {o for said in about.values() for p in _LISTS for o in said.get(KGCL + p, [])}
        nodes = [s for s, said in about.items() if s not in inside and _kind(said) in TYPES]
    return [from_dict(_gathered(n, about, known)) for n in _ordered(nodes, about)]


def _ordered(nodes: list[Any], about: Mapping[Any, Mapping[str, list[Any]]]) -> list[Any]:
    def key(node: Any) -> tuple[int, str]:
        order = about.get(node, {}).get(_ORDER.value)
        return (int(order[0].value) if order else 0, str(node))

    return sorted(nodes, key=key)


def _kind(said: Mapping[str, list[Any]]) -> str | None:
    """Class of a change; the published package writes its name as text under a predicate of its own."""
    for predicate in (_TYPE.value, "rdf:type", "urn:kgcl:rdf:type", f"{KGCL}type"):
        for value in said.get(predicate, []):
            name = str(value.value).rpartition("/")[2].rpartition(":")[2]
            if name in TYPES or name in ("Edge", "Annotation"):
                return name
    return None


def _gathered(node: Any, about: Mapping[Any, Mapping[str, list[Any]]], prefixes: Prefixes) -> dict[str, Any]:
    said = about.get(node, {})
    out: dict[str, Any] = {}
    kind = _kind(said)
    if kind in TYPES:
        out["type"] = kind
    if isinstance(node, NamedNode):
        out["id"] = prefixes.contract(node.value) or node.value
    for predicate, values in said.items():
        field = _FIELDS.get(predicate) or predicate.removeprefix(KGCL)
        if field == "order" or predicate in (_TYPE.value, f"{KGCL}type") or predicate.endswith("rdf:type"):
            continue
        if field == predicate:
            raise InputError(f"unknown predicate <{predicate}> of a change")
        values = _ordered(values, about) if field in _LISTS else values
        read = [
            _gathered(v, about, prefixes) if v in about and field not in _NODES else _value(v, prefixes) for v in values
        ]
        out[field] = read if field in _LISTS else read[0]
    return out


def _value(term: Any, prefixes: Prefixes) -> str:
    if isinstance(term, NamedNode):
        return prefixes.contract(term.value) or term.value
    return str(term.value)

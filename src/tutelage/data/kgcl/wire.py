"""Changes as JSON and RDF, as other programs exchange them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pyoxigraph import BlankNode, Literal, NamedNode, RdfFormat, Triple, parse, serialize

from tutelage.data.kgcl.model import TYPES, Activity, Change, Edge, Session
from tutelage.data.rdf import terms as t
from tutelage.recipe.errors import InputError, nearest

KGCL = "http://w3id.org/kgcl/"
_NESTED = ("change_set", "associated_change_set")
_IRIS = {
    "see_also": f"{t.RDFS}seeAlso",
    "creator": "http://purl.org/dc/terms/creator",
    "contributor": "http://purl.org/dc/terms/contributor",
    "change_date": "http://purl.org/dc/terms/date",
    "was_generated_by": "http://www.w3.org/ns/prov#wasGeneratedBy",
    "started_at_time": "http://www.w3.org/ns/prov#startedAtTime",
    "ended_at_time": "http://www.w3.org/ns/prov#endedAtTime",
    "was_informed_by": "http://www.w3.org/ns/prov#wasInformedBy",
    "was_associated_with": "http://www.w3.org/ns/prov#wasAssociatedWith",
    "used": "http://www.w3.org/ns/prov#used",
    "description": "http://purl.org/dc/terms/description",
}
_FIELDS = {iri: name for name, iri in _IRIS.items()}


def to_dict(change: Change, number: int = 0) -> dict[str, Any]:
    """A change with its type, without what it does not say."""
    out: dict[str, Any] = {"id": change.id or f"kgcl_change_id_{number}", "type": type(change).__name__}
    for name in type(change).model_fields:
        value = getattr(change, name)
        if value is None or name == "id" or (name == "change_set" and not value):
            continue
        if isinstance(value, Change):
            out[name] = to_dict(value)
        elif isinstance(value, Edge | Activity):
            out[name] = value.model_dump(exclude_none=True)
        elif name in _NESTED and isinstance(value, list):
            out[name] = [to_dict(c, i) if isinstance(c, Change) else c for i, c in enumerate(value)]
        else:
            out[name] = value
    return out


def to_json(changes: Sequence[Change], activities: Sequence[Activity] = ()) -> str:
    """A session, in the form of the ``kgcl-schema`` package."""
    session: dict[str, Any] = {"change_set": [to_dict(c, i) for i, c in enumerate(changes)]}
    if activities:
        session["activity_set"] = [a.model_dump(exclude_none=True) for a in activities]
    return json.dumps({**session, "@type": "Session"}, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str, name: str = "") -> Session:
    """A session, a list of changes, or one change.

    Raises:
        InputError: It is none.
    """
    where = f"{name}: " if name else ""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}no JSON: {error}") from error
    if isinstance(found, Mapping) and "change_set" in found and "type" not in found:
        changes, activities = found["change_set"], found.get("activity_set", [])
    else:
        changes, activities = (found if isinstance(found, list) else [found]), []
    if not isinstance(changes, list) or not isinstance(activities, list):
        raise InputError(f"{where}`change_set` and `activity_set` are lists")
    try:
        return Session(
            change_set=[from_dict(c, f"{where}change {i}") for i, c in enumerate(changes, 1)],
            activity_set=[Activity(**a) for a in activities],
        )
    except (ValidationError, TypeError) as error:
        raise InputError(f"{where}an activity is wrong: {_first(error)}") from error


def from_dict(found: Any, where: str = "change") -> Change:
    """A change of its JSON form.

    Raises:
        InputError: Its type or a field is unknown.
    """
    if not isinstance(found, Mapping) or "type" not in found:
        raise InputError(f"{where}: expected an object with a `type`")
    kind = str(found["type"]).rpartition(":")[2].rpartition("/")[2]
    if kind not in TYPES:
        raise InputError(f"{where}: unknown type {kind!r}. {nearest(kind, TYPES)}")
    values = {k: v for k, v in found.items() if k not in ("type", "@type")}
    for name in _NESTED:
        if isinstance(values.get(name), list):
            values[name] = [from_dict(c, f"{where}, {name} {i}") for i, c in enumerate(values[name], 1)]
    if isinstance(values.get("has_undo"), Mapping):
        values["has_undo"] = from_dict(values["has_undo"], f"{where}, has_undo")
    try:
        return TYPES[kind](**values)
    except ValidationError as error:
        raise InputError(f"{where}: a {kind} is wrong: {_first(error)}") from error


def _first(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    one = error.errors()[0]
    return f"{'.'.join(map(str, one['loc']))}: {one['msg']}"


# ---------------------------------------------------------------------- RDF


def to_rdf(changes: Sequence[Change]) -> str:
    """A session in Turtle, in the published vocabulary; the order of changes is kept as ``kgcl:index``."""
    out: list[Triple] = []
    session = BlankNode("session")
    out.append(Triple(session, t.TYPE, NamedNode(f"{KGCL}Session")))
    for number, change in enumerate(changes):
        node = _write(to_dict(change, number), out, number)
        out.append(Triple(session, NamedNode(f"{KGCL}change_set"), node))
    data = serialize(out, format=RdfFormat.TURTLE, prefixes={"kgcl": KGCL, "dcterms": "http://purl.org/dc/terms/"})
    assert data is not None
    return data.decode()


def _write(values: Mapping[str, Any], out: list[Triple], number: int) -> BlankNode:
    node = BlankNode()
    out.append(Triple(node, t.TYPE, NamedNode(f"{KGCL}{values.get('type', 'Edge')}")))
    out.append(Triple(node, NamedNode(f"{KGCL}index"), Literal(number)))
    for name, value in values.items():
        if name == "type":
            continue
        predicate = NamedNode(_IRIS.get(name, f"{KGCL}{name}"))
        several = isinstance(value, list)
        for place, one in enumerate(value if several else [value]):
            if isinstance(one, Mapping):
                out.append(Triple(node, predicate, _write(one, out, place)))
            elif several:
                cell = BlankNode()
                out.append(Triple(node, predicate, cell))
                out.append(Triple(cell, NamedNode(f"{KGCL}index"), Literal(place)))
                out.append(Triple(cell, NamedNode(f"{KGCL}value"), Literal(str(one))))
            else:
                out.append(Triple(node, predicate, Literal(str(one))))
    return node


def from_rdf(text: str, name: str = "") -> Session:
    """The session of `to_rdf`.

    Raises:
        InputError: It is no Turtle, or holds no session.
    """
    try:
        triples = [q.triple for q in parse(text, RdfFormat.TURTLE)]
    except SyntaxError as error:
        raise InputError(f"{name}: no Turtle: {error.msg}") from error
    said: dict[Any, list[Triple]] = {}
    for x in triples:
        said.setdefault(x.subject, []).append(x)
    sessions = [x.subject for x in triples if x.predicate == t.TYPE and x.object == NamedNode(f"{KGCL}Session")]
    if not sessions:
        raise InputError(f"{name}: no kgcl:Session in it")
    found = [x.object for s in sessions for x in said[s] if x.predicate == NamedNode(f"{KGCL}change_set")]
    read = sorted((_read(node, said) for node in found), key=lambda pair: pair[0])
    return Session(change_set=[from_dict(values, f"{name}: change {i}") for i, (_, values) in enumerate(read, 1)])


def _read(node: Any, said: Mapping[Any, list[Triple]]) -> tuple[int, Any]:
    index, values = 0, dict[str, Any]()
    several: dict[str, list[tuple[int, Any]]] = {}
    for x in said.get(node, ()):
        iri = x.predicate.value
        name = _FIELDS.get(iri, iri.removeprefix(KGCL))
        if iri == t.TYPE.value:
            kind = x.object.value.removeprefix(KGCL)  # type: ignore[union-attr]
            if kind != "Edge":
                values["type"] = kind
        elif name == "index":
            index = int(x.object.value)  # type: ignore[union-attr]
        elif isinstance(x.object, BlankNode):
            several.setdefault(name, []).append(_read(x.object, said))
        else:
            values[name] = x.object.value  # type: ignore[union-attr]
    if set(values) == {"value"} and not several:
        return index, values["value"]
    for name, items in several.items():
        listed = [value for _, value in sorted(items, key=lambda pair: pair[0])]
        values[name] = listed if name in (*_NESTED, "has_nondirect_replacement") else listed[0]
    return index, values

"""Controlled English to changes, and changes to controlled English."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tutelage.data.kgcl import words
from tutelage.data.kgcl.elements import (
    METADATA,
    SUBCLASS,
    Change,
    ComplexChange,
    Edge,
    Element,
    MultiNodeObsoletion,
    Transaction,
)
from tutelage.data.kgcl.grammar import ALIASES, ROWS, Row
from tutelage.data.kgcl.model import TYPES, NodeObsoletion
from tutelage.recipe.errors import InputError, nearest

_FIELD = re.compile(r"\{([\w.]+):(\w+)(?:/([\w.]+))?(?:@(\w+))?(?:\^(\w+))?\}")
_PART = re.compile(r"\[([^\]]*)\]|(\S*\{[^}]*\}\S*)|(\S+)")
_PATTERNS = {
    **words.PATTERNS,
    "reference": words.PATTERNS["value"],
    "references": words.PATTERNS["entities"],
    "obsoletions": words.PATTERNS["entities"],
    "reading": "(?:some|only)",
}
_END = re.compile(r"\s*(?:#.*)?")
_UNDER = {"EdgeCreation": "PlaceUnder", "EdgeDeletion": "RemoveUnder"}


@dataclass(frozen=True)
class _Slot:
    """A token's place: the field, what pattern it has, and the fields that say more of it."""

    field: str
    kind: str
    representation: str | None
    language: str | None
    datatype: str | None
    before: str = ""
    after: str = ""


_Piece = str | _Slot | tuple["_Piece", ...]


@dataclass(frozen=True)
class _Compiled:
    """A row, ready to read and to write."""

    row: Row
    pattern: re.Pattern[str]
    pieces: tuple[_Piece, ...]
    slots: tuple[_Slot, ...]
    says: frozenset[str]


def _pieces(template: str) -> tuple[_Piece, ...]:
    out: list[_Piece] = []
    for inner, field, word in _PART.findall(template):
        if inner:
            out.append(_pieces(inner))
        elif field:
            found = _FIELD.search(field)
            assert found is not None
            name, kind, representation, language, datatype = found.groups()
            before, after = field[: found.start()], field[found.end() :]
            out.append(_Slot(name, kind, representation, language, datatype, before, after))
        else:
            out.append(word)
    return tuple(out)


def _regex(pieces: Sequence[_Piece], slots: list[_Slot], first: bool) -> str:
    out = ""
    for piece in pieces:
        space = "" if first else r"\s*" if piece == "," else r"\s+"
        first = False
        if isinstance(piece, tuple):
            out += f"(?:{space}{_regex(piece, slots, True)})?"
        elif isinstance(piece, str):
            out += space + ("(?:" + "|".join(map(re.escape, piece.split("|"))) + ")")
        else:
            slots.append(piece)
            out += f"{space}{re.escape(piece.before)}({_PATTERNS[piece.kind]}){re.escape(piece.after)}"
    return out


@cache
def _rows() -> Mapping[str, tuple[_Compiled, ...]]:
    """Rows by their first word."""
    out: dict[str, list[_Compiled]] = {}
    for row in ROWS:
        pieces, slots = _pieces(row.template), list[_Slot]()
        pattern = re.compile(_regex(pieces, slots, True))
        says = {name for s in slots for name in (s.field, s.representation, s.language, s.datatype) if name}
        says |= {name for name, _ in row.defaults}
        compiled = _Compiled(row, pattern, pieces, tuple(slots), frozenset(says))
        out.setdefault(str(pieces[0]), []).append(compiled)
    return {word: tuple(rows) for word, rows in out.items()}


@cache
def _rows_of(kind: str) -> tuple[_Compiled, ...]:
    kind = {v: k for k, v in _UNDER.items()}.get(kind, ALIASES.get(kind, kind))
    return tuple(c for rows in _rows().values() for c in rows if c.row.kind == kind)


def parse(text: str) -> list[Change]:
    """Commands, one a line; blank lines, and what follows ``#``, say nothing.

    Raises:
        InputError: A line is no command; it says which.
    """
    out = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            try:
                out.append(parse_command(stripped))
            except InputError as error:
                raise InputError(f"line {number}: {error}") from error
    return out


def parse_command(text: str) -> Change:
    """One command as a change.

    Raises:
        InputError: It is none; the error shows the nearest form.
    """
    text = text.strip()
    word = text.split(None, 1)[0] if text else ""
    for compiled in _rows().get(word, ()):
        found = compiled.pattern.match(text)
        if found is not None and _END.fullmatch(text, found.end()) and not text[found.end() :].startswith("#"):
            return _built(compiled, found.groups())
    raise InputError(_unread(text, word))


def _unread(text: str, word: str) -> str:
    rows = _rows().get(word)
    if rows is None:
        return f"{text[:80]!r} is no command: {word!r} begins none. {nearest(word, _rows())}"
    forms = [_form(c.row.template) for c in rows]
    shown = "\n  ".join(forms[:12])
    quoted = " A quote within a text is written \\'." if text.count("'") > 1 else ""
    return f"{text[:120]!r} is no command.{quoted} Expected one of\n  {shown}"


def _form(template: str) -> str:
    """A template for people."""
    names = {"entity": "NODE", "identifier": "ID", "text": "'text'", "value": "VALUE", "reference": "NODE"}
    names |= {"references": "NODE, ...", "obsoletions": "NODE, ...", "scope": "SCOPE", "language": "LANGUAGE"}
    return _FIELD.sub(lambda m: names.get(m[2], "some|only"), template).replace(" ,", ",")


def _built(compiled: _Compiled, tokens: Sequence[str | None]) -> Change:
    kind = compiled.row.kind
    values: dict[str, Any] = dict(compiled.row.defaults)
    for slot, token in zip(compiled.slots, tokens, strict=True):
        if token is not None:
            _read(slot, token, values)
    if "same" in values:
        if values.pop("same") != values["edge.predicate"]:
            raise InputError(
                "a move keeps its predicate; use `change relationship between A and B from P to Q` beside it"
            )
        values["edge.object"] = values["old_value"]
        values["edge.object_representation"] = values.get("old_object_type")
    if kind in ("NodeMove", "NodeDeepening", "NodeShallowing") and "old_value" in values:
        values.setdefault("edge.object", values["old_value"])
        values.setdefault("edge.object_representation", values.get("old_object_type"))
    if kind == "PredicateChange":
        values["edge.predicate"] = values["old_value"]
        values["edge.predicate_representation"] = values.get("old_value_type")
    edge = {name[5:]: values.pop(name) for name in list(values) if name.startswith("edge.")}
    if edge:
        values["about_edge"] = Edge(**edge)
    if kind in _UNDER and values["predicate"] in SUBCLASS:
        kind = _UNDER[kind]
    return TYPES[kind](**values)


def _read(slot: _Slot, token: str, values: dict[str, Any]) -> None:
    if slot.kind in ("scope", "language", "reading"):
        values[slot.field] = token
        return
    if slot.kind == "obsoletions":
        found = [words.read(t) for t in words.read_all(token)]
        values[slot.field] = [
            NodeObsoletion(about_node=t.text, about_node_representation=t.representation) for t in found
        ]
        return
    if slot.kind == "references":
        values[slot.field] = [_reference(t) for t in words.read_all(token)]
        return
    if slot.kind == "reference":
        values[slot.field] = _reference(token)
        return
    said = words.read(token)
    values[slot.field] = said.text
    if slot.representation:
        values[slot.representation] = said.representation
    for what, value in ((slot.language, said.language), (slot.datatype, said.datatype)):
        if value is None:
            continue
        if what is None:
            raise InputError(f"{token}: a language or datatype says nothing here")
        if values.get(what, value) != value:
            raise InputError(f"{token}: the languages of both texts must be the same here")
        values[what] = value


def _reference(token: str) -> str:
    """A token in its own form: IRIs without brackets, labels and values with quotes."""
    said = words.read(token)
    if said.representation == "curie":
        return said.text
    return words.write(*said)


# ---------------------------------------------------------------------- to text


def render(change: Change) -> str:
    """A change in controlled English; the several of a set one a line.

    Raises:
        InputError: It holds what the language has no words for.
    """
    if isinstance(change, Transaction) or type(change) is ComplexChange:
        return "\n".join(render(one) for one in change.change_set)
    if isinstance(change, MultiNodeObsoletion):
        said = [one for one in change.change_set if type(one) is NodeObsoletion and _said(one) <= _NODE]
        if not said or len(said) != len(change.change_set):
            raise InputError("obsolete multiple: only plain obsoletions can be said together; render each alone")
    values = dict(_values(change))
    kind = type(change).__name__
    if kind in ("NodeMove", "NodeDeepening", "NodeShallowing") and values.get("edge.object") == values.get("old_value"):
        values.setdefault("edge.object_representation", values.get("old_object_type"))
    rows = _rows_of(kind)
    for compiled in rows:
        if not compiled.row.only_read and _fits(compiled, values):
            text = _filled(compiled.pieces, values)
            if text is not None:
                return text
    beyond = sorted(set(values) - frozenset().union(*(c.says for c in rows))) if rows else []
    what = f"its {', '.join(beyond)}" if beyond else "all that it holds together" if rows else "changes of this type"
    raise InputError(f"{kind}: controlled English has no words for {what}; write it as JSON or RDF")


_NODE = {"about_node", "about_node_representation"}


def _said(change: Change) -> set[str]:
    return {name for name, _ in _values(change)}


def _values(element: Element, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields with something in them, those of the edge with their prefix."""
    for name in type(element).model_fields:
        value = getattr(element, name)
        if value is None or value == [] or (not prefix and name in METADATA) or name == "type":
            continue
        if isinstance(value, Edge):
            yield from _values(value, "edge.")
        else:
            yield prefix + name, value


_IMPLIED = {
    "edge.object": "old_value",
    "edge.object_representation": "old_object_type",
    "edge.predicate": "old_value",
    "edge.predicate_representation": "old_value_type",
}


def _fits(compiled: _Compiled, values: Mapping[str, Any]) -> bool:
    defaults = dict(compiled.row.defaults)
    if any(values.get(name) not in (value, None) for name, value in defaults.items()):
        return False
    if defaults and values.get("edge.predicate") is None:
        return False
    for name in values:
        if name in compiled.says:
            continue
        implied = _IMPLIED.get(name)
        if implied is None or values.get(implied) != values[name]:
            return False
    return True


def _filled(pieces: Sequence[_Piece], values: Mapping[str, Any]) -> str | None:
    """The words with their tokens; ``None`` where one is missing."""
    out = ""
    for piece in pieces:
        if isinstance(piece, tuple):
            text = _filled(piece, values)
            if text is None:
                continue
        elif isinstance(piece, str):
            text = piece.split("|")[0]
        else:
            value = values.get(piece.field)
            if value is None:
                return None
            text = piece.before + _written(piece, value, values) + piece.after
        out += text if not out or text == "," else f" {text}"
    return out


def _written(slot: _Slot, value: Any, values: Mapping[str, Any]) -> str:
    try:
        if slot.kind in ("scope", "language", "reading"):
            return str(value)
        if slot.kind == "obsoletions":
            return ", ".join(words.write(one.about_node, one.about_node_representation) for one in value)
        if slot.kind == "references":
            return ", ".join(_referred(one) for one in value)
        if slot.kind == "reference":
            return _referred(value)
        language = values.get(slot.language) if slot.language else None
        datatype = values.get(slot.datatype) if slot.datatype else None
        if slot.kind == "text":
            return words.write(value, "label", language, datatype)
        representation = values.get(slot.representation) if slot.representation else None
        return words.write(value, representation, language, datatype)
    except ValueError as error:
        raise InputError(str(error)) from error


def _referred(text: str) -> str:
    return text if text[:1] in "'\"<" else words.write(text, "curie")


def same(one: Change, other: Change) -> bool:
    """Whether two changes say the same, whoever made them and when."""
    return type(one) is type(other) and dict(_values(one)) == dict(_values(other))

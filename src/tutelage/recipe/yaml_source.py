"""YAML and Python values as trees that know where each value was written.

YAML 1.2 core schema: ``on`` and ``yes`` are text, ``1e-3`` is a number. A recipe is data: tags and merge keys are
refused (``base:`` is how recipes inherit), anchors are allowed within a bound on what they expand to.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tutelage.recipe.errors import Problem, RecipeError

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 60
Scalar = None | bool | int | float | str

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Place:
    """Where something was written: a file or override, 1-based line and column (0 when unknown)."""

    file: str | None = None
    line: int = 0
    column: int = 0


@dataclass(frozen=True)
class Node:
    """A value and its place.

    Args:
        value: A scalar, a tuple of nodes, or a mapping of keys to nodes.
        place: Where the value stands.
        key: Where its key stands, for a value in a mapping.
        short: The mapping was written as a bare string: ``kl`` for ``{name: kl}``.
    """

    value: Any
    place: Place = Place()
    key: Place | None = None
    short: bool = False

    @property
    def where(self) -> Place:
        """The key's place, or the value's where it has no key."""
        return self.key or self.place

    def plain(self) -> Any:
        """The value without places: dictionaries, lists and scalars."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value


def problem(message: str, place: Place, path: Sequence[str | int] = (), hint: str = "") -> Problem:
    """A problem at a place."""
    return Problem(message, tuple(path), place.file, place.line, place.column, hint)


def refuse(message: str, place: Place, path: Sequence[str | int] = (), hint: str = "") -> RecipeError:
    """An error with a single problem."""
    return RecipeError(problems=(problem(message, place, path, hint),))


def read_yaml(path: str | os.PathLike[str]) -> Node:
    """Read a YAML file.

    Raises:
        RecipeError: It cannot be read, or is not one well-formed document of plain data.
    """
    file = os.fspath(path)
    place = Place(file)
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise refuse("this is a folder; expected a YAML file.", place) from None
    except FileNotFoundError:
        raise refuse("there is no such file.", place, hint=_neighbours(Path(file))) from None
    except (OSError, ValueError) as error:
        raise refuse(f"the file cannot be read: {getattr(error, 'strerror', None) or error}.", place) from error
    if len(data) > MAX_BYTES:
        raise refuse(f"the file is larger than {MAX_BYTES // 1_000_000} MB; a recipe is a few lines of YAML.", place)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise refuse("this is not UTF-8 text; save the file as UTF-8.", Place(file, line, column)) from error
    return parse_yaml(text, file)


def parse_yaml(text: str, file: str | None = None) -> Node:
    """Parse one YAML document into nodes.

    Raises:
        RecipeError: It is not one well-formed document of plain data.
    """
    odd = _UNPRINTABLE.search(text)
    if odd:
        before = text[: odd.start()]
        place = Place(file, before.count("\n") + 1, odd.start() - before.rfind("\n"))
        raise refuse(f"the character {odd[0]!r} does not belong in a text file.", place)
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Composer(yaml.parse(text, Loader=loader), file).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        what = " ".join(filter(None, (error.context, error.problem)))
        raise refuse(f"this is not valid YAML: {what}.", place) from error
    except yaml.YAMLError as error:
        raise refuse(f"this is not valid YAML: {error}.", Place(file)) from error


def _neighbours(path: Path) -> str:
    from tutelage.recipe.errors import nearest

    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    return nearest(path.name, names) if names else ""


class _Composer:
    """Builds nodes from YAML events, so that duplicates, tags and expansion are under our control."""

    def __init__(self, events: Iterator[Any], file: str | None) -> None:
        self._events, self._file, self._event = events, file, next(events)
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._count = 0

    def _next(self) -> Any:
        event = self._event
        self._event = next(self._events, None)
        return event

    def _place(self, event: Any) -> Place:
        return Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def document(self) -> Node:
        self._next()
        if isinstance(self._event, yaml.StreamEndEvent):
            raise refuse("the file is empty; expected a recipe.", Place(self._file, 1, 1))
        self._next()
        node = self._node((), 0)
        self._next()
        if isinstance(self._event, yaml.DocumentStartEvent):
            raise refuse("a second document starts here; a recipe file holds one.", self._place(self._event))
        return node

    def _node(self, path: tuple[str | int, ...], depth: int) -> Node:
        event = self._next()
        place = self._place(event)
        if depth > MAX_DEPTH:
            raise refuse(f"values are nested more than {MAX_DEPTH} deep.", place, path[:8])
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place, path)
        if event.tag is not None and event.tag != "!":
            raise refuse(f"the tag '{event.tag}' is not accepted: a recipe is plain data.", place, path)
        start = self._count
        self._add(1, place, path)
        if event.anchor:
            self._anchors[event.anchor] = None
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = scalar(event.value, place, path) if event.implicit[0] else _encodable(event.value, place, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(self._event, yaml.SequenceEndEvent):
                items.append(self._node((*path, len(items)), depth + 1))
            self._next()
            value = tuple(items)
        else:
            value = self._mapping(path, depth)
        node = Node(value, place)
        if event.anchor:
            self._anchors[event.anchor] = (node, self._count - start)
        return node

    def _mapping(self, path: tuple[str | int, ...], depth: int) -> dict[str, Node]:
        out: dict[str, Node] = {}
        while not isinstance(self._event, yaml.MappingEndEvent):
            key = self._node(path, depth + 1)
            if not isinstance(key.value, str):
                what = show(key.plain())
                raise refuse(
                    f"the key {what} is {describe(key.value)}; keys are text.", key.place, path, "Quote it if it is."
                )
            if key.value == "<<":
                raise refuse(
                    "merge keys ('<<') are not accepted.", key.place, path, "Use 'base: other.yaml' to inherit."
                )
            if key.value in out:
                first = out[key.value].where
                raise refuse(
                    f"the key '{key.value}' appears twice; it is first set on line {first.line}.",
                    key.place,
                    (*path, key.value),
                )
            out[key.value] = replace(self._node((*path, key.value), depth + 1), key=key.place)
        self._next()
        return out

    def _alias(self, event: Any, place: Place, path: tuple[str | int, ...]) -> Node:
        if event.anchor not in self._anchors:
            raise refuse(f"the alias '*{event.anchor}' refers to no anchor before it.", place, path)
        known = self._anchors[event.anchor]
        if known is None:
            raise refuse(f"the anchor '&{event.anchor}' contains itself.", place, path)
        self._add(known[1], place, path)
        return replace(known[0], key=None)

    def _add(self, count: int, place: Place, path: tuple[str | int, ...]) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            raise refuse(f"the file expands to more than {MAX_VALUES:,} values.", place, path[:8])


def scalar(text: str, place: Place, path: Sequence[str | int] = ()) -> Scalar:
    """Value of an unquoted YAML 1.2 scalar.

    Raises:
        RecipeError: It is "not a number", or an integer too long to mean anything.
    """
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _BASED.fullmatch(text) or _INT.fullmatch(text):
        if len(text) > 400:
            raise refuse("this number has more than 400 digits.", place, path)
        return int(text, 0) if _BASED.fullmatch(text) else int(text)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise refuse(f"the number {text[:40]} is too large; write .inf for infinity.", place, path)
        return value
    if _INFINITE.fullmatch(text):
        return -math.inf if text[0] == "-" else math.inf
    if _NAN.fullmatch(text):
        raise refuse("'.nan' is not a number that anything can be set to.", place, path)
    return _encodable(text, place, path)


def _encodable(text: str, place: Place, path: Sequence[str | int]) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise refuse("this text holds half a character (a lone surrogate).", place, path) from None
    return text


def from_python(value: Any, path: tuple[str | int, ...] = (), *, place: Place = Place()) -> Node:
    """Nodes of a Python value: mappings, sequences, scalars and paths; the value itself is only read.

    Raises:
        RecipeError: It holds something that YAML has no word for.
    """
    if len(path) > MAX_DEPTH:
        raise refuse(f"values are nested more than {MAX_DEPTH} deep.", place, path[:8])
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise refuse(f"the key {show(key)} is {describe(key)}; keys are text.", place, path)
        return Node({k: replace(from_python(v, (*path, k), place=place), key=place) for k, v in value.items()}, place)
    if isinstance(value, list | tuple):
        return Node(tuple(from_python(v, (*path, i), place=place) for i, v in enumerate(value)), place)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, float) and math.isnan(value):
        raise refuse("'nan' is not a number that anything can be set to.", place, path)
    if isinstance(value, str):
        return Node(_encodable(str(value), place, path), place)
    for exact in (bool, int, float):
        if isinstance(value, exact):
            return Node(exact(value), place)
    if value is None:
        return Node(None, place)
    raise refuse(
        f"found a {type(value).__name__}; a recipe holds mappings, lists, text, numbers and booleans.", place, path
    )


def show(value: Any) -> str:
    """A value as a person would write it, cut short."""
    text = {True: "true", False: "false"}.get(value, "") if isinstance(value, bool) else ""
    text = text or ("null" if value is None else repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def describe(value: Any) -> str:
    """What sort of value it is, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "an integer"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a mapping" if isinstance(value, Mapping) else "a list"

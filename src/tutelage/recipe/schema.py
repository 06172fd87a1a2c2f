"""Types of recipe keys: what a value must be, in words and in code."""

from __future__ import annotations

import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import annotated_types as at
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from tutelage.recipe.errors import article
from tutelage.recipe.scan import REQUIRED, Param, arguments_doc
from tutelage.recipe.spec import Inner, Section, default_of
from tutelage.recipe.types import Of, Ramped

_LISTS = (list, tuple, Sequence, Iterable, typing.Sequence)


@dataclass(frozen=True)
class Form:
    """How a key's value is to be read.

    Args:
        of: Kind of the component it names, if it names one.
        section: Section it holds, if it holds one.
        many: Whether it is a list of them.
        nullable: Whether it may be null.
        ramped: Whether a ramp may stand in place of the number.
        plain: Its type.
    """

    of: str | None = None
    section: type[Section] | None = None
    many: bool = False
    nullable: bool = False
    ramped: bool = False
    plain: Any = Any


def form(annotation: Any, default: Any = REQUIRED) -> Form:
    """Read an annotation."""
    marks, base, nullable, many = [], annotation, default is None, False
    while True:
        origin = get_origin(base)
        if origin is Annotated:
            marks += list(base.__metadata__)
            base = base.__origin__
        elif origin in (Union, types.UnionType) and type(None) in get_args(base):
            nullable = True
            rest = [a for a in get_args(base) if a is not type(None)]
            if len(rest) > 1:
                marks += [m for a in rest if get_origin(a) is Annotated for m in a.__metadata__]
                break
            base = rest[0]
        elif origin in _LISTS or base in _LISTS:
            inner = [a for a in get_args(base) if a is not ...]
            found = [m for a in inner if get_origin(a) is Annotated for m in a.__metadata__ if isinstance(m, Of)]
            many = True
            marks += found
            break
        else:
            break
    of = next((m.kind for m in marks if isinstance(m, Of)), None)
    section = next((m.section for m in marks if isinstance(m, Inner)), None)
    return Form(of, section, many, nullable, any(isinstance(m, Ramped) for m in marks), annotation)


@lru_cache(maxsize=4096)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))


def adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """Pydantic's validator of a type; ``None`` for a type that only its owner can judge (a tensor, a module)."""
    try:
        return _adapter(annotation)
    except TypeError:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None


class Misfit(Exception):
    """A value is not of its type; ``places`` are keys within the value, one for each part that is wrong."""

    def __init__(self, places: Sequence[tuple[str | int, ...]]) -> None:
        super().__init__("misfit")
        self.places = places


def fit(annotation: Any, value: Any) -> Any:
    """The value as the type's own Python value: integers become floats and lists tuples where asked.

    Raises:
        Misfit: The value is of another type or outside the allowed range.
    """
    check = adapter(annotation)
    if check is None or annotation is Any:
        return value
    try:
        # Strict JSON mode is what a recipe needs: no text for numbers, no booleans for integers, lists for tuples.
        return check.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise Misfit([_within(value, e["loc"]) for e in error.errors(include_url=False)]) from None


def _within(value: Any, place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The part of an error's location that lies in the value; pydantic adds names of union members."""
    out: list[int | str] = []
    for key in place:
        if isinstance(value, dict) and key in value:  # noqa: SIM114 - joined, the types are lost
            value = value[key]
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            break
        out.append(key)
    return tuple(out)


_WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    type(None): "null",
    Any: "any value",
    dict: "a mapping",
}


def expected(annotation: Any) -> str:
    """A type in words, e.g. ``a number > 0 and <= 1``."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        marks = annotation.__metadata__
        of = next((m for m in marks if isinstance(m, Of)), None)
        base = article(of.kind) if of else expected(annotation.__origin__)
        limits = [w for m in marks for w in _limits(m)]
        ramp = " or a ramp" if any(isinstance(m, Ramped) for m in marks) else ""
        return base + (f" {' and '.join(limits)}" if limits else "") + ramp
    if origin is Literal:
        return "one of " + ", ".join(repr(a) if isinstance(a, str) else str(a) for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(expected(a) for a in args)
    if origin is tuple and args and args[-1] is not ...:
        return f"a list of {len(args)} ({', '.join(expected(a) for a in args)})"
    if origin in _LISTS or annotation in _LISTS:
        return f"a list of values, each {expected(args[0])}" if args else "a list"
    if origin in (dict, Mapping):
        return f"a mapping to values, each {expected(args[1])}"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limits(mark: Any) -> list[str]:
    out = []
    signs = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
    out += [f"{sign} {getattr(mark, a)}" for a, sign in signs if getattr(mark, a, None) is not None]
    if isinstance(mark, at.MultipleOf):
        out.append(f"that is a multiple of {mark.multiple_of}")
    low, high = getattr(mark, "min_length", None), getattr(mark, "max_length", None)
    if low or high is not None:
        out.append(f"of length {low or 0}{'' if high == low else f' to {high}' if high is not None else ' or more'}")
    pattern = getattr(mark, "pattern", None)
    return [*out, f"like {pattern}"] if pattern else out


@cache
def _section_params(section: Any) -> tuple[Param, ...]:
    hints = typing.get_type_hints(section, include_extras=True)
    docs = arguments_doc(inspect.getdoc(section))
    return tuple(Param(f.name, hints[f.name], default_of(f), docs.get(f.name, "")) for f in fields(section))


def section_params(section: type[Any]) -> tuple[Param, ...]:
    """Keys of a section: the fields of its dataclass."""
    return _section_params(cast(Hashable, section))


def runtime_params(thing: Callable[..., Any]) -> tuple[tuple[Param, ...], tuple[str, ...], bool]:
    """Keys, positional names and whether any other key is taken, of a live class or function.

    Positional-or-keyword parameters count as keys, for a user's own code was not written for recipes.

    Raises:
        ValueError: It has no signature.
    """
    signature = inspect.signature(thing)
    hints = runtime_hints(thing)
    docs = arguments_doc(inspect.getdoc(thing))
    keys, positional, rest = [], [], False
    for p in signature.parameters.values():
        if p.kind is p.VAR_KEYWORD:
            rest = True
        elif p.kind is p.POSITIONAL_ONLY:
            positional.append(p.name)
        elif p.kind is not p.VAR_POSITIONAL:
            default = REQUIRED if p.default is p.empty else p.default
            keys.append(Param(p.name, hints.get(p.name, Any), default, docs.get(p.name, "")))
    return tuple(keys), tuple(positional), rest


def runtime_hints(thing: Callable[..., Any]) -> dict[str, Any]:
    """Evaluated types of a live class's or function's parameters; empty where they cannot be evaluated."""
    target: Any = getattr(thing, "__init__") if isinstance(thing, type) else thing  # noqa: B009 - typed as Any
    # A dataclass's own __init__ evaluates inherited fields in the wrong module; the class does not.
    if isinstance(thing, type) and is_dataclass(thing):
        target = thing
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are the same value of the same type."""
    return type(a) is type(b) and a == b and not (isinstance(a, float) and math.isnan(a))

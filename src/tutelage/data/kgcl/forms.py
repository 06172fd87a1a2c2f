"""Changes as JSON, as YAML and as RDF, in the forms of the published schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tutelage.data.kgcl.elements import Change, ComplexChange, Session, Transaction
from tutelage.data.kgcl.language import parse, render
from tutelage.data.kgcl.model import TYPES
from tutelage.recipe.errors import InputError, nearest

if TYPE_CHECKING:
    from tutelage.data.rdf.terms import Prefixes

FORMS = ("text", "json", "yaml", "rdf")
_ENDINGS = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".ttl": "rdf"}


def to_dict(change: Change) -> dict[str, Any]:
    """A change as JSON holds it."""
    return change.model_dump(exclude_none=True)


def from_dict(found: Mapping[str, Any]) -> Change:
    """A change of what JSON holds.

    Raises:
        InputError: Its type is unknown, or a field wrong.
    """
    said = found.get("type")
    if not isinstance(said, str):
        raise InputError(f"a change without a type: {str(dict(found))[:120]}")
    name = said.rpartition(":")[2].rpartition("/")[2]
    kind = TYPES.get(name)
    if kind is None:
        raise InputError(f"unknown type of change {said!r}. {nearest(name, TYPES)}")
    try:
        return kind(**{**found, "type": name})
    except ValidationError as error:
        one = error.errors()[0]
        where = ".".join(str(part) for part in one["loc"])
        raise InputError(f"{name}{'.' + where if where else ''}: {one['msg']}") from error


def to_json(changes: Iterable[Change]) -> str:
    """A session of changes."""
    return json.dumps({"change_set": [to_dict(c) for c in changes], "@type": "Session"}, indent=2, ensure_ascii=False)


def from_session(found: Any) -> list[Change]:
    """Changes of a session, of a list, or a single one."""
    if isinstance(found, list):
        return [from_dict(one) for one in found]
    if not isinstance(found, dict):
        raise InputError("expected a session with a change_set")
    if "type" in found:
        return [from_dict(found)]
    unknown = set(found) - {"change_set", "activity_set", "@type", "@context"}
    if unknown:
        raise InputError(
            f"a session has no {sorted(unknown)[0]!r}. {nearest(sorted(unknown)[0], Session.model_fields)}"
        )
    return [from_dict(one) for one in found.get("change_set") or []]


def write(changes: Iterable[Change], form: str, prefixes: Prefixes | None = None) -> str:
    """Changes as ``text``, ``json``, ``yaml`` or ``rdf`` (Turtle)."""
    if form == "text":
        return "".join(render(change) + "\n" for change in changes)
    if form == "json":
        return to_json(changes) + "\n"
    if form == "yaml":
        import yaml

        return str(yaml.safe_dump(json.loads(to_json(changes)), sort_keys=False))
    from tutelage.data.kgcl.rdf import to_rdf

    return to_rdf(changes, prefixes)


def read(text: str, form: str, prefixes: Prefixes | None = None) -> list[Change]:
    """Changes of any form.

    Raises:
        InputError: It is none.
    """
    if form == "text":
        return parse(text)
    if form == "rdf":
        from tutelage.data.kgcl.rdf import from_rdf

        return from_rdf(text, prefixes)
    import yaml

    try:
        return from_session(json.loads(text) if form == "json" else yaml.safe_load(text))
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise InputError(f"no {form.upper()}: {error}") from error


def read_file(path: Path, form: str | None = None, prefixes: Prefixes | None = None) -> list[Change]:
    """Changes of a file; what has another ending than ``.json``, ``.yaml`` and ``.ttl`` is text.

    Raises:
        InputError: There is no such file, or it holds none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return read(text, form or _ENDINGS.get(path.suffix.lower(), "text"), prefixes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def flat(changes: Iterable[Change]) -> list[Change]:
    """Changes one by one; those of transactions and sets in their place."""
    out: list[Change] = []
    for change in changes:
        if isinstance(change, Transaction) or (isinstance(change, ComplexChange) and change.change_set):
            out.extend(flat(change.change_set))
        else:
            out.append(change)
    return out

"""JSON Schema of recipes, for editors: completion, descriptions and red underlines while typing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutelage.recipe.checking import EXTRAS, naming_key
from tutelage.recipe.loading import KEYS
from tutelage.recipe.registry import Entry, Registry, registry
from tutelage.recipe.scan import REQUIRED, Param
from tutelage.recipe.schema import adapter, expected, form, section_params
from tutelage.recipe.spec import CompareSection, Recipe, Section, Stage, TrainSection, plain

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LISTS = {"also": "method", "measure": "measure", "callbacks": "callback", "trackers": "tracker"}


def json_schema(method: str | None = None) -> dict[str, Any]:
    """Schema of the recipes of one method, or of any method.

    Args:
        method: Its name; ``None`` for all of them.

    Raises:
        InputError: There is no such method.
    """
    known = registry()
    entries = [known.get("method", method)] if method else list(known.entries("method"))
    kinds = dict.fromkeys([*known.kinds(), *(k.rstrip("?*") for e in entries for k in e.slots.values())])
    definitions = {kind: _component(known, kind, known.entries(kind)) for kind in kinds}
    if method:
        definitions["this-method"] = _component(known, "method", entries)
    for section in (TrainSection, Stage, CompareSection):
        definitions[section.__name__] = _object(section_params(section), optional=section is Stage)
    return {
        "$schema": DIALECT,
        "title": f"Tutelage recipe: {method}" if method else "Tutelage recipe",
        **_top(entries, "this-method" if method else "method"),
        "$defs": definitions,
    }


def _top(entries: Sequence[Entry], method: str) -> dict[str, Any]:
    docs = {p.name: p for p in section_params(Recipe)}
    properties: dict[str, Any] = {}
    for key in KEYS:
        if key == "base":
            properties[key] = {"type": "string", "description": "Another recipe that this one is laid over."}
        elif key == "method":
            properties[key] = _ref(method, docs[key].doc)
        elif key in _LISTS:
            properties[key] = {"type": "array", "items": _ref(_LISTS[key]), "description": docs[key].doc}
        elif key == "compare":
            properties[key] = {"anyOf": [_ref("CompareSection"), {"type": "null"}], "description": docs[key].doc}
        elif key == "sampler":
            properties[key] = {"anyOf": [_ref("sampler"), {"type": "null"}], "description": docs[key].doc}
        elif key == "stages":
            properties[key] = {"type": "array", "items": _ref("Stage"), "description": docs[key].doc}
        elif key == "train":
            properties[key] = _ref("TrainSection", docs[key].doc)
        else:
            properties[key] = _property(docs[key])
    for entry in entries:
        for slot, kind in entry.slots.items():
            item = _ref(kind.rstrip("?*"), f"A {kind.rstrip('?*')}: the {slot}.")
            properties.setdefault(slot, {"type": "array", "items": item, "minItems": 1} if "*" in kind else item)
    # With a base, what is required may stand there; the checker looks at the whole.
    needed = (
        ["method", *(s for s, k in entries[0].slots.items() if not k.endswith("?"))]
        if len(entries) == 1
        else ["method"]
    )
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "anyOf": [{"required": needed}, {"required": ["base"]}],
    }


def _ref(name: str, description: str = "") -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}", **({"description": description} if description else {})}


def _component(known: Registry, kind: str, entries: Sequence[Entry]) -> dict[str, Any]:
    key = naming_key(kind)
    options: list[dict[str, Any]] = [
        {"const": e.name, "description": e.summary} for e in entries if not [p for p in e.params if p.required]
    ]
    options += [_mapping(e, key) for e in entries]
    if kind != "method":
        own = {"type": "string", "pattern": r"^[\w.]+:[\w.]+$", "description": "Your own: package.module:Attribute."}
        options += [own, {"type": "object", "properties": {key: own}, "required": [key]}]
    return {"oneOf": options} if options else {"not": {}}


def _mapping(entry: Entry, key: str) -> dict[str, Any]:
    params = [*entry.params, *EXTRAS.get(entry.kind, ())]
    schema = _object(params)
    schema["properties"] = {key: {"const": entry.name, "description": entry.summary}, **schema["properties"]}
    schema["required"] = [key, *schema.get("required", [])]
    return {"title": f"{entry.kind} {entry.name}", "description": entry.summary, **schema}


def _object(params: Sequence[Param], *, optional: bool = False) -> dict[str, Any]:
    needed = [p.name for p in params if p.required and not optional]
    return {
        "type": "object",
        "properties": {p.name: _property(p) for p in params},
        "additionalProperties": False,
        **({"required": needed} if needed else {}),
    }


def _property(param: Param) -> dict[str, Any]:
    shape = form(param.annotation, param.default)
    out: dict[str, Any]
    if param.name == "weights" and param.annotation is Any:
        keys = {"train": _ref("TrainSection"), "callbacks": {"type": "array", "items": _ref("callback")}}
        train = {"type": "object", "properties": keys, "required": ["train"]}
        out = {"anyOf": [{"type": "string"}, {**train, "additionalProperties": False}, {"type": "null"}]}
    elif shape.section:
        out = _section(shape.section)
        out = {"type": "array", "items": out} if shape.many else out
    elif shape.of:
        out = {"type": "array", "items": _ref(shape.of)} if shape.many else _ref(shape.of)
    else:
        check = adapter(param.annotation)
        out = dict(check.json_schema()) if check is not None and param.annotation is not Any else {}
    if shape.ramped:
        out = {"anyOf": [out, _ref("ramp")]}
    if shape.nullable and (shape.of or shape.section):
        out = {"anyOf": [out, {"type": "null"}]}
    description = param.doc or ("" if shape.of or shape.section else expected(param.annotation))
    out |= {"description": description} if description else {}
    return out if param.default is REQUIRED or param.name == "weights" else {**out, "default": plain(param.default)}


def _section(section: type[Section]) -> dict[str, Any]:
    return _ref("TrainSection") if section is TrainSection else _object(section_params(section))

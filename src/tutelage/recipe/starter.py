"""A commented recipe to start from, written from what a method's own signature says."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from tutelage.recipe.checking import EXTRAS
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import Entry, Registry, registry
from tutelage.recipe.scan import Param
from tutelage.recipe.schema import expected, form, section_params
from tutelage.recipe.spec import TrainSection, plain
from tutelage.recipe.yaml_writer import to_yaml

# Tried in this order where a slot needs a component and the method does not say which.
_PREFERRED = {
    "data": ("digits", "mnist"),
    "model": ("convnet", "mlp"),
    "measure": ("accuracy", "agreement", "calibration", "cost"),
}
# A slot that may be left out is commented once more, by two signs.
_WIDTH = 118
# Arguments that make the teacher larger than the student, where a model takes them.
_SMALLER = {"width": 4}
_OWN_DATA = {
    "folder": "a folder with one sub-folder of images for each class",
    "table": "a table (CSV or Parquet): features in columns, the label in one of them",
    "npz": "arrays that you saved with numpy.savez",
}


def starter(method: str) -> str:
    """A recipe for a method that loads as it is: every argument with its default and its meaning.

    Args:
        method: Name of a method.

    Raises:
        InputError: There is no such method, or nothing is registered that could fill one of its slots.
    """
    known = registry()
    entry = known.get("method", method)
    lines = _comment(f"{entry.name}: {entry.title}" + (f" ({entry.paper})" if entry.paper else ""))
    lines += _comment(f"Run it with: tutelage run {entry.name}.yaml")
    lines += ["", "method:", f"  name: {entry.name}", *_arguments(entry.params, 2)]
    starts, learner = dict(entry.facts.get("starts", {})), str(entry.facts.get("learner", "student"))
    for slot, kind in entry.slots.items():
        lines += ["", *_slot(known, slot, kind, bool(entry.facts.get("student_knows")), starts.get(slot), learner)]
    lines += ["", *_train(known)]
    preferred = [starts["measure"], "cost"] if "measure" in starts else _PREFERRED["measure"]
    if "measure" not in starts and entry.facts.get("measured", "classes") != "classes":
        preferred = ["cost"]
    measures = [m for m in preferred if known.find("measure", m)]
    if measures:
        every = ", ".join(known.names("measure"))
        lines += ["", *_comment(f"What to measure. There are: {every}."), f"measure: [{', '.join(measures)}]"]
    lines += ["", *_comment("Also train the same student without the teacher, to see what the transfer brought.")]
    lines += ["baseline: true", "seed: 0"]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: int = 0) -> list[str]:
    pad = " " * indent + "# "
    return (
        textwrap.wrap(text, _WIDTH, initial_indent=pad, subsequent_indent=pad, break_on_hyphens=False) if text else []
    )


def _arguments(params: Sequence[Param], indent: int, given: dict[str, Any] | None = None) -> list[str]:
    """Each argument with what it means; one that must be given and has no example is left for the user as a comment."""
    out: list[str] = []
    pad = " " * indent
    for param in params:
        value = (given or {}).get(param.name, plain(param.default))
        shape = form(param.annotation, param.default)
        kind = "" if shape.of or shape.section else f" ({expected(param.annotation)})"
        doc = param.doc.replace("``", "").rstrip(".") or param.name
        out += _comment(f"{doc}{kind}.", indent)
        if param.required and param.name not in (given or {}):
            raise InputError(f"'{param.name}' has no default, so no recipe can be started without it")
        out.append(f"{pad}{param.name}: {_inline(value)}")
    return out


def _inline(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, list):
        return f"[{', '.join(_inline(v) for v in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_inline(v)}" for k, v in value.items()) + "}"
    # PyYAML ends a bare scalar's document with "...".
    return to_yaml([value])[1:].strip().removeprefix("-").strip().strip("[]").strip() if value is not None else "null"


def _pick(known: Registry, kind: str, slot: str) -> Entry:
    """A component for a slot: a preferred one, else the first that needs no argument."""
    names = [*_PREFERRED.get(kind, ()), *known.names(kind)]
    for name in names:
        entry = known.find(kind, name)
        if entry is not None and not [p for p in entry.params if p.required]:
            return entry
    for name in names:
        entry = known.find(kind, name)
        if entry is not None and all(_example(p) is not None for p in entry.params if p.required):
            return entry
    raise InputError(f"no {kind} can fill '{slot}' without more being known. {nearest('', known.names(kind))}")


def _example(param: Param) -> Any:
    """A value for an argument that must be given, where any would do."""
    from tutelage.recipe.schema import Misfit, fit

    candidates: tuple[Any, ...] = (8, 1, 1.0, "text", [])
    for value in candidates:
        try:
            fit(param.annotation, value)
        except Misfit:
            continue
        return value
    return None


def _slot(known: Registry, slot: str, kind: str, knows: bool, start: str | None, learner: str) -> list[str]:
    bare = kind.rstrip("?*")
    entry = known.get(bare, start) if start is not None else _pick(known, bare, slot)
    needs = {p.name: _example(p) for p in entry.params if p.required}
    key = "model" if bare == "model" else "name"
    lines = [f"  {key}: {entry.name}"]
    if bare == "model":
        if slot == learner and learner == "student":
            numbers = {p.name: p.default for p in entry.params if isinstance(p.default, int)}
            needs |= {k: max(1, numbers[k] // by) for k, by in _SMALLER.items() if k in numbers}
        lines += _arguments(entry.params, 2, needs)
        if slot != learner or knows:
            lines += _comment(
                "Trained on the spot, and kept for the next run. Your own: the path of a run or model folder.", 2
            )
            lines += ["  weights: {train: {epochs: 10}}"]
            lines += _comment("weights: runs/my-teacher", 2)
        lines += _comment("Your own architecture: model: my_package.my_module:MyNet", 2)
    else:
        lines += _arguments([*entry.params, *EXTRAS.get(bare, ())], 2, needs)
    head = [f"{slot}:"]
    if "*" in kind:
        head = [f"{slot}:", *(f"  - {lines[0].strip()}", *(f"  {line}" for line in lines[1:]))]
        lines = []
    out = _comment(f"The {slot}. There are: {', '.join(known.names(bare))}.") + head + lines
    if bare == "data":
        for name, what in _OWN_DATA.items():
            own = known.find("data", name)
            if own is not None:
                must = "".join(f", {p.name}: ..." for p in own.params if p.required)
                out += _comment(f"Your own files, {what}: data: {{name: {name}{must}}}", 2)
    if kind.endswith("?"):
        out = [out[0], *(f"# {line}" for line in out[1:])]
    return out


def _train(known: Registry) -> list[str]:
    lines = ["train:"]
    for param in section_params(TrainSection):
        shape = form(param.annotation, param.default)
        if shape.of:
            entry = known.find(shape.of, str(param.default)) or _pick(known, shape.of, param.name)
            lines += _comment(f"{param.doc} There are: {', '.join(known.names(shape.of))}.", 2)
            lines += [f"  {param.name}:", f"    name: {entry.name}", *_arguments(entry.params, 4)]
        else:
            lines += _arguments([param], 2)
    return lines

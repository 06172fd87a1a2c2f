"""Loading a recipe: read, inherit, override, check everything, freeze."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.recipe.checking import BAD, Checker
from tutelage.recipe.errors import RecipeError, article, nearest
from tutelage.recipe.merging import mapping, merge, override, resolve
from tutelage.recipe.registry import Entry, registry
from tutelage.recipe.scan import REQUIRED, Param
from tutelage.recipe.schema import section_params
from tutelage.recipe.spec import Recipe, Spec, Stage, TrainSection
from tutelage.recipe.yaml_source import Node, from_python, read_yaml

# Top-level keys that are not inputs of a method.
KEYS = (
    *("method", "also", "sampler", "stages", "train", "measure", "callbacks", "trackers"),
    *("seed", "baseline", "compare", "name", "base"),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def load_recipe(source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Nothing heavy is imported, and a mapping is only read, never changed.

    Args:
        source: A YAML file, or a mapping with the same keys.
        overrides: ``dotted.key=value`` texts, applied in order; the value is YAML.

    Raises:
        RecipeError: With all the mistakes found, each with its place.
    """
    if isinstance(source, Mapping):
        root, file = from_python(source), None
    else:
        file = Path(source)
        root = read_yaml(source)
    root = resolve(mapping(root), file)
    root, problems = override(root, overrides)
    loader = _Loader(root, file)
    recipe = loader.load()
    found = [*problems, *loader.checker.problems]
    if found or recipe is None:
        unique = dict.fromkeys(found)
        raise RecipeError(problems=tuple(sorted(unique, key=lambda p: (p.file or "", p.line, p.column))))
    return recipe


def load_train(values: Mapping[str, Any] | None = None) -> TrainSection:
    """A ``train`` section from a mapping, defaults filled in.

    Raises:
        RecipeError: With all the mistakes found.
    """
    checker = Checker(registry())
    section = checker.section(TrainSection, from_python(dict(values or {})), ("train",))
    if checker.problems:
        raise RecipeError(problems=tuple(checker.problems))
    assert isinstance(section, TrainSection)
    return section


class _Loader:
    """Checks the top level of a recipe."""

    def __init__(self, root: Node, file: Path | None) -> None:
        self.root, self.file = root, file
        self.checker = Checker(registry())
        self.keys: Mapping[str, Node] = root.value

    def load(self) -> Recipe | None:
        params = {p.name: p for p in section_params(Recipe)}
        values: dict[str, Any] = {}
        values["method"] = self._method()
        for key in ("train", "also", "sampler", "measure", "callbacks", "trackers", "seed", "baseline", "compare"):
            param = params[key]
            if key == "train":
                node = self.keys.get(key, Node({}, self.root.place))
                before = len(self.checker.problems)
                values[key] = self.checker.section(TrainSection, node, (key,))
                # A mistake in it is told once, not again wherever it is inherited.
                self.checker.train = node if len(self.checker.problems) == before else None
            elif key in self.keys:
                values[key] = self.checker.value(_component_list(param), self.keys[key], (key,))
            else:
                values[key] = param.default if key not in ("also", "measure", "callbacks", "trackers") else ()
        values["stages"] = self._stages()
        values["slots"] = self._slots()
        values["name"] = self._name()
        if self.checker.problems:
            return None
        values["slots"] = _followed(values["slots"])
        return Recipe(**values, source=self.file)

    def _method(self) -> Any:
        if "method" not in self.keys:
            hint = nearest("", self.checker.registry.names("method"))
            slips = [k for k in self.keys if nearest(k, ["method"]).startswith("Did")]
            if not slips:
                self.checker.note("a recipe needs the key 'method'.", self.root.place, ("method",), hint)
            return BAD
        return self.checker.component("method", self.keys["method"], ("method",))

    def _name(self) -> Any:
        node = self.keys.get("name")
        if node is None:
            stem = self.file.stem if self.file else next((e.name for e in self._methods()), "run")
            cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64]
            return cleaned or "run"
        if isinstance(node.value, str) and _NAME.fullmatch(node.value):
            return node.value
        return self.checker.misfit(
            node, ("name",), "letters, digits, '.', '_' and '-', at most 64, starting with a letter or digit"
        )

    def _stages(self) -> Any:
        node = self.keys.get("stages")
        if node is None:
            return ()
        if not isinstance(node.value, tuple):
            return self.checker.misfit(node, ("stages",), "a list of stages")
        stages = []
        for i, item in enumerate(node.value):
            if not isinstance(item.value, Mapping):
                stages.append(self.checker.misfit(item, ("stages", i), "a mapping of name, method, also, train"))
                continue
            filled = dict(item.value)
            filled.setdefault("name", Node(f"stage-{i + 1}", item.place))
            for key, absent in (("method", None), ("also", Node((), item.place)), ("train", Node({}, item.place))):
                inherited = self.keys.get(key, absent)
                if key not in filled and inherited is not None:
                    filled[key] = inherited
                elif key == "train" and inherited is not None:
                    filled[key] = merge(inherited, filled[key], key)
            stages.append(self.checker.section(Stage, Node(filled, item.place), ("stages", i)))
        return tuple(stages)

    def _methods(self) -> list[Entry]:
        """Every method that the recipe names and that exists."""
        nodes = [self.keys.get("method")]
        compared = self.keys.get("compare")
        if compared is not None and isinstance(compared.value, Mapping):
            nodes += _items(compared.value.get("methods"))
        for holder in (self.keys, *(s.value for s in _items(self.keys.get("stages")) if isinstance(s.value, Mapping))):
            nodes += _items(holder.get("also"))
            nodes.append(holder.get("method") if holder is not self.keys else None)
        names = []
        for node in nodes:
            value = node.value.get("name", Node(None)).value if node and isinstance(node.value, Mapping) else None
            names.append(node.value if node and isinstance(node.value, str) else value)
        found = (self.checker.registry.find("method", n) for n in dict.fromkeys(names) if isinstance(n, str))
        return [entry for entry in found if entry is not None]

    def _slots(self) -> dict[str, Any]:
        methods = self._methods()
        known = bool(methods)
        everything = [] if known else self.checker.registry.entries("method")
        kinds: dict[str, str] = {}
        for entry in (*methods, *everything):
            for slot, kind in entry.slots.items():
                kinds.setdefault(slot, kind)
        slots: dict[str, Any] = {}
        for key, node in self.keys.items():
            if key in KEYS:
                continue
            if key in kinds:
                slots[key] = self._slot(key, kinds[key], node)
            else:
                self._unknown(key, node, methods, list(kinds))
        for entry in methods:
            for slot, kind in entry.slots.items():
                if slot not in self.keys and not kind.endswith("?"):
                    what = f"a list of {kind[:-1]}s" if kind.endswith("*") else article(kind)
                    place = self.keys["method"].where if "method" in self.keys else self.root.place
                    self.checker.note(f"the method '{entry.name}' needs '{slot}': {what}.", place, (slot,))
        return slots

    def _slot(self, key: str, kind: str, node: Node) -> Any:
        if node.value is None and kind.endswith("?"):
            return None
        kind = kind.rstrip("?")
        if kind.endswith("*"):
            if not isinstance(node.value, tuple) or not node.value:
                return self.checker.misfit(node, (key,), f"a list of {kind[:-1]}s")
            return tuple(self.checker.component(kind[:-1], n, (key, i)) for i, n in enumerate(node.value))
        return self.checker.component(kind, node, (key,))

    def _unknown(self, key: str, node: Node, methods: Sequence[Entry], slots: list[str]) -> None:
        others = sorted(e.name for e in self.checker.registry.entries("method") if key in e.slots)
        if others and methods:
            taken = ", ".join(slots)
            message = f"the method '{methods[0].name}' takes no '{key}'; it takes {taken or 'no inputs'}."
            self.checker.note(message, node.where, (key,), f"'{key}' belongs to {', '.join(others[:5])}.")
        else:
            self.checker.note(f"a recipe has no key '{key}'.", node.where, (key,), nearest(key, [*KEYS, *slots]))


def _followed(slots: Mapping[str, Any]) -> dict[str, Any]:
    """A model that follows another is built like the student, unless it says whom it follows."""
    student = slots.get("student")
    out = dict(slots)
    for slot, spec in slots.items():
        if isinstance(spec, Spec) and isinstance(student, Spec) and spec.kind == "model" and not spec.foreign:
            follows = registry().get("model", spec.name).facts.get("follows", False)
            if follows and spec.args.get("of") is None:
                bare = replace(student, extras={**student.extras, "weights": None, "freeze": (), "cache": False})
                out[slot] = spec.with_(of=bare)
    return out


def _component_list(param: Param) -> Param:
    """The top-level lists of components say their kind here, for `Recipe` itself holds checked ones."""
    kinds = {"also": "method", "measure": "measure", "callbacks": "callback", "trackers": "tracker"}
    if param.name not in kinds:
        return param
    from typing import Annotated

    from tutelage.recipe.types import Of

    return Param(param.name, Annotated[tuple[Any, ...], Of(kinds[param.name])], REQUIRED, param.doc)


def _items(node: Node | None) -> Iterable[Node]:
    return node.value if node is not None and isinstance(node.value, tuple) else ()

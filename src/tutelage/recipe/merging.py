"""Inheritance and overrides: recipes laid over one another before they are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.recipe.errors import Problem, RecipeError
from tutelage.recipe.yaml_source import Node, Place, parse_yaml, problem, read_yaml, refuse

# Keys whose value is a text or a mapping without the text being short for a component's name.
_NOT_NAMES = frozenset({"weights", "name", "model", "base"})


def resolve(node: Node, file: Path | None, chain: tuple[Path, ...] = ()) -> Node:
    """A recipe laid over its ``base``, and that over its own.

    Raises:
        RecipeError: A base is missing, or a file is its own ancestor; the text shows the chain.
    """
    base = node.value.get("base") if isinstance(node.value, Mapping) else None
    if base is None:
        return node
    own = Node({k: v for k, v in node.value.items() if k != "base"}, node.place)
    if not isinstance(base.value, str) or not base.value:
        raise refuse("'base' is the path of another recipe.", base.place, ("base",))
    here = file.parent if file else Path()
    path = here / base.value
    chain = (*chain, file.resolve()) if file else chain
    trail = " -> ".join(p.name for p in (*chain, path))
    if path.resolve() in chain:
        raise refuse(f"a recipe cannot be its own base: {trail}.", base.place, ("base",))
    try:
        below = read_yaml(path)
    except RecipeError as error:
        if error.problems[0].line:
            raise
        said = error.problems[0]
        raise refuse(f"the base '{base.value}' ({trail}): {said.message}", base.place, ("base",), said.hint) from error
    mapping(below)
    return merge(resolve(below, path, chain), own)


def mapping(node: Node) -> Node:
    """The node, if it is a mapping.

    Raises:
        RecipeError: It is not.
    """
    if not isinstance(node.value, Mapping):
        from tutelage.recipe.yaml_source import describe

        raise refuse(f"found {describe(node.value)}, expected a mapping with 'method' and its inputs.", node.place)
    return node


def merge(below: Node, above: Node, key: str = "") -> Node:
    """One value laid over another: mappings key by key, everything else replaced.

    Where the component's name changes, the arguments of the old one are dropped.
    """
    if key not in _NOT_NAMES:
        below, above = _spelled(below, above), _spelled(above, below)
    if not isinstance(below.value, Mapping) or not isinstance(above.value, Mapping):
        return above
    for name in ("name", "model"):
        if key and name in above.value and name in below.value and above.value[name].value != below.value[name].value:
            return above
    merged = dict(below.value)
    for inner, node in above.value.items():
        merged[inner] = merge(merged[inner], node, inner) if inner in merged else node
    return Node(merged, above.place, above.key or below.key, below.short or above.short)


def _spelled(node: Node, other: Node) -> Node:
    """A bare name as a mapping, where the other side is one."""
    if not isinstance(node.value, str) or not isinstance(other.value, Mapping):
        return node
    key = "model" if "model" in other.value else "name"
    return Node({key: Node(node.value, node.place)}, node.place, node.key, short=key == "name")


def override(root: Node, texts: Sequence[str]) -> tuple[Node, list[Problem]]:
    """Apply ``dotted.key=value`` overrides in order; the value is YAML.

    Returns:
        The recipe, and a problem for each override that could not be applied.
    """
    problems: list[Problem] = []
    for text in texts:
        place = Place(f"override '{text}'")
        dotted, equals, value = text.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            problems.append(problem("expected key=value, e.g. train.epochs=5.", place))
            continue
        try:
            node = _at(parse_yaml(value, place.file) if value.strip() else Node(None), place)
            root = _set(root, keys, node, place, ())
        except RecipeError as error:
            problems += [replace(p, line=0, column=0, path=p.path or tuple(keys)) for p in error.problems]
    return root, problems


def _at(node: Node, place: Place) -> Node:
    value: Any = node.value
    if isinstance(value, Mapping):
        value = {k: _at(v, place) for k, v in value.items()}
    elif isinstance(value, tuple):
        value = tuple(_at(v, place) for v in value)
    return Node(value, place, place)


def _set(node: Node, keys: Sequence[str], value: Node, place: Place, path: tuple[str | int, ...]) -> Node:
    key, rest = keys[0], keys[1:]
    if isinstance(node.value, tuple):
        count = len(node.value)
        if not key.isdecimal() or int(key) >= count:
            what = f"this list has {count} items: write 0 to {count - 1}" if count else "this list is empty"
            raise refuse(f"'{key}' is no position; {what}.", place, (*path, key))
        index = int(key)
        items = list(node.value)
        items[index] = (
            _set(items[index], rest, value, place, (*path, index)) if rest else merge(items[index], value, key)
        )
        return replace(node, value=tuple(items))
    if isinstance(node.value, str) and path and path[-1] not in _NOT_NAMES:
        node = Node({"name": Node(node.value, node.place)}, node.place, node.key, short=True)
    if not isinstance(node.value, Mapping):
        node = Node({}, place, place)
    below = node.value.get(key)
    if rest:
        new = _set(below if below is not None else Node({}, place, place), rest, value, place, (*path, key))
    else:
        new = merge(below, value, key) if below is not None else value
    return replace(node, value={**node.value, key: new})

"""A corpus of recipes, each wrong in one way, made from every recipe that ships and every method's starter.

Run as a script it loads them all and prints what went wrong as JSON: it must be a process of its own, to see that
checking a recipe imports nothing heavy.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from tutelage.recipe.errors import RecipeError
from tutelage.recipe.loading import KEYS, load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.scan import REQUIRED, Param
from tutelage.recipe.schema import form, section_params
from tutelage.recipe.spec import Recipe, Section, Spec
from tutelage.recipe.starter import starter
from tutelage.recipe.yaml_source import parse_yaml
from tutelage.recipe.yaml_writer import to_yaml

ROOT = Path(__file__).resolve().parents[2]
Keys = tuple[Any, ...]


@dataclass(frozen=True)
class Mutant:
    """A wrong recipe and what is wrong with it.

    Args:
        recipe: The recipe.
        what: What is wrong.
        hint: For a slip of the pen: the right spelling, which the hint must give.
        said: What the message must say.
    """

    recipe: Mapping[str, Any]
    what: str
    hint: str = ""
    said: str = ""


def parts(thing: Any, path: Keys = ()) -> Iterator[tuple[Keys, Spec | Section]]:
    """Every component and section of a recipe, with its path in the resolved mapping."""
    if isinstance(thing, Recipe):
        for name, slot in thing.slots.items():
            yield from parts(slot, (name,))
        for field in fields(thing):
            if field.name not in ("slots", "source", "name"):
                yield from parts(getattr(thing, field.name), (field.name,))
    elif isinstance(thing, Spec):
        yield path, thing
        for key, value in (*thing.args.items(), *thing.extras.items()):
            yield from parts(value, (*path, key))
    elif isinstance(thing, Section):
        yield path, thing
        for field in fields(thing):  # type: ignore[arg-type]
            yield from parts(getattr(thing, field.name), (*path, field.name))
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            yield from parts(value, (*path, key))
    elif isinstance(thing, tuple):
        for i, value in enumerate(thing):
            yield from parts(value, (*path, i))


def typos(word: str, rng: random.Random) -> list[str]:
    """Slips of the pen: one letter dropped, doubled, replaced, or swapped with its neighbour."""
    out = []
    for _ in range(2):
        i = rng.randrange(len(word))
        out += [word[:i] + word[i + 1 :], word[: i + 1] + word[i:], word[:i] + rng.choice("qxzj") + word[i + 1 :]]
        if i + 1 < len(word):
            out.append(word[:i] + word[i + 1] + word[i] + word[i + 2 :])
    return [w for w in dict.fromkeys(out) if w and w != word and w[0].isalpha()]


def changed(base: Mapping[str, Any], path: Keys, value: Any) -> dict[str, Any]:
    """A copy with one value replaced."""
    out: Any = copy.deepcopy(base)
    at = out
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return dict(out)


def renamed(base: Mapping[str, Any], path: Keys, new: str) -> dict[str, Any]:
    """A copy with one key renamed, in its place."""
    at: Any = base
    for key in path[:-1]:
        at = at[key]
    entries = {new if k == path[-1] else k: v for k, v in at.items()}
    return changed(base, path[:-1], entries) if len(path) > 1 else copy.deepcopy(entries)


def without(base: Mapping[str, Any], path: Keys) -> dict[str, Any]:
    """A copy with one key left out."""
    out: Any = copy.deepcopy(base)
    at = out
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return dict(out)


def beyond(annotation: Any) -> list[float | int]:
    """Values just outside the allowed range."""
    out: list[float | int] = []
    for mark in getattr(annotation, "__metadata__", ()):
        for name, step in (("gt", 0), ("ge", -1), ("lt", 0), ("le", 1)):
            if isinstance(getattr(mark, name, None), int | float):
                out.append(getattr(mark, name) + step)
    return (
        out
        + [v for arg in get_args(annotation) if not isinstance(arg, str) for v in beyond(arg)][: 4 if not out else 0]
    )


def mutants(recipe: Recipe, seed: int) -> Iterator[Mutant]:
    """Wrong versions of a recipe."""
    rng, base, known = random.Random(seed), recipe.to_dict(), registry()
    method = known.get("method", recipe.method.name)
    top = set(KEYS) | set(recipe.slots) | set(method.slots)
    for key in base:
        for typo in typos(key, rng):
            if typo not in top:
                yield Mutant(renamed(base, (key,), typo), f"key {key} -> {typo}", key)
    for slot, kind in method.slots.items():
        if not kind.endswith("?"):
            yield Mutant(without(base, (slot,)), f"no {slot}", said=f"'{slot}'")
    for other in known.entries("method"):
        for slot in set(other.slots) - top:
            yield Mutant({**base, slot: base.get("student")}, f"slot {slot} of {other.name}")
    yield Mutant(changed(base, ("train", "accumulate"), recipe.train.batch_size + 1), "more parts than samples")
    yield Mutant({**base, "seed": -1}, "seed -1")
    yield Mutant({**base, "name": "a/b"}, "name with a slash")
    for path, part in parts(recipe):
        yield from _of_part(base, path, part, rng)


def _of_part(base: Mapping[str, Any], path: Keys, part: Spec | Section, rng: random.Random) -> Iterator[Mutant]:
    known = registry()
    where = ".".join(map(str, path))
    written: Mapping[str, Any] = part.to_dict()
    params: tuple[Param, ...]
    if isinstance(part, Spec):
        if part.foreign:
            return
        params = known.get(part.kind, part.name).params
        key = "model" if part.kind == "model" else "name"
        for typo in typos(part.name, rng):
            if not known.find(part.kind, typo):
                yield Mutant(changed(base, (*path, key), typo), f"{where}: name {part.name} -> {typo}", part.name)
        for kind in known.kinds():
            for name in known.names(kind)[:2]:
                if kind != part.kind and not known.find(part.kind, name):
                    yield Mutant(
                        changed(base, (*path, key), name),
                        f"{where}: {kind} {name} as {part.kind}",
                        # A name may be of several kinds: "is a schedule and a ramp".
                        said=f" a{'n' * (kind[0] in 'aeiou')} {kind}",
                    )
    else:
        params = section_params(type(part))
    for key in written:
        for typo in typos(key, rng):
            if typo not in written:
                yield Mutant(renamed(base, (*path, key), typo), f"{where}: key {key} -> {typo}", key)
    for param in params:
        at = (*path, param.name)
        shape = form(param.annotation, param.default)
        value = written[param.name]
        if param.required and not (isinstance(part, Section) and path[0] == "stages"):
            yield Mutant(without(base, at), f"{where}: no {param.name}", said=f"needs the key '{param.name}'")
        if not shape.nullable and type(None) not in get_args(param.annotation):
            yield Mutant(changed(base, at, None), f"{where}: {param.name} null")
        for wrong in _wrong_types(value, shape.many):
            # A text in a number's place is a ramp, which a number may replace.
            if isinstance(value, str) and isinstance(wrong, float) and isinstance(param.default, int | float):
                continue
            yield Mutant(changed(base, at, wrong), f"{where}: {param.name} = {wrong!r}")
        if not shape.of and not shape.section and param.default is not REQUIRED:
            for number in beyond(param.annotation):
                yield Mutant(changed(base, at, number), f"{where}: {param.name} out of range, {number}")


def _wrong_types(value: Any, many: bool) -> list[Any]:
    odd: dict[str, Any] = {"zzz": 1}
    if isinstance(value, bool):
        return [3, "yes", odd]
    if isinstance(value, int | float):
        return ["many", True, [[1]], odd]
    if isinstance(value, str):
        return [3.5, [[1]], odd]
    if isinstance(value, list):
        return [3, True, odd]
    return [odd] if value is None or many else [3.5, True]


def recipes() -> Iterator[tuple[str, Recipe]]:
    """Every shipped recipe, every starter, and one that uses all the forms there are."""
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        yield str(path.relative_to(ROOT)), load_recipe(path)
    for name in registry().names("method"):
        yield f"starter of {name}", load_recipe(parse_yaml(starter(name)).plain())


def failures(mutant: Mutant, path: Path) -> str:
    """What is wrong with the answer to a mutant; empty if it is as it should be."""
    path.write_text(to_yaml(dict(mutant.recipe)), encoding="utf-8")
    try:
        load_recipe(path)
    except RecipeError as error:
        if not all(p.file and p.line and (p.path or p.hint) for p in error.problems):
            return f"no place: {error}"
        if mutant.hint and not any(f"'{mutant.hint}'" in p.hint for p in error.problems):
            return f"no hint of '{mutant.hint}': {error}"
        if mutant.said not in str(error):
            return f"not said '{mutant.said}': {error}"
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


def main(limit: int) -> None:
    """Load the corpus and print a summary."""
    everything = list(recipes())
    wrong, count = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for index, (name, recipe) in enumerate(everything):
            made = list(mutants(recipe, index))
            share = max(1, limit // len(everything))
            # An even spread, so that every sort of mistake stays in however many recipes there are.
            for mutant in made if len(made) <= share else random.Random(index).sample(made, share):
                count += 1
                answer = failures(mutant, Path(folder) / "recipe.yaml")
                if answer:
                    wrong.append(f"{name}: {mutant.what}: {answer}")
    heavy = sorted({"torch", "numpy", "transformers"} & set(sys.modules))
    sys.stdout.write(json.dumps({"count": count, "recipes": len(everything), "wrong": wrong, "heavy": heavy}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent / "plugin_fixture"))
    main(int(sys.argv[1]))

"""From a checked component to the live object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.recipe.checking import Checker
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.registry import imported, registry
from tutelage.recipe.schema import runtime_params
from tutelage.recipe.spec import Spec, plain, thaw
from tutelage.recipe.yaml_source import from_python

# What the engine supplies, by kind: a user's own function may take it under one of these names.
SUPPLIED = {"model": ("data", "info"), "optimizer": ("params", "parameters"), "schedule": ("steps", "total_steps")}


def build(spec: Spec, positional: Sequence[Any], overrides: Mapping[str, Any]) -> Any:
    """See `Spec.build`."""
    if spec.foreign:
        return _foreign(spec, positional, overrides)
    thing = registry().load(spec.kind, spec.name)
    arguments = {**{key: _argument(value) for key, value in spec.args.items()}, **overrides}
    return thing(*positional, **arguments)


def _argument(value: Any) -> Any:
    if isinstance(value, Spec):
        return value if needs_positional(value) else value.build()
    if isinstance(value, tuple):
        items = [_argument(item) for item in value]
        return thaw(value) if not any(isinstance(v, Spec) for v in value) else type(value)(items)
    return thaw(value)


def completed(part: Any, *supplied: Any) -> Any:
    """A nested component that waited for what only its owner can supply, built; anything else as it is."""
    return part.build(*supplied) if isinstance(part, Spec) else part


def needs_positional(spec: Spec) -> bool:
    """Whether a component asks for what only the engine can supply."""
    if spec.foreign:
        module, _, attribute = spec.name.partition(":")
        params, leading, _ = runtime_params(imported(module, attribute, f"the {spec.kind} '{spec.name}'"))
        return bool(leading) or (bool(params) and params[0].name in SUPPLIED.get(spec.kind, ()))
    return bool(registry().get(spec.kind, spec.name).positional)


def _foreign(spec: Spec, positional: Sequence[Any], overrides: Mapping[str, Any]) -> Any:
    module, _, attribute = spec.name.partition(":")
    what = f"the {spec.kind} '{spec.name}'"
    thing = imported(module, attribute, what)
    if not callable(thing):
        raise InputError(f"{what} is a {type(thing).__name__}, not a class or function")
    try:
        params, leading, rest = runtime_params(thing)
    except ValueError:
        params, leading, rest = (), (), True
    supplied: list[Any] = list(positional[: len(leading)])
    named: dict[str, Any] = {}
    if not leading and params and positional and params[0].name in SUPPLIED.get(spec.kind, ()):
        named[params[0].name], params = positional[0], params[1:]
    checker = Checker(registry())
    open_keys = [p for p in params if p.required or p.name in spec.args]
    values = checker.params(
        [p for p in open_keys if p.name not in overrides],
        from_python(plain({k: v for k, v in spec.args.items() if k not in overrides}), place=spec.place),
        (spec.name,),
        whose=what,
        known=[p.name for p in params],
        open_=rest,
    )
    if checker.problems:
        raise RecipeError(problems=tuple(checker.problems))
    arguments = {key: _argument(value) for key, value in values.items() if key in spec.args}
    return thing(*supplied, **{**named, **arguments, **overrides})

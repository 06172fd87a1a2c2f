"""Parts put in place of a model's own, such as another head, and found again when the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import nn

from tutelage.recipe.checking import Checker
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.registry import registry
from tutelage.recipe.spec import Spec
from tutelage.recipe.yaml_source import Place, from_python


@runtime_checkable
class Part(Protocol):
    """A module that took the place of another: a component of kind ``part``, built from the module it replaces."""

    def described(self) -> Mapping[str, Any]:
        """Its name as a component, and its arguments."""
        ...


def put(model: nn.Module, path: str, part: nn.Module) -> None:
    """Put a module in place of another.

    Args:
        model: Changed in place.
        path: Dotted path of the one that is replaced.
        part: What comes there.

    Raises:
        InputError: The path names the model itself.
    """
    parent, _, name = path.rpartition(".")
    if not name:
        raise InputError(f"the whole model {type(model).__name__} cannot be replaced, only a part of it")
    holder = model.get_submodule(parent)
    part.train(holder.training)
    setattr(holder, name, part)


def parts_of(model: nn.Module) -> dict[str, dict[str, Any]]:
    """What was put in place of parts of a model, by path, as `restore_parts` reads it."""
    return {path: dict(part.described()) for path, part in model.named_modules() if isinstance(part, Part)}


def restore_parts(model: nn.Module, described: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Put the parts that `parts_of` described in place again, unless the model has them already.

    Args:
        model: As it was before; changed in place.
        described: Components by path.
        where: The file that says so, for errors.

    Raises:
        InputError: A component does not exist, or the model has no such place.
    """
    for path, one in described.items():
        if parts_of(model).get(path) == one:
            continue
        checker = Checker(registry())
        spec = checker.component("part", from_python(dict(one), place=Place(where)), ())
        if checker.problems or not isinstance(spec, Spec):
            raise RecipeError(problems=tuple(checker.problems))
        try:
            replaced = model.get_submodule(path)
        except AttributeError as error:
            raise InputError(f"{where}: the model has no part '{path}' to put '{spec.name}' in place of") from error
        put(model, path, spec.build(replaced))

"""Recipes: reading, checking and freezing them; the registry of components; the run folder and its provenance."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.recipe.editor_schema import json_schema
    from tutelage.recipe.errors import InputError, Problem, RecipeError, RunError, TutelageError
    from tutelage.recipe.loading import load_recipe, load_train
    from tutelage.recipe.registry import Entry, Param, component, method
    from tutelage.recipe.runfolder import RunFolder
    from tutelage.recipe.spec import Recipe, Spec, Stage, TrainSection

_HOME = {
    "errors": ("InputError", "Problem", "RecipeError", "RunError", "TutelageError"),
    "editor_schema": ("json_schema",),
    "loading": ("load_recipe", "load_train"),
    "registry": ("Entry", "Param", "component", "method"),
    "runfolder": ("RunFolder",),
    "spec": ("Recipe", "Spec", "Stage", "TrainSection"),
}
# The functions `registry` and `starter` are imported from their modules, which have the same names.
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Entry",
    "InputError",
    "Param",
    "Problem",
    "Recipe",
    "RecipeError",
    "RunError",
    "RunFolder",
    "Spec",
    "Stage",
    "TrainSection",
    "TutelageError",
    "component",
    "json_schema",
    "load_recipe",
    "load_train",
    "method",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

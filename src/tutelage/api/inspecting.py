"""Looking into a recipe's data and models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.spec import Recipe


def describe_data(recipe: Recipe) -> dict[str, Any]:
    """Load a recipe's data: sizes, samples of each class, what was skipped or is remarkable.

    Raises:
        InputError: It cannot be read.
    """
    from tutelage.data.shaping import shape
    from tutelage.data.splits import labels_of

    spec = recipe.data
    splits = shape(spec.build().load(recipe.seed), spec.extras, recipe.seed)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    counts = {
        name: labels_of(part).bincount(minlength=splits.info.classes).tolist()
        if part is not None and splits.info.classified
        else None
        for name, part in parts.items()
    }
    return {
        "name": spec.name,
        **{name: len(part) if part is not None else 0 for name, part in parts.items()},
        "unlabelled": len(splits.unlabelled) if splits.unlabelled is not None else 0,
        "classes": splits.info.classes,
        "input_shape": list(splits.info.input_shape),
        "fingerprint": splits.info.fingerprint,
        "per_class": [
            {"class": label, **{name: of[i] if of is not None else 0 for name, of in counts.items()}}
            for i, label in enumerate(splits.info.class_names)
        ],
        "warnings": list(splits.warnings),
    }


def tap_rows(source: str | Path, slot: str = "student", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tree of a model with its output shapes, and where its standard taps are.

    Args:
        source: A recipe file, or the name of a model component, which is then built with its defaults for the digits.
        slot: Which of the recipe's models.
        overrides: Changes to the recipe.

    Raises:
        InputError: There is no such recipe, model or slot.
    """
    from dataclasses import asdict

    import torch

    from tutelage.api.checking import outline_of
    from tutelage.models.standard import standard_taps_of, tap_tree

    if not Path(source).exists() and Path(source).suffix not in (".yaml", ".yml"):
        # A name that is no model is answered with the nearest one.
        registry().get("model", str(source))
        recipe = load_recipe(
            {"method": "supervised", "student": {"model": str(source)}, "data": "digits", "baseline": False}
        )
        slot = "student"
    else:
        recipe = load_recipe(source, overrides)
    models = recipe.models
    if slot not in models:
        raise InputError(f"the recipe has no model '{slot}'. {nearest(slot, models)}")
    data = recipe.data
    info = outline_of(data, recipe.seed).info
    module = models[slot].build(info)
    example = torch.zeros(2, *info.input_shape)
    rows = []
    for row in tap_tree(module, example):
        fields = asdict(row)
        rows.append({**fields, "shape": list(fields["shape"]) if fields["shape"] else None})
    return {"model": models[slot].name, "taps": rows, "standard": standard_taps_of(module, example)}

"""Which augmentation suits a recipe, told by its teacher before a student is trained."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutelage.api.running import look_over
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.spec import Recipe, Spec


def score_augmentations(
    recipe: Recipe | str | Path | Mapping[str, Any],
    augments: Sequence[str | Mapping[str, Any]],
    overrides: Sequence[str] = (),
    *,
    batch_size: int = 64,
    batches: int = 10,
    epochs: int = 10,
) -> list[dict[str, Any]]:
    """Rank augmentations, and none, by how steady the recipe's teacher is under them (arXiv:2012.02909).

    Augmentations of the recipe's data come before each. A teacher that has to be trained first is, and found again by
    the next run.

    Args:
        recipe: A recipe with a teacher, a file that holds one, or its content.
        augments: Augmentations, or samplers that need no student: names, or mappings with ``name`` and arguments.
        overrides: ``key.key=value`` changes to the recipe.
        batch_size: Samples of a batch.
        batches: Batches that make a draw, half of them not augmented.
        epochs: Passes over the training samples.

    Returns:
        ``{"name", "spread", "entropy", "draws"}`` of each, the most promising first: the lower the spread, the better.

    Raises:
        InputError: The recipe has no teacher, an augmentation does not exist or does not fit the data, or a draw covers
            all samples.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    if "teacher" not in loaded.models:
        raise InputError(f"the method '{loaded.method.name}' has no teacher that could score augmentations; take 'kd'")
    look_over(loaded)
    asked = {_title(one): _component(one) for one in augments}

    from tutelage.distill.parts.augmentation_score import Augmented, score_augmentation
    from tutelage.engine.listening import Silence
    from tutelage.engine.method import Room
    from tutelage.engine.run import Run
    from tutelage.engine.sampler import Sampler
    from tutelage.engine.stopping import Interruption
    from tutelage.recipe.building import needs_positional
    from tutelage.recipe.runfolder import RunFolder

    with tempfile.TemporaryDirectory() as place:
        run = Run(loaded, RunFolder.create(loaded, place), Silence(), Interruption())
        teacher = run.source("teacher").to(run.accelerator.device)
        info = run.splits.info
        chains: dict[str, Augmented] = {"none": ()}
        for name, spec in asked.items():
            made = spec.build(info) if needs_positional(spec) else spec.build()
            if isinstance(made, Sampler):
                made.setup(Room({"teacher": teacher}, info, run.example(), ()))
            chains[name] = made if isinstance(made, Sampler) else (made,)
        found = score_augmentation(
            teacher,
            run.splits.train,
            chains,
            before=run.augment,
            batch_size=batch_size,
            batches=batches,
            epochs=epochs,
            seed=loaded.seed,
        )
    return [asdict(one) for one in found]


def _component(one: str | Mapping[str, Any]) -> Spec:
    """An augmentation or a sampler, its arguments checked."""
    from tutelage.recipe.checking import Checker
    from tutelage.recipe.yaml_source import from_python

    known, name = registry(), one if isinstance(one, str) else one.get("name")
    kind = "sampler" if isinstance(name, str) and known.find("sampler", name) else "augment"
    checker = Checker(known)
    spec = checker.component(kind, from_python(one), ("augment",))
    if checker.problems or not isinstance(spec, Spec):
        raise RecipeError(problems=tuple(checker.problems))
    return spec


def _title(one: str | Mapping[str, Any]) -> str:
    if isinstance(one, str):
        return one
    rest = ", ".join(f"{key} {value}" for key, value in one.items() if key != "name")
    return f"{one.get('name')} ({rest})" if rest else str(one.get("name"))

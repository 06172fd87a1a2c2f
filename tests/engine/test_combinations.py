"""Any objective with any sampler, teacher, adapter and augmentation: what is legal trains, what is not is refused."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.api.running import look_over
from tutelage.distill.base import Distillation
from tutelage.engine.listening import Silence
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.runfolder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LEGAL, STEPS = 100, 2
MODEL = {"model": "convnet", "width": 3, "depth": 2}
TRAINED = {**MODEL, "weights": {"train": {"epochs": 1}}}
TEACHERS: dict[str, dict[str, Any]] = {
    "larger": {**TRAINED, "width": 4},
    "ensemble": {"model": "ensemble", "members": [TRAINED, TRAINED]},
    "ema": {"model": "ema", "decay": 0.9},
    "snapshot": {"model": "snapshot"},
    "cached": {**TRAINED, "cache": True},
    "untaught": MODEL,
}
ADAPTERS = [None, None, {"name": "lora", "rank": 1}, "mask"]
AUGMENTATIONS: list[list[Any]] = [[], [], ["shift"], ["mixup"], ["cutmix"]]
OVERALL = {"train": {"epochs": 1, "batch_size": 16}, "measure": ["accuracy"], "baseline": False}


@cache
def objectives() -> tuple[str, ...]:
    """Methods of one teacher and one student that compare the two in one stage, and are not a study of their own."""
    own = [e for e in registry().entries("method") if e.package == "tutelage"]
    single = [e.name for e in own if set(e.slots) == {"teacher", "student", "data"}]
    kinds = {name: registry().load("method", name) for name in single}
    return tuple(name for name, kind in kinds.items() if getattr(kind, "stages", None) is Distillation.stages)


def draw(choice: random.Random) -> dict[str, Any]:
    """A recipe, legal or not."""
    samplers = [e.name for e in registry().entries("sampler") if e.package == "tutelage"]
    recipe: dict[str, Any] = {
        "method": choice.choice(objectives()),
        "teacher": TEACHERS[choice.choice(list(TEACHERS))],
        "student": {**MODEL, "adapter": choice.choice(ADAPTERS)},
        "data": {"name": "digits", "limit": 16 * STEPS, "augment": choice.choice(AUGMENTATIONS)},
        **OVERALL,
    }
    if choice.random() < 0.4:
        recipe["sampler"] = choice.choice(samplers)
    if choice.random() < 0.3:
        recipe["also"] = [choice.choice(objectives())]
    return recipe


def train(content: dict[str, Any], folder: Path) -> Run:
    """Two steps of it."""
    recipe = load_recipe(content)
    look_over(recipe)
    run = Run(recipe, RunFolder.create(recipe, folder, exact=True), Silence(), Interruption())
    run.preflight()
    run.sources()
    run.transfer()
    return run


def attempt(content: dict[str, Any], folder: Path) -> Run | str:
    """The run, or why it is refused."""
    try:
        return train(content, folder)
    except (InputError, RecipeError) as error:
        return str(error)


def test_random_combinations(tmp_path: Path) -> None:
    choice = random.Random(0)
    trained: list[str] = []
    refused: list[str] = []
    while len(trained) < LEGAL:
        content = draw(choice)
        run = attempt(content, tmp_path / f"{len(trained)}-{len(refused)}")
        if isinstance(run, str):
            refused.append(run)
            assert len(refused) < 4 * LEGAL, f"nearly everything is refused: {refused[-3:]}"
            continue
        trained.append(content["method"])
        assert all(torch.isfinite(p).all() for p in run.models["student"].parameters()), content
        assert all(record["steps"] > 0 for record in run.records.values()), content
    # A reason that a person can act on, and not only that it is so.
    assert refused
    assert all(len(reason) > 40 for reason in refused)
    missing = sorted(set(objectives()) - set(trained))
    assert len(missing) < 0.3 * len(objectives()), f"never trained: {missing}"

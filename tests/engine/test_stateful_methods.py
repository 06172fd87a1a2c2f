"""Methods whose state is more than a student (banks, generators, peers) go on to the same bits after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import Record, run_in_pieces, same, stage_end, weights

from tutelage import api
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "distill"
SMALL = (
    *("data.limit=64", "train.epochs=4", "train.batch_size=16", "train.checkpoint={seconds: null}"),
    *("measure=[accuracy]", "baseline=false"),
)
# What is stopped, after how many steps, and what else keeps the run small.
CASES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "wcord": ("transfer", 6, ()),
    "orc": ("transfer", 6, ()),
    "bd-kd": ("transfer", 6, ()),
    "pesf-kd": ("transfer", 6, ()),
    "hard-augmentations": ("transfer", 6, ()),
    "retain-acquire": ("transfer", 6, ("method.steps=4", "method.generator_width=8", "method.push_every=1")),
    "cae-dfkd": (
        "transfer",
        6,
        tuple(
            f"method.{key}" for key in ("steps=4", "g_steps=2", "warmup_rounds=1", "synthesis_batch=20", "pool_size=60")
        ),
    ),
    "shike": ("experts", 6, ("data.imbalance=4",)),
    "activekd": ("round-1", 2, ("method.rounds=1", "train.epochs=2")),
    "complementary-transfer": ("transfer", 6, ("method.slow_decay=0.9",)),
    "mix-kd": ("transfer", 6, ()),
    "wakd": ("transfer", 6, ()),
    "nd": ("transfer", 6, ("method.means=running",)),
}


def content(name: str) -> dict[str, Any]:
    _, _, own = CASES[name]
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    taught = [slot for slot, spec in recipe.models.items() if slot in recipe.slots and _trained(spec)]
    shorter = [f"{slot}.weights.train.epochs=1" for slot in taught]
    whole: dict[str, Any] = load_recipe(RECIPES / f"{name}.yaml", [*SMALL, *shorter, *own]).to_dict()
    return whole


def _trained(spec: Any) -> bool:
    weights = spec.extras.get("weights")
    return weights is not None and not isinstance(weights, str | Path)


@pytest.mark.parametrize("name", CASES)
def test_a_stopped_run_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    stage, step, _ = CASES[name]
    recipe = content(name)
    whole = api.run(recipe, run_dir=tmp_path / "whole", listener=Record()).folder
    cut = run_in_pieces(recipe, tmp_path / "cut", (stage, step))
    assert same(weights(whole), weights(cut))
    one, two = stage_end(whole, stage), stage_end(cut, stage)
    assert same(one["method"], two["method"])
    assert all(same(one["models"][key], two["models"][key]) for key in one["models"])


def test_every_case_is_a_method() -> None:
    assert set(CASES) <= set(registry().names("method"))

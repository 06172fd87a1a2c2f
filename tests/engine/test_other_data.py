"""Samples without classes, models that say more than logits, losses that are means over something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.conftest import run, weights

from tutelage import api
from tutelage.recipe.errors import InputError


def recipe(**train: Any) -> dict[str, Any]:
    return {
        "method": "trial-lines",
        "teacher": {"model": "trial-slope", "start": 2.0, "weights": {"train": {"epochs": 2, "batch_size": 30}}},
        "model": {"model": "trial-slope"},
        "data": "trial-sequences",
        "train": {"epochs": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.1}, **train},
        "measure": ["cost"],
    }


def test_a_run_reports_what_the_method_measured(tmp_path: Path) -> None:
    folder = run(recipe(), tmp_path / "run")
    report = json.loads((folder / "report.json").read_text())
    assert [row["role"] for row in report["rows"]] == ["source", "recipient", "baseline"]
    own = report["rows"][1]["measures"]
    assert own["quality"]["error"]["n"] == 20
    assert own["retention"]["share"]["value"] == 0.5
    assert own["cost"]["parameters"]["value"] == 1
    arrived = report["arrived"]
    assert (arrived["metric"], arrived["higher_is_better"]) == ("error", False)
    # The control learns the same from the same batches.
    assert arrived["gain"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert 0 <= report["kept"]["of_source"]["value"] <= 1
    assert report["kept"]["of_source"]["value"] + report["lost"]["of_source"]["value"] == pytest.approx(1.0)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_mean_over_what_counts_does_not_depend_on_the_parts(tmp_path: Path, parts: int) -> None:
    """Parts hold different numbers of values that count, some none."""
    whole = weights(run(recipe(), tmp_path / "whole"))
    pieces = weights(run(recipe(accumulate=parts), tmp_path / "pieces"))
    assert torch.allclose(whole["slope"], pieces["slope"], atol=1e-6)
    assert not torch.equal(whole["slope"], torch.ones(1))


def test_a_measure_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'agreement' measures classes, and 'trial-lines' gives lines"):
        api.run({**recipe(), "measure": ["agreement"]}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_samples_without_classes_are_limited_and_not_balanced(tmp_path: Path) -> None:
    folder = run({**recipe(), "data": {"name": "trial-sequences", "limit": 9}}, tmp_path / "run")
    assert json.loads((folder / "manifest.json").read_text())["data"]["limit"] == 9
    with pytest.raises(InputError, match="have no class to count"):
        api.run({**recipe(), "data": {"name": "trial-sequences", "imbalance": 2}}, run_dir=tmp_path / "other")


def test_what_a_recipe_takes_is_estimated(tmp_path: Path) -> None:
    from tutelage.api.checking import estimate
    from tutelage.recipe.loading import load_recipe

    found = estimate(load_recipe(recipe()))
    assert found["models"]["model"]["parameters"] == 1
    assert found["data"]["train"] == 30

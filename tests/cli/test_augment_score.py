"""Augmentations ranked from the command line, and what cannot be ranked."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tutelage import api
from tutelage.cli.app import app
from tutelage.recipe.errors import InputError
from tutelage.recipe.yaml_writer import to_yaml

RECIPE = {
    "method": "kd",
    "teacher": {"model": "mlp", "hidden": [8], "weights": {"train": {"epochs": 1}}},
    "student": "mlp",
    "data": {"name": "digits", "limit": 200},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


def test_the_command_ranks_what_it_is_asked_and_none(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(RECIPE))
    asked = ["--augment", "cutmix", "--augment", "{name: shift, pixels: 2}", "--augment", "cutmix-pick"]
    done = CliRunner().invoke(
        app, ["augment-score", str(path), *asked, "--batch-size", "20", "--epochs", "2", "--json"]
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert {row["name"] for row in rows} == {"none", "cutmix", "shift (pixels 2)", "cutmix-pick"}
    assert [row["spread"] for row in rows] == sorted(row["spread"] for row in rows)
    assert {row["draws"] for row in rows} == {4}


@pytest.mark.parametrize(
    ("recipe", "augments", "said"),
    [
        (RECIPE, ["cutmx"], "'cutmix'"),
        (RECIPE, [{"name": "shift", "pixls": 1}], "'pixels'"),
        ({"method": "supervised", "student": "mlp", "data": "digits"}, ["flip"], "no teacher"),
    ],
)
def test_what_cannot_be_ranked(recipe, augments, said):
    with pytest.raises(InputError, match=said):
        api.score_augmentations(recipe, augments)

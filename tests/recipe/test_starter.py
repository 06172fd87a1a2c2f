"""Starter recipes and the editors' schema, for every method there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tutelage.recipe.editor_schema import json_schema
from tutelage.recipe.errors import InputError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.spec import plain
from tutelage.recipe.starter import starter
from tutelage.recipe.yaml_source import parse_yaml


def methods() -> list[str]:
    return list(registry().names("method"))


def test_every_starter_loads_and_shows_every_argument(tmp_path: Path) -> None:
    assert len(methods()) >= 2
    for name in methods():
        text = starter(name)
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        recipe = load_recipe(path)
        written = parse_yaml(text).plain()["method"]
        for param in registry().get("method", name).params:
            assert param.name in written
            if not param.required:
                assert recipe.method.args[param.name] == load_recipe(path, [f"method={name}"]).method.args[param.name]
        assert all(len(line) <= 121 for line in text.splitlines())
        assert plain(recipe.method)["name"] == name


def test_unknown_method() -> None:
    with pytest.raises(InputError, match="Did you mean 'fx-own'"):
        starter("fx-onw")
    with pytest.raises(InputError, match="Did you mean 'fx-own'"):
        json_schema("fx-onw")


def test_schema_accepts_what_loads(tmp_path: Path) -> None:
    # Whether a schema is one is asked of the whole alone, for it takes a second, and holds what all others hold.
    jsonschema.Draft202012Validator.check_schema(json_schema(None))
    everything = jsonschema.Draft202012Validator(json_schema(None))
    for name in methods():
        text = starter(name)
        (tmp_path / "r.yaml").write_text(text)
        recipe = load_recipe(tmp_path / "r.yaml")
        for validator in (everything, jsonschema.Draft202012Validator(json_schema(name))):
            validator.validate(parse_yaml(text).plain())
            validator.validate(recipe.to_dict())


def test_schema_refuses_what_does_not(mapping: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(json_schema("fx-own"))
    validator.validate(mapping)
    for change in (
        {"method": "fx-inherit"},
        {"method": {"name": "fx-own", "temprature": 1}},
        {"method": {"name": "fx-own", "temperature": -1}},
        {"student": {"model": "fx-net"}},
        {"seed": -1},
        {"sed": 1},
        {"train": {"optimizer": {"name": "fx-sgd", "lr": 0}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({**mapping, **change})

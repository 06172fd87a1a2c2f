"""Nothing is registered without what makes it usable: a test, and for a method its paper, recipe, test and page."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tutelage.recipe import load_recipe
from tutelage.recipe.registry import Entry, registry

ROOT = Path(__file__).resolve().parents[2]
METHODS = [entry for entry in registry().entries("method") if entry.package == "tutelage"]
COMPONENTS = [entry for entry in registry().entries() if entry.package == "tutelage"]


def _name(entry: Entry) -> str:
    return f"{entry.kind}-{entry.name}"


def _test_file(entry: Entry) -> Path:
    return ROOT / "tests" / entry.route / f"test_{entry.name.replace('-', '_')}.py"


@cache
def _tests() -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")) if path != Path(__file__))


@cache
def _recipes() -> tuple[Path, ...]:
    return tuple(sorted((ROOT / "recipes").rglob("*.yaml")))


def test_there_is_something_to_check() -> None:
    assert {"kd", "rkd", "ttm", "wttm", "topkd", "layer-selection", "born-again"} <= {entry.name for entry in METHODS}


@pytest.mark.parametrize("entry", METHODS, ids=_name)
def test_a_method_has_a_paper(entry: Entry) -> None:
    assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\S+|https://\S+", entry.paper), entry.paper


@pytest.mark.parametrize("entry", METHODS, ids=_name)
def test_a_method_lives_in_one_file_of_its_route(entry: Entry) -> None:
    assert entry.module == f"tutelage.{entry.route}.{entry.name.replace('-', '_')}"
    assert len(entry.path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("entry", METHODS, ids=_name)
def test_a_method_has_a_recipe_of_its_own(entry: Entry) -> None:
    path = ROOT / entry.recipe
    assert path.is_file(), f"{entry.recipe} is missing"
    recipe = load_recipe(path)
    used = {recipe.method.name, *(stage.method.name for stage in recipe.stages)}
    assert entry.name in used
    assert len([line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]) < 25


@pytest.mark.parametrize("entry", METHODS, ids=_name)
def test_a_method_has_a_test_file(entry: Entry) -> None:
    path = _test_file(entry)
    assert path.is_file(), f"{path.relative_to(ROOT)} is missing"
    assert len(re.findall(r"^\s*def test_", path.read_text(), re.MULTILINE)) >= 3, (
        "identities, an outcome and bad input"
    )


@pytest.mark.parametrize("entry", METHODS, ids=_name)
def test_a_method_has_inputs(entry: Entry) -> None:
    assert entry.slots, f"{entry.module} declares no slots"


@pytest.mark.parametrize("entry", COMPONENTS, ids=_name)
def test_a_component_is_named_in_a_test(entry: Entry) -> None:
    """By its name in recipes or by its class, in any test but this."""
    name = rf"""["']{re.escape(entry.name)}["']|name: {re.escape(entry.name)}\b|model: {re.escape(entry.name)}\b"""
    mentioned = re.search(rf"{name}|\b{re.escape(entry.qualname)}\b", _tests()) is not None
    assert mentioned, f"no test mentions the {entry.kind} {entry.name!r}"


@pytest.mark.parametrize("entry", COMPONENTS, ids=_name)
def test_a_component_is_documented(entry: Entry) -> None:
    assert entry.summary.endswith("."), f"{entry.path}:{entry.line}: the docstring starts with a sentence"
    silent = [param.name for param in entry.params if not param.doc]
    assert not silent, f"{entry.path}:{entry.line}: 'Args:' says nothing of {', '.join(silent)}"


@pytest.mark.parametrize("path", _recipes(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shipped_recipe_loads_and_says_what_it_is(path: Path) -> None:
    load_recipe(path)
    assert path.read_text().startswith("# "), "a recipe starts with a comment that says what it does"

"""YAML 1.2, positions, and everything that a file can be instead of a recipe."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.recipe.errors import RecipeError
from tutelage.recipe.yaml_source import from_python, parse_yaml, read_yaml
from tutelage.recipe.yaml_writer import to_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


@given(VALUES)
def test_what_is_written_reads_back(value: Any) -> None:
    assert parse_yaml(to_yaml(value)).plain() == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("no", "no"), ("Yes", "Yes"), ("y", "y"), ("true", True), ("FALSE", False), ("~", None),
        ("null", None),
        ("1e-3", 1e-3), ("2.0e-3", 2e-3), ("1.", 1.0), (".5", 0.5), ("+1", 1), ("-0", 0), ("010", 10), ("0o10", 8),
        ("0x1F", 31), ("1_000", "1_000"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), (".inf", math.inf),
        ("-.inf", -math.inf), ('"1"', "1"), ("'true'", "true"), ("e1", "e1"), ("0b1", "0b1"),
    ],
)  # fmt: skip
def test_core_schema(text: str, value: Any) -> None:
    found = parse_yaml(f"a: {text}").plain()["a"]
    assert found == value
    assert type(found) is type(value)


def test_positions_of_keys_and_values() -> None:
    node = parse_yaml("a: 1\nb:\n  c: [x, {d: 2}]\n", "f.yaml")
    inner = node.value["b"].value["c"]
    assert (inner.key.line, inner.key.column, inner.place.line, inner.place.column) == (3, 3, 3, 6)
    assert (inner.value[1].value["d"].place.line, inner.value[1].value["d"].place.column) == (3, 14)


BAD = {
    "": "empty",
    "# only a comment\n": "empty",
    "a: 1\na: 2\n": "2:1: a: the key 'a' appears twice; it is first set on line 1",
    "a: {b: 1, b: 2}": "1:11: a.b: the key 'b' appears twice",
    "a: 1\n---\nb: 2\n": "2:1: a second document",
    "a: !!python/object/apply:os.system [x]": "1:4: a: the tag",
    "a: !!str 1": "the tag",
    "1: x": "1:1: the key 1 is an integer",
    "true: x": "the key true is a boolean",
    "? [a, b]\n: x": "the key",
    "? {a: b}\n: x": "the key",
    "null: x": "the key null",
    "a: .nan": "1:4: a: '.nan'",
    "a: 1e999": "too large",
    "a: " + "9" * 5000: "digits",
    "a: [1, 2": "not valid YAML",
    "a: 'x": "not valid YAML",
    "a: b: c": "1:5: this is not valid YAML",
    "\ta: 1": "not valid YAML",
    "a: \x00": "1:4: the character",
    "a: *missing": "not valid YAML|refers to no anchor",
    "a: &x [*x]": "contains itself|not valid YAML",
    "x: &a {b: 1}\ny: {<<: *a}": "merge keys",
    'a: "\\ud800"': "surrogate|not valid YAML",
    "[" * 100 + "]" * 100: "nested more than|not valid",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_bad_text(text: str) -> None:
    with pytest.raises(RecipeError, match=BAD[text]) as caught:
        parse_yaml(text, "r.yaml")
    assert caught.value.problems[0].file == "r.yaml"


def test_a_billion_laughs_are_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(RecipeError, match="expands to more than"):
        parse_yaml("\n".join(lines))


def test_modest_anchors_are_allowed() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: *x").plain() == {"a": {"b": 1}, "c": {"b": 1}}


def test_files_that_are_not_recipes(tmp_path: Path) -> None:
    cases = {
        "binary": (b"\x89PNG\r\n\x1a\n\xff", "UTF-8"),
        "utf16": ("a: 1".encode("utf-16"), "UTF-8"),
        "empty": (b"", "empty"),
    }
    cases["large"] = (b"#" * 1_000_001, "larger than 1 MB")
    for name, (data, said) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RecipeError, match=said):
            read_yaml(tmp_path / name)
    with pytest.raises(RecipeError, match="folder"):
        read_yaml(tmp_path)
    (tmp_path / "wttm.yaml").write_text("a: 1")
    with pytest.raises(RecipeError, match=r"no such file.*Did you mean 'wttm\.yaml'"):
        read_yaml(tmp_path / "wtm.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_yaml("a\0b")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_yaml(tmp_path / "wttm.yaml" / "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with pytest.raises(RecipeError, match="denied"):
        read_yaml(path)


def test_byte_order_mark_and_windows_lines() -> None:
    assert parse_yaml("a: 1\r\nb: on\r\n").plain() == {"a": 1, "b": "on"}


def test_utf8_bom(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "r.yaml").plain() == {"a": 1}


def test_python_values() -> None:
    loop: dict[str, Any] = {}
    loop["a"] = loop
    for value, said in (
        ({1: 2}, "keys are text"),
        ({"a": object()}, "a object"),
        ({"a": math.nan}, "nan"),
        (loop, "nested"),
    ):
        with pytest.raises(RecipeError, match=said):
            from_python(value)
    assert from_python({"a": (1, Path("x"))}).plain() == {"a": [1, "x"]}

"""The registry reads what the running code would say, and imports nothing for it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import Registry, registry, scan
from tutelage.recipe.scan import REQUIRED, arguments_doc
from tutelage.recipe.schema import fit, runtime_hints
from tutelage.recipe.spec import plain


def write(folder: Path, **files: str) -> Registry:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return scan({"pack": folder}, [("pack-dist", "pack")])


def test_every_static_signature_is_the_runtime_one() -> None:
    seen = 0
    for entry in registry().entries():
        thing = registry().load(entry.kind, entry.name)
        assert thing.__tutelage__ == (entry.kind, entry.name)
        hints = runtime_hints(thing)
        live = inspect.signature(thing).parameters.values()
        keys = [p for p in live if p.kind is p.KEYWORD_ONLY]
        assert [p.name for p in entry.params] == [p.name for p in keys], entry
        for static, runtime in zip(entry.params, keys, strict=True):
            assert static.annotation == hints[runtime.name], f"{entry.kind} {entry.name}: {runtime.name}"
            default = REQUIRED if runtime.default is runtime.empty else runtime.default
            assert (static.default, type(static.default)) == (default, type(default)), f"{entry.name}: {runtime.name}"
            seen += 1
        assert not [p for p in live if p.kind is p.VAR_KEYWORD], (
            f"{entry.name} takes **kwargs, whose names no recipe can see"
        )
        assert dict(entry.slots) == dict(getattr(thing, "slots", {}) if entry.kind == "method" else entry.slots)
        needed = [
            p.name for p in live if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
        ]
        assert list(entry.positional) == needed
    assert seen >= 20


def test_every_argument_is_documented_and_its_default_valid() -> None:
    for entry in registry().entries():
        assert entry.summary, f"{entry.kind} '{entry.name}' has no docstring"
        for param in entry.params:
            assert param.doc, f"{entry.kind} '{entry.name}': '{param.name}' is missing from the docstring's Args"
            if param.default is not REQUIRED and param.default is not None and "Of(" not in repr(param.annotation):
                fit(param.annotation, plain(param.default))
        if entry.kind == "method":
            assert entry.paper
            assert entry.route
            assert entry.title


def test_plugin_is_found_by_its_entry_point() -> None:
    entry = registry().get("method", "fx-inherit")
    assert entry.package == "tutelage-fixture"
    assert entry.module == "tutelage_fixture.parts"
    assert [(p.name, p.default) for p in entry.params] == [("weight", 0.5), ("warmth", 4)]
    assert dict(entry.slots) == {"teacher": "model", "student": "model", "data": "data"}
    assert entry.params[1].doc == "Temperature of both distributions."


def test_scanning_imports_nothing_heavy_and_is_quick() -> None:
    code = """
        import sys, time
        from tutelage.recipe.registry import registry
        start = time.process_time()
        registry()
        assert time.process_time() - start < 0.5
        heavy = {"torch", "numpy", "pydantic"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_name_clash_names_both(tmp_path: Path) -> None:
    one = """
        @component("ramp", "same")
        class One:
            '''One.'''
    """
    with pytest.raises(InputError, match=r"(?s)pack\.a:One.*pack\.b:One"):
        write(tmp_path, a=one, b=one)


def test_a_broken_file_hides_only_itself(tmp_path: Path) -> None:
    good = '@component("ramp", "good")\nclass Good:\n    """Good."""\n'
    found = write(tmp_path, a=good, b="@component('ramp', 'bad')\nclass Bad(:\n")
    assert found.names("ramp") == ("good",)
    with pytest.raises(InputError, match=r"Not read: .*b\.py"):
        found.get("ramp", "bad")


def test_names_that_are_not_literal_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="literal"):
        write(tmp_path, a='NAME = "x"\n@component("ramp", NAME)\nclass Good:\n    """Good."""\n')


def test_unreadable_annotation_says_where(tmp_path: Path) -> None:
    text = """
        from torch import Tensor
        @component("ramp", "x")
        class X:
            '''X.'''
            def __init__(self, *, value: Tensor) -> None: ...
    """
    with pytest.raises(InputError, match=r"a\.py:6: 'value' cannot be read"):
        assert write(tmp_path, a=text).get("ramp", "x").params is None


def test_an_annotation_cannot_run_code(tmp_path: Path) -> None:
    text = """
        @component("ramp", "x")
        class X:
            '''X.'''
            def __init__(self, *, value: __import__("os").system("true")) -> None: ...
    """
    with pytest.raises(InputError, match="cannot be read"):
        assert write(tmp_path, a=text).get("ramp", "x").params is None


def test_dataclass_fields_are_keys_and_bases_come_first(tmp_path: Path) -> None:
    text = """
        from dataclasses import dataclass
        from typing import ClassVar
        @dataclass(frozen=True, kw_only=True)
        class Base:
            a: int = 1
        @component("ramp", "x")
        @dataclass(frozen=True, kw_only=True)
        class X(Base):
            '''X.'''
            group: ClassVar[str] = "g"
            b: "float"
    """
    entry = write(tmp_path, a=text).get("ramp", "x")
    assert [(p.name, p.annotation, p.default) for p in entry.params] == [("a", int, 1), ("b", float, REQUIRED)]
    assert entry.facts["group"] == "g"


def test_args_section_joins_lines_and_stops() -> None:
    doc = """Text.

    Args:
        one: First
            line.
        two (int): Second.

    Raises:
        three: Not an argument.
    """
    assert arguments_doc(doc) == {"one": "First line.", "two": "Second."}


@pytest.mark.parametrize(
    ("found", "choices", "hint"),
    [
        ("rl", ["lr", "weight_decay"], "Did you mean 'lr'?"),
        ("temprature", ["temperature", "weight"], "Did you mean 'temperature'?"),
        ("temp", ["temperature", "weight"], "Did you mean 'temperature'?"),
        ("kd", ["ka", "kb"], "Did you mean 'ka' or 'kb'?"),
        ("zzz", ["temperature", "weight"], "Choose from: temperature, weight."),
        ("x", [], ""),
    ],
)
def test_nearest(found: str, choices: list[str], hint: str) -> None:
    assert nearest(found, choices) == hint


def test_relative_imports_reexports_and_two_bases(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from .deep import Low as Base\n")
    (tmp_path / "deep.py").write_text(
        "class Low:\n    slots = {'a': 'data'}\n    def __init__(self, *, x: int = 1) -> None: ...\n"
    )
    text = """
        from . import Base
        class Mixin:
            slots = {"b": "data"}
        @method("m", paper="p", route="r")
        class M(Mixin, Base):
            pass
    """
    entry = write(tmp_path, a=text).get("method", "m")
    assert [p.name for p in entry.params] == ["x"]
    assert dict(entry.slots) == {"b": "data"}

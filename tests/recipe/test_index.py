"""What was read of files is kept by their time and size, and nothing depends on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tutelage.recipe import index as module
from tutelage.recipe.index import Index
from tutelage.recipe.registry import scan

SOURCE = '''"""Parts: of a test (2026)."""
from tutelage.recipe.registry import component

@component("model", "{name}")
class Part:
    """Does {what}."""

    def __init__(self, *, width: int = {width}) -> None: ...
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "parts"
    root.mkdir()
    (root / "__init__.py").write_text("")
    (root / "one.py").write_text(SOURCE.format(name="one", what="little", width=3))
    return root


def entries(root: Path) -> dict[str, tuple[str, int]]:
    found = scan({"parts": root}, [("parts-1.0", "parts")])
    return {e.name: (e.summary, e.params[0].default) for e in found.entries("model")}


def test_an_unchanged_file_is_not_parsed_again(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = entries(package)
    assert first == {"one": ("Does little.", 3)}

    def parsed(_: object) -> None:
        raise AssertionError("a file was parsed")

    monkeypatch.setattr(module, "headers", parsed)
    assert entries(package) == first


def test_a_changed_file_is(package: Path) -> None:
    entries(package)
    (package / "one.py").write_text(SOURCE.format(name="other", what="more", width=44))
    (package / "two.py").write_text(SOURCE.format(name="two", what="much", width=5))
    assert entries(package) == {"other": ("Does more.", 44), "two": ("Does much.", 5)}
    (package / "two.py").unlink()
    assert set(entries(package)) == {"other"}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}', '{"format": 1, "files": {"%s": {"stamp": 3}}}'])
def test_a_damaged_index_is_as_none(package: Path, damage: str) -> None:
    first = entries(package)
    (kept,) = (package.parent / "cache" / "registry").iterdir()
    kept.write_text(damage.replace("%s", str(package / "one.py")))
    assert entries(package) == first


def test_where_nothing_can_be_kept_everything_is_read(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = package.parent / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("TUTELAGE_CACHE", str(blocked))
    assert entries(package) == {"one": ("Does little.", 3)}


def test_what_cannot_be_read_is_not_kept(package: Path) -> None:
    broken = package / "broken.py"
    broken.write_text('@component("model", "x")\nclass X(:\n')
    for _ in range(2):
        found = scan({"parts": package}, [("parts-1.0", "parts")])
        assert any("broken.py" in note for note in found.unread)
    assert Index("unused").path.parent == Path(os.environ["TUTELAGE_CACHE"]) / "registry"

"""What the documentation shows works: its recipes load, its commands exist, its files are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tutelage.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if path.is_file()
]
SHIPPED = ROOT / "recipes" / "quickstart.yaml"


def _blocks(path: Path, *languages: str) -> Iterator[tuple[int, str]]:
    """Line and text of the fenced blocks of these languages, indented ones too."""
    text = path.read_text()
    for found in re.finditer(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
        if found[2] in languages:
            indent = len(found[1])
            yield (
                text.count("\n", 0, found.start()) + 1,
                "\n".join(line[indent:] for line in found[3].splitlines()),
            )


def _cases(*languages: str) -> list[Any]:
    return [
        pytest.param(text, id=f"{path.relative_to(ROOT)}:{line}")
        for path in PAGES
        for line, text in _blocks(path, *languages)
    ]


def _commands() -> list[Any]:
    """Every command line of Tutelage in a block of shell, or between backticks."""
    cases = []
    for path in PAGES:
        lines = [
            (line + i, words) for line, text in _blocks(path, "sh", "console", "bash") for i, words in _lines(text)
        ]
        text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), path.read_text(), flags=re.DOTALL)
        for found in re.finditer(r"`(tutelage [^`]+)`", text):
            lines.append((text.count("\n", 0, found.start()) + 1, found[1]))
        cases += [pytest.param(words, id=f"{path.relative_to(ROOT)}:{line}:{words}") for line, words in lines]
    return cases


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for i, line in enumerate(text.splitlines(), 1):
        found = re.search(r"(?:^|[\s/$])tutelage (.*)", line)
        if found and not line.lstrip().startswith("#"):
            yield i, f"tutelage {found[1]}"


def _resolve(words: str) -> tuple[Any, list[str]]:
    """The command that a line calls, and the options it gives it."""
    from typer.main import get_command

    from tutelage.cli.app import app

    words = re.split(r"\s[>|#&]", words.replace("...", ""))[0]
    command, rest = get_command(app), shlex.split(words)[1:]
    while rest and getattr(command, "commands", None) and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no command '{rest[0]}'"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, [word.split("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)]


@pytest.mark.parametrize("text", _cases("yaml"))
def test_a_shown_recipe_loads(text: str, tmp_path: Path) -> None:
    """Whole recipes as they are; parts of one as the difference to the quickstart's."""
    shown = tmp_path / "shown.yaml"
    whole = all(re.search(rf"^{key}:", text, re.MULTILINE) for key in ("method", "(student|model)", "data"))
    shown.write_text(text if whole else f"base: {SHIPPED}\n{text}")
    load_recipe(shown)


@pytest.mark.parametrize("words", _commands())
def test_a_shown_command_exists(words: str) -> None:
    command, options = _resolve(words)
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
    assert set(options) <= known, f"'{words}': {', '.join(sorted(set(options) - known))} is no option of it"


def test_a_command_that_does_not_exist_is_found() -> None:
    with pytest.raises(AssertionError, match="no command 'fly'"):
        _resolve("tutelage fly --high")
    assert _resolve("tutelage run a.yaml --run-dir x seed=1 > y --z")[1] == ["--run-dir"]


def test_a_shown_recipe_file_exists() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {found}"
        for path in PAGES
        for found in re.findall(r"\b(?:recipes|examples|requirements|tests|src)/[\w./-]*\w", path.read_text())
        if "<" not in found and not (ROOT / found).exists()
    ]
    assert not missing, "\n".join(missing)

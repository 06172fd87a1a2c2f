"""The guide to kept graphs is run: it shows what the commands print (`TUTELAGE_WRITE_PAGES=1` writes it anew)."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tutelage.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guide" / "graphs.md"


def _run(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    words = shlex.split(line)
    assert words[0] == "tutelage"
    main(words[1:])
    out, err = capsys.readouterr()
    text = "\n".join(part.rstrip() for part in (out + err).splitlines())
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+\+00:00", "2026-01-01T12:00:00+00:00", text)
    return re.sub(r"_:[0-9a-f]{16,}", "_:b0", text)


def test_the_guide_shows_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUTELAGE_AUTHOR", "you")
    shutil.copy(ROOT / "docs" / "assets" / "limbs.ttl", tmp_path)
    (wrong,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    (tmp_path / "wrong.kgcl").write_text(wrong)
    (tmp_path / "right.kgcl").write_text("".join(f"{line}\n" for line in wrong.splitlines()[:-1]))

    def again(found: re.Match[str]) -> str:
        lines = [line for line in found[1].splitlines() if line.startswith("$ ")]
        shown = [f"{line}\n{_run(line[2:], capsys)}".rstrip() for line in lines]
        return "```console\n" + "\n".join(shown) + "\n```"

    now = re.sub(r"```console\n(.*?)```", again, page, flags=re.DOTALL)
    if os.environ.get("TUTELAGE_WRITE_PAGES"):
        PAGE.write_text(now, encoding="utf-8")
        return
    assert now == page

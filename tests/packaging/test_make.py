"""The Makefile tells a newcomer what it can do and what a bare machine lacks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def _make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def _bare(folder: Path) -> Path:
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    return folder


def _interpreter(path: Path, version: str, *, refuses: str) -> Path:
    """A stand-in that answers like a Python of a version which lacks some modules."""
    path.write_text(
        f"""#!/bin/bash
case "$2" in
  *{refuses}*) exit 1;;
  *version_info*) echo {version};;
esac
"""
    )
    path.chmod(0o755)
    return path


def test_help_is_the_default_and_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    shown = _make(ROOT).stdout
    for target in phony[1].split():
        assert f"make {target} " in shown


@pytest.mark.parametrize("target", ["install", "demo", "test", "lint", "docs", "bench", "reproduce"])
def test_every_target_installs_what_it_needs(target: str, tmp_path: Path) -> None:
    plan = _make(_bare(tmp_path), "--dry-run", target).stdout
    assert "-m venv .venv" in plan
    assert "--requirement requirements/base.txt" in plan
    assert "--editable ." in plan


def test_a_machine_without_venv_is_told_what_to_install(tmp_path: Path) -> None:
    python = _interpreter(tmp_path / "python", "3.11", refuses="venv")
    done = _make(_bare(tmp_path), "install", f"PYTHON={python}")
    assert done.returncode != 0
    assert "sudo apt install python3.11-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_machine_without_a_recent_python_is_told(tmp_path: Path) -> None:
    done = _make(_bare(tmp_path), "install", "PYTHON=")
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr

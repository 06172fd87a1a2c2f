from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tutelage.cli import main

SMALL: dict[str, Any] = {
    "method": {"name": "kd"},
    "teacher": {"model": "mlp", "hidden": [16], "weights": {"train": {"epochs": 1}}},
    "student": {"model": "mlp", "hidden": [8]},
    "data": {"name": "digits", "limit": 200},
    "train": {"epochs": 1, "batch_size": 50},
    "measure": ["accuracy", "agreement"],
    "seed": 0,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TUTELAGE_TRUST_PICKLE", raising=False)
    monkeypatch.delenv("TUTELAGE_TRUST_REMOTE_CODE", raising=False)


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes the small recipe with some top-level keys replaced (``None`` leaves one out)."""

    def write(**changes: Any) -> Path:
        content = {k: v for k, v in {**SMALL, **changes}.items() if v is not None}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[object]], tuple[int, str, str]]:
    """Runs a command in this process: exit code, stdout, stderr."""

    def run(arguments: Sequence[object]) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The benchmarks are scripts: they import their neighbours by bare names.
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))

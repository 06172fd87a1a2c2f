"""A cache of one's own, one thread, and small recipes on simulated learners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import cache, one_thread  # noqa: F401 - fixtures

from tutelage.api import Finished, run


@pytest.fixture
def recipe() -> Callable[..., dict[str, Any]]:
    """A recipe of a few seconds: ``recipe("dkt", epochs=2)``."""

    def make(method: Any, **changes: Any) -> dict[str, Any]:
        name = method if isinstance(method, str) else method["name"]
        train = {"epochs": 2, "batch_size": 32, "optimizer": {"name": "adam", "lr": 4e-3}, "schedule": "constant"}
        train |= {key: changes.pop(key) for key in ("epochs", "batch_size", "accumulate") if key in changes}
        whole = {
            "method": method,
            "model": {"model": name},
            "data": {"name": "learning-curves", "learners": 120, "concepts": 10, "steps": 40},
            "train": train,
            "measure": ["tracing"],
        }
        return {**whole, **changes}

    return make


@pytest.fixture
def go(tmp_path: Path) -> Callable[[Mapping[str, Any]], Finished]:
    """Runs a recipe to its end."""
    return lambda mapping: run(mapping, root=tmp_path / "runs")

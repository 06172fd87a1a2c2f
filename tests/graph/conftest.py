"""A cache of one's own, one thread, and small recipes on graphs that come with a package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import cache, one_thread  # noqa: F401 - fixtures

from tutelage.api import Finished, run


@pytest.fixture
def recipe() -> Callable[..., dict[str, Any]]:
    """A recipe of a few seconds: ``recipe({"name": "trans"}, data="nations", epochs=2)``."""

    def make(method: Any, **changes: Any) -> dict[str, Any]:
        train = {"epochs": 2, "batch_size": 256, "optimizer": {"name": "adam", "lr": 1e-2}, "schedule": "constant"}
        train |= {key: changes.pop(key) for key in ("epochs", "batch_size", "accumulate", "schedule") if key in changes}
        whole = {
            "method": method,
            "model": {"model": "transe", "width": 32},
            "data": "nations",
            "train": train,
            "measure": ["links"],
            "baseline": False,
        }
        return {**whole, **changes}

    return make


@pytest.fixture
def go(tmp_path: Path) -> Callable[[Mapping[str, Any]], Finished]:
    """Runs a recipe to its end."""
    return lambda mapping: run(mapping, root=tmp_path / "runs")

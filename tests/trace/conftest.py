"""A cache of one's own, one thread, and small recipes on simulated learners."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.api import Finished, run


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    before = os.environ.get("TUTELAGE_CACHE")
    path = tmp_path_factory.mktemp("cache")
    os.environ["TUTELAGE_CACHE"] = str(path)
    yield path
    if before is None:
        del os.environ["TUTELAGE_CACHE"]
    else:
        os.environ["TUTELAGE_CACHE"] = before


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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

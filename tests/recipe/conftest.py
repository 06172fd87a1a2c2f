"""The fixture plugin is installed for these tests the way any plugin is: on the path, with its metadata."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tutelage.recipe.registry import registry

PLUGIN = Path(__file__).parent / "plugin_fixture"


@pytest.fixture(autouse=True, scope="module")
def plugin() -> Iterator[None]:
    sys.path.insert(0, str(PLUGIN))
    registry.cache_clear()
    yield
    sys.path.remove(str(PLUGIN))
    registry.cache_clear()


@pytest.fixture
def mapping() -> dict[str, Any]:
    """A complete recipe of fixture components."""
    return {
        "method": {"name": "fx-own", "temperature": 2},
        "teacher": {"model": "fx-net", "width": 64, "weights": {"train": train(epochs=2)}},
        "student": {"model": "fx-net", "width": 8, "freeze": ["stem.*"]},
        "peers": [{"model": "fx-net", "width": 3}],
        "data": {"name": "fx-data", "augment": [{"name": "fx-move", "pixels": 2}], "limit": 5},
        "train": train(batch_size=32, groups=[{"match": "head.*", "lr_scale": 10}]),
        "seed": 3,
    }


def train(**values: Any) -> dict[str, Any]:
    """A train section of fixture components."""
    return {"optimizer": {"name": "fx-sgd", "lr": 1}, "schedule": "fx-flat", **values}

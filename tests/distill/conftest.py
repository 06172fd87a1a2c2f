"""Small recipes on real digits, and a cache of trained teachers that these tests share and nobody else sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.isolation import cache  # noqa: F401 - fixtures
from torch import Tensor

from tutelage.api import Finished, run
from tutelage.models.weight_files import read_tensors


@pytest.fixture
def recipe() -> Callable[..., dict[str, Any]]:
    """A recipe of a few seconds: ``recipe("kd", epochs=2, student={...})``; keys of ``train`` may be given directly."""

    def make(method: Any, **changes: Any) -> dict[str, Any]:
        train = {"epochs": 2, "batch_size": 32, "optimizer": {"name": "adam", "lr": 5e-3}, "schedule": "constant"}
        teacher = {"model": "mlp", "hidden": [32], "weights": {"train": {**train, "epochs": 5}}}
        train |= {key: changes.pop(key) for key in ("epochs", "batch_size", "accumulate", "schedule") if key in changes}
        whole = {
            "method": method,
            "teacher": teacher,
            "student": {"model": "mlp", "hidden": [16]},
            "data": {"name": "digits", "limit": 200},
            "train": train,
            "measure": ["accuracy"],
            "baseline": False,
        }
        return {key: value for key, value in {**whole, **changes}.items() if value is not None}

    return make


@pytest.fixture
def go(tmp_path: Path) -> Callable[[Mapping[str, Any]], Finished]:
    """Runs a recipe to its end."""
    return lambda mapping: run(mapping, root=tmp_path / "runs")


@pytest.fixture
def weights() -> Callable[[Finished], dict[str, Tensor]]:
    """The tensors of a run's model."""
    return lambda finished: dict(read_tensors(finished.folder / "model")[1])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, so that equal runs are equal to the last bit, also beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

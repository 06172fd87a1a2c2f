"""Fixtures that keep tests apart from the user and from each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of trained models that these tests share and nobody else sees."""
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
    """Sums in one order, so that equal runs are equal to the last bit, also beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

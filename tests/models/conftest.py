from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tutelage.data.batch import Batch, DataInfo


@pytest.fixture
def info() -> DataInfo:
    return DataInfo((1, 8, 8), 10, tuple("0123456789"), "sha256:0")


@pytest.fixture
def inputs() -> Tensor:
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def batch(inputs: Tensor) -> Batch:
    n = len(inputs)
    return Batch(inputs, torch.arange(n), torch.arange(n), torch.arange(n))

"""Feature reuse: consecutive blocks, and blocks that are left out or change places."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.losses import linear_cka
from tutelage.measure.reuse import consecutive_cka, dropped_and_swapped


class Add(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return x + self.value


def test_blocks_that_change_nothing_are_alike():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), Add(3.0), nn.Linear(4, 2))
    x = torch.randn(8, 4)
    first, second = consecutive_cka(model, ["0", "1", "2"], x)
    assert first == pytest.approx(1.0, abs=1e-6)
    assert second == pytest.approx(linear_cka(x, model[2](x)).item(), abs=1e-6)


def test_a_block_that_is_dropped_is_the_identity_and_pairs_are_swapped():
    model = nn.Sequential(Add(1.0), Add(10.0), nn.Linear(1, 2))
    x = torch.zeros(2, 1)
    seen = []

    def score(other):
        seen.append([float(part(torch.zeros(1))) if not isinstance(part, nn.Linear) else None for part in other])
        return float(sum(v for v in seen[-1] if v is not None))

    found = dropped_and_swapped(model, ["0", "1", "2"], x, score)
    assert seen == [[1, 10, None], [0, 10, None], [1, 0, None], [10, 1, None]]
    assert found == {"drop": 5.5, "swap": 0.0}


def test_blocks_that_change_the_shape_stay():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3))
    assert dropped_and_swapped(model, ["0", "1"], torch.zeros(2, 3), lambda _: 1.0) == {}

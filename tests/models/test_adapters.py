"""Adapters: nothing changes when they are put in, only they are trained, and merging is exact."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tutelage.data.batch import DataInfo
from tutelage.models.adapters.base import adapted, merge
from tutelage.models.adapters.lora import LoRA
from tutelage.models.adapters.mask import Mask
from tutelage.models.convnet import ConvNet
from tutelage.recipe.errors import InputError

INFO = DataInfo((1, 8, 8), 10, tuple("0123456789"), "")
ADAPTERS = {"lora": lambda **k: LoRA(rank=2, **k), "mask": lambda **k: Mask(**k)}


@pytest.fixture(params=ADAPTERS)
def make(request):
    return ADAPTERS[request.param]


def model() -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(INFO, width=4)


def test_the_output_is_unchanged_at_first(make):
    plain, inputs = model().eval(), torch.randn(3, 1, 8, 8)
    changed = copy.deepcopy(plain)
    assert make().inject(changed)
    assert torch.equal(plain(inputs), changed(inputs))
    assert adapted(changed)


def test_only_the_adapter_is_trained_and_merging_keeps_what_it_learnt(make):
    plain, inputs = model(), torch.randn(3, 1, 8, 8)
    changed = copy.deepcopy(plain)
    make().inject(changed)
    trained = {name for name, p in changed.named_parameters() if p.requires_grad}
    assert trained
    assert all("parametrizations.weight.0" in name for name in trained)
    optimizer = torch.optim.SGD([p for p in changed.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        changed(inputs).square().mean().backward()
        optimizer.step()
    for name, tensor in plain.state_dict().items():
        if name.endswith("weight") and f"{name[:-7]}.parametrizations.weight.original" in changed.state_dict():
            assert torch.equal(tensor, changed.state_dict()[f"{name[:-7]}.parametrizations.weight.original"])
    changed.eval()
    before = changed(inputs)
    merged = merge(changed)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(merged(inputs), before)
    assert not adapted(merged)


def test_a_change_of_low_rank_is_of_that_rank():
    layer = nn.Sequential(nn.Linear(6, 5))
    start = layer[0].weight.detach().clone()
    LoRA(rank=2, alpha=4.0).inject(layer)
    low = layer[0].parametrizations.weight[0]
    with torch.no_grad():
        low.up.normal_()
    assert torch.linalg.matrix_rank(layer[0].weight - start) == 2
    assert torch.allclose(layer[0].weight - start, 2.0 * low.up @ low.down, atol=1e-6)


def test_a_mask_counts_what_scores_above_its_threshold():
    layer = nn.Sequential(nn.Linear(3, 2))
    Mask(threshold=0.5).inject(layer)
    masked = layer[0].parametrizations.weight[0]
    with torch.no_grad():
        masked.scores[0, 1] = 0.5
    assert layer[0].weight[0, 1] == 0
    layer(torch.ones(1, 3)).sum().backward()
    # Straight through: the score of the weight that does not count has a gradient too.
    assert masked.scores.grad[0, 1] == layer[0].parametrizations.weight.original[0, 1]


def test_a_pattern_that_matches_nothing(make):
    with pytest.raises(InputError, match=r"'bloks\.\*\*' matches no layer.*Did you mean|'bloks"):
        make(layers=("bloks.**",)).inject(model())

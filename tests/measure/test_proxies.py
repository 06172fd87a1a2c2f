"""Scores of untrained networks: each against its formula on a network small enough to work out."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tutelage.data.batch import DataInfo
from tutelage.measure import proxies
from tutelage.models.convnet import ConvNet
from tutelage.models.resnet import ResNet

INPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def gradients(net):
    net = copy.deepcopy(net)
    cross_entropy(net(INPUTS), LABELS).backward()
    return [(net[i].weight, net[i].weight.grad) for i in (0, 2)]


def test_gradients(net):
    pairs = gradients(net)
    assert proxies.gradient_norm(net, INPUTS, LABELS) == pytest.approx(sum(g.norm().item() for _, g in pairs), rel=1e-5)
    assert proxies.snip(net, INPUTS, LABELS) == pytest.approx(
        sum((w * g).abs().sum().item() for w, g in pairs), rel=1e-5
    )


def test_synflow_is_the_flow_through_positive_weights(net):
    for layer in (net[0], net[2]):
        nn.init.zeros_(layer.bias)
    ones = torch.ones(4, dtype=torch.float64)
    flow = (net[2].weight.abs().double() @ (net[0].weight.abs().double() @ ones)).sum().item()
    # Each of the two layers carries all of it.
    assert proxies.synflow(net, INPUTS, LABELS) == pytest.approx(math.log(2 * flow))


def test_nwot_counts_shared_signs(net):
    code = (net[:2](INPUTS) > 0).double()
    kernel = torch.tensor([[float((a == b).sum()) for b in code] for a in code], dtype=torch.float64)
    sign, value = torch.linalg.slogdet(kernel)
    expected = value.item() if sign > 0 else -math.inf
    assert proxies.nwot(net, INPUTS, LABELS) == pytest.approx(expected)


def test_fisher(net):
    hidden = net[:2](INPUTS).detach().requires_grad_()
    cross_entropy(net[2](hidden), LABELS).backward()
    expected = (hidden * hidden.grad).square().mean(0).sum().item() / 2
    assert proxies.fisher(net, INPUTS, LABELS) == pytest.approx(expected, rel=1e-4)


def test_zen_puts_back_what_normalisation_took():
    """Filters ten times as large are the same function after normalisation; their deviation is put back."""
    torch.manual_seed(0)
    net = ConvNet(DataInfo((1, 8, 8), 3, ("a", "b", "c"), ""), width=3, depth=1, convolutions=1)
    larger = copy.deepcopy(net)
    with torch.no_grad():
        larger.blocks[0][0].weight.mul_(10)
    gain = proxies.zen(larger, IMAGES, LABELS) - proxies.zen(net, IMAGES, LABELS)
    assert gain == pytest.approx(math.log(10), abs=0.05)


@pytest.mark.parametrize("name", list(proxies.PROXIES))
@pytest.mark.parametrize("kind", [ConvNet, ResNet])
def test_a_network_is_left_alone(name, kind):
    torch.manual_seed(0)
    net = kind(DataInfo((1, 8, 8), 3, ("a", "b", "c"), ""), depth=8 if kind is ResNet else 2, width=2)
    before = copy.deepcopy(net.state_dict())
    value = proxies.PROXIES[name](net, IMAGES, LABELS)
    assert not math.isnan(value)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    assert net.training
    assert all(p.grad is None for p in net.parameters())

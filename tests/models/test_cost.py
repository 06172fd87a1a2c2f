"""Costs: counted against closed forms, and estimated without weights as they are with them."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.models.convnet import ConvNet
from tutelage.models.cost import activation_bytes, cost, estimate, flops, latency, weights_bytes
from tutelage.models.mlp import MLP
from tutelage.models.standard import parameters_of
from tutelage.models.vit import ViT
from tutelage.recipe.registry import registry

BUILDERS: list[tuple[str, dict[str, Any]]] = [
    ("mlp", {"hidden": (16, 12)}),
    ("convnet", {"width": 4}),
    ("resnet", {"depth": 8, "width": 4}),
    ("vit", {"dim": 16, "depth": 2, "heads": 2}),
]


def test_flops_of_linear_layers(info: DataInfo, inputs: Tensor) -> None:
    assert flops(MLP(info, hidden=(16, 12)), inputs) == 2 * (64 * 16 + 16 * 12 + 12 * 10)


def test_flops_of_convolutions(info: DataInfo, inputs: Tensor) -> None:
    module = ConvNet(info, width=4, depth=2, convolutions=1)
    assert flops(module, inputs) == 2 * (64 * 9 * 1 * 4 + 16 * 9 * 4 * 8 + 8 * 10)


def test_flops_of_attention_count(info: DataInfo, inputs: Tensor) -> None:
    tokens, dim = 16, 8
    module = ViT(info, patch=2, dim=dim, depth=1, heads=2, expansion=2)
    mixing = tokens * (3 * dim * dim + dim * dim) + 2 * tokens * tokens * dim
    assert flops(module, inputs) == 2 * (tokens * 4 * dim + mixing + tokens * 2 * 2 * dim * dim + dim * 10)


def test_weights_are_counted_once() -> None:
    layer = nn.Linear(3, 3)
    module = nn.Sequential(layer, nn.BatchNorm1d(3), layer)
    assert parameters_of(module) == 12 + 6
    # Running mean and variance, and an int64 counter.
    assert weights_bytes(module) == 4 * (12 + 6 + 6) + 8
    assert weights_bytes(module.to(torch.bfloat16)) == 2 * (12 + 6 + 6) + 8


@pytest.mark.parametrize(("name", "args"), BUILDERS, ids=[name for name, _ in BUILDERS])
def test_estimates_are_what_the_real_model_costs(
    info: DataInfo, inputs: Tensor, name: str, args: dict[str, Any]
) -> None:
    real = registry().load("model", name)(info, **args)
    devices: list[set[str]] = []

    def build(data: DataInfo) -> nn.Module:
        module: nn.Module = registry().load("model", name)(data, **args)
        devices.append({tensor.device.type for tensor in (*module.parameters(), *module.buffers())})
        return module

    found = estimate(build, info, 32)
    assert devices[0] == {"meta"}, "its size was not known before its weights were allocated"
    assert found["parameters"] == parameters_of(real)
    assert found["bytes"] == weights_bytes(real)
    # An estimate may leave out the products of activations in attention, which weigh little in so small a model.
    assert 0.9 * flops(real, inputs) < found["flops"] <= flops(real, inputs)
    # Devices keep slightly different things for the backward pass.
    assert found["activation_bytes"] == pytest.approx(activation_bytes(real, info, 32), rel=0.1)


def test_estimating_moves_no_random_state(info: DataInfo) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    estimate(lambda data: ViT(data, dim=8, heads=2, dropout=0.2), info, 4)
    assert torch.equal(torch.rand(2), expected)


def test_a_builder_that_needs_values_is_built_for_real(info: DataInfo) -> None:
    def build(data: DataInfo) -> nn.Module:
        rates = [rate.item() for rate in torch.linspace(0, 0.5, 2)]
        return nn.Sequential(nn.Flatten(), nn.Dropout(rates[1]), nn.Linear(64, data.classes))

    assert estimate(build, info, 4)["parameters"] == 650


def test_a_huge_model_is_estimated_at_once(info: DataInfo) -> None:
    start = time.perf_counter()
    found = estimate(lambda data: MLP(data, hidden=(200_000, 200_000)), info, 8)
    assert found["parameters"] == 65 * 200_000 + 200_001 * 200_000 + 200_001 * 10
    assert found["bytes"] > 150e9
    assert time.perf_counter() - start < 30


def test_activations_are_what_the_backward_pass_needs(info: DataInfo) -> None:
    """Of two linear layers with a ReLU: the inputs and the ReLU's output, which the next layer shares."""
    module = MLP(info, hidden=(16,))
    assert activation_bytes(module, info, 32) == 4 * 32 * (64 + 16)
    assert activation_bytes(module, info, 64) == 2 * activation_bytes(module, info, 32)
    # Without gradients of the first layer, its input is not kept.
    module.blocks.requires_grad_(False)
    assert activation_bytes(module, info, 32) == 4 * 32 * 16


def test_a_model_is_as_before(info: DataInfo, inputs: Tensor) -> None:
    module = ConvNet(info, width=4).train()
    module.blocks[1].eval()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    found = cost(module, inputs, seconds=0.01)
    activation_bytes(module, info, 4)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert [part.training for part in module.modules()] == modes
    assert set(found) == {"parameters", "weights_bytes", "flops", "latency", "latency_batch"}
    assert found["parameters"] == parameters_of(module)
    assert found["latency"] > 0


def test_latency_is_the_median_of_a_forward() -> None:
    class Slow(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            # One in three is late, which a median does not notice and a mean would.
            time.sleep(0.06 if self.calls % 3 == 0 else 0.01)
            return x

    module = Slow()
    assert 0.01 <= latency(module, torch.zeros(1), seconds=0.0, least=7) < 0.03
    assert module.calls == 9

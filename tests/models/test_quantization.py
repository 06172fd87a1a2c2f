"""Quantisers: the card's numbers, straight-through gradients, and packing that loses nothing."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from tutelage.measure.curvature import largest_curvature
from tutelage.models.adapters.base import merge
from tutelage.models.quantization import Rounding, WeightQuantizer, pack, packed_bytes, round_activations, unpack

WEIGHT = torch.tensor([[0.9, -0.2, 0.05, -0.8], [0.3, 0.1, -0.1, 0.5]])


def test_the_worked_example_of_ternary_weights() -> None:
    whole = WeightQuantizer(2)
    assert torch.allclose(whole(WEIGHT), torch.tensor([[0.625, 0, 0, -0.625], [0.625, 0, 0, 0.625]]))
    rows = WeightQuantizer(2, groups=None)
    assert rows.codes(WEIGHT)[1].flatten().tolist() == pytest.approx([0.85, 0.40])
    assert torch.allclose(rows(WEIGHT), torch.tensor([[0.85, 0, 0, -0.85], [0.4, 0, 0, 0.4]]))


def test_parts_of_a_matrix_have_scales_of_their_own() -> None:
    both = torch.cat([WEIGHT, 3 * WEIGHT])
    found = WeightQuantizer(2, clip=9.0, groups=2)(both)
    alone = WeightQuantizer(2, clip=9.0)
    assert torch.allclose(found, torch.cat([alone(WEIGHT), alone(3 * WEIGHT)]))


def test_four_bits_are_a_grid_up_to_the_mean_of_what_is_large() -> None:
    found = WeightQuantizer(4)(WEIGHT)
    top = (0.9 + 0.8 + 0.5) / 3
    assert found.abs().max().item() == pytest.approx(top)
    assert torch.allclose(found, (WEIGHT.clamp(-top, top) * 7 / top).round() * top / 7)


def test_the_worked_example_of_activations() -> None:
    x = torch.tensor([1.0, -0.5, 0.26, 3.0], requires_grad=True)
    found = round_activations(x)
    assert found.tolist() == pytest.approx([1.003937, -0.492126, 0.255906, 2.5], abs=1e-6)
    found.sum().backward()
    assert x.grad.tolist() == [1, 1, 1, 0]
    edge = torch.tensor([2.5, -2.5, 1.0], requires_grad=True)
    round_activations(edge).sum().backward()
    assert edge.grad.tolist() == [0, 0, 1]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_latent_weights_get_the_gradient_of_the_quantised_ones(bits: int) -> None:
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(WEIGHT)
        layer.weight[0, 0] = 2.6
    parametrize.register_parametrization(layer, "weight", WeightQuantizer(bits))
    inputs = torch.randn(5, 4)
    layer(inputs).sum().backward()
    gradient = layer.parametrizations.weight.original.grad
    expected = inputs.sum(0).expand(2, 4).clone()
    expected[0, 0] = 0
    assert torch.allclose(gradient, expected)
    codes = layer.parametrizations.weight[0].codes(layer.parametrizations.weight.original)[0]
    assert torch.equal(codes, codes.round())
    assert codes.abs().max() <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packing_loses_nothing(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    codes = torch.randint(-top, top + 1, (37,), generator=torch.Generator().manual_seed(0))
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == math.ceil(37 * bits / 8)
    assert torch.equal(unpack(packed, bits, 37), codes)


def test_packed_sizes_count_scales_and_what_stays() -> None:
    layer = nn.Linear(16, 8)
    assert packed_bytes(layer) == 4 * (16 * 8 + 8)
    parametrize.register_parametrization(layer, "weight", WeightQuantizer(2))
    assert packed_bytes(layer) == 16 * 8 // 4 + 4 + 4 * 8
    expected = layer.weight.detach().clone()
    merged = merge(copy.deepcopy(layer))
    assert torch.equal(merged.weight, expected)
    assert torch.equal(layer.weight, expected)
    assert merged.weight.unique().numel() == 3


def test_hooks_are_copied_and_pickled_with_their_module() -> None:
    layer = nn.Linear(2, 2)
    Rounding(8, 2.5).place(layer)
    Rounding(8, 2.5, output=True).place(layer)
    inputs = torch.tensor([[5.0, 0.3]])
    expected = round_activations(nn.functional.linear(round_activations(inputs), layer.weight, layer.bias))
    assert torch.equal(layer(inputs), expected)
    assert torch.equal(copy.deepcopy(layer)(inputs), expected)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(inputs), expected)  # noqa: S301


def test_curvature_is_the_largest_eigenvalue() -> None:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    matrix = half @ half.T
    x = torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_()
    found = largest_curvature(0.5 * x @ matrix @ x, [x], rounds=200)
    assert found == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-6)
    with pytest.raises(ValueError, match="rounds"):
        largest_curvature((x**2).sum(), [x], rounds=0)

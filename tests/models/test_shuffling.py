"""Shuffled copies: the same numbers in other places, earlier layers untouched, the network itself as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data.batch import DataInfo
from tutelage.models.convnet import ConvNet
from tutelage.models.shuffling import Shuffles
from tutelage.recipe.errors import InputError

INFO = DataInfo((1, 8, 8), 4, tuple("abcd"), "")


def test_only_the_last_layers_are_permuted_along_their_inputs() -> None:
    network = ConvNet(INFO, width=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(0)
    shuffles = Shuffles(network, copies=2, layers=3)
    convolutions = [f"{p}.weight" for p, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    assert shuffles.layers == convolutions[-3:]
    for copy in range(2):
        made = shuffles.weights(network, copy)
        assert set(made) == set(convolutions[-3:])
        for name, weight in made.items():
            assert torch.equal(weight.sort(1).values, before[name].sort(1).values)
            assert not torch.equal(weight, before[name])
    assert any(
        not torch.equal(shuffles.weights(network, 0)[n], shuffles.weights(network, 1)[n]) for n in convolutions[-3:]
    )
    shuffles(network.train(), torch.rand(2, 1, 8, 8))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_layers_may_be_counted_from_the_input() -> None:
    network = ConvNet(INFO, width=2)
    assert Shuffles(network, layers=-2).layers == ["blocks.0.0.weight", "blocks.0.3.weight"]
    assert len(Shuffles(network, layers=99).layers) == 6


def test_no_layer_is_the_network_itself() -> None:
    network, images = ConvNet(INFO, width=2).eval(), torch.rand(3, 1, 8, 8)
    assert torch.allclose(Shuffles(network, layers=0)(network, images), network(images), atol=1e-6)


def test_copies_are_averaged_and_drawn_anew() -> None:
    network, images = ConvNet(INFO, width=4).eval(), torch.rand(3, 1, 8, 8)
    shuffles = Shuffles(network, copies=2)
    from torch.func import functional_call

    mean = sum(functional_call(network, shuffles.weights(network, copy), (images,)) for copy in range(2)) / 2
    first = shuffles(network, images)
    assert torch.allclose(first, mean)
    kept = Shuffles(network, copies=2)
    kept.load_state_dict(shuffles.state_dict())
    shuffles.draw()
    assert not torch.equal(shuffles(network, images), first)
    assert torch.equal(kept(network, images), first)


def test_a_network_without_convolutions_is_refused() -> None:
    with pytest.raises(InputError, match="no convolution"):
        Shuffles(nn.Linear(3, 2))
